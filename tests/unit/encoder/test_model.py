"""Building: the recipe decides the shape, the seed the weights; exports are plain Hugging Face folders."""

from collections.abc import Callable
from pathlib import Path

import torch
from clinical_modernbert.encoder import load_model, num_parameters
from clinical_modernbert.encoder.forward import states, word_logits
from transformers import AutoModelForMaskedLM, AutoTokenizer, ModernBertForMaskedLM


def test_the_seed_decides_the_weights_and_the_global_generator_is_left_alone(
    make_model: Callable[..., ModernBertForMaskedLM],
) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    one, same, other = make_model(seed=1), make_model(seed=1), make_model(seed=2)
    torch.testing.assert_close(torch.rand(3), expected)
    weights = [model.model.layers[0].attn.Wqkv.weight for model in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_global_and_local_layers_and_their_rope_are_as_the_recipe_says(
    make_model: Callable[..., ModernBertForMaskedLM],
) -> None:
    config = make_model(num_layers=5, global_every_layers=2).config
    assert config.layer_types == ["full_attention", "sliding_attention"] * 2 + ["full_attention"]
    assert config.sliding_window == 64
    assert config.rope_parameters["full_attention"]["rope_theta"] == 160_000.0
    assert config.rope_parameters["sliding_attention"]["rope_theta"] == 10_000.0


def test_shared_parameters_count_once(make_model: Callable[..., ModernBertForMaskedLM]) -> None:
    model = make_model(num_layers=1)
    # Embeddings and norm; attention without its norm in layer 0; GeGLU and norm; final norm; head; decoder's bias.
    expected = 512 * 64 + 64 + 4 * 64 * 64 + (64 * 192 + 96 * 64 + 64) + 64 + (64 * 64 + 64) + 512
    assert num_parameters(model) == expected


@torch.no_grad()
def test_an_export_gives_equal_logits_through_the_auto_classes_with_their_default_attention(export: Path) -> None:
    theirs = AutoModelForMaskedLM.from_pretrained(export)
    tokenizer = AutoTokenizer.from_pretrained(export)
    assert theirs.config._attn_implementation != "packed_sdpa"
    assert "packed_sdpa" not in (export / "config.json").read_text()
    inputs = tokenizer("no acute [MASK] today, warfarin 5 mg daily was held", return_tensors="pt")
    ours = load_model(export)
    found = word_logits(ours, states(ours, inputs["input_ids"].tolist()))
    torch.testing.assert_close(found, theirs(**inputs).logits[0], atol=1e-5, rtol=0)
