"""Building and loading: weights are those of the checkpoint or there is an error; exports are plain Hugging Face folders."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from clinical_modernbert.encoder import Encoder, SegmentLayout, load_model, num_parameters
from clinical_modernbert.encoder.packed import PackedBatch, masked_logits
from clinical_modernbert.errors import ModelError
from safetensors.torch import load_file, save_file
from transformers import AutoModelForMaskedLM, AutoTokenizer, BertConfig, BertForMaskedLM, ModernBertForMaskedLM


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
    ids_T = inputs["input_ids"][0]
    batch = PackedBatch(
        input_ids_T=ids_T,
        layout=SegmentLayout.build([len(ids_T)]),
        masked_N=torch.arange(len(ids_T)),
        labels_N=ids_T,
    )
    torch.testing.assert_close(masked_logits(load_model(export), batch), theirs(**inputs).logits[0], atol=1e-5, rtol=0)


def test_a_missing_a_left_over_and_a_misshapen_weight_are_refused(export: Path, tmp_path: Path) -> None:
    weights = load_file(export / "model.safetensors")
    name = "model.layers.1.mlp.Wi.weight"
    cases = {
        "1 keys missing": {k: v for k, v in weights.items() if k != name},
        "1 unexpected": {**weights, "model.layers.9.mlp.Wi.weight": weights[name].clone()},
        "another shape": {**weights, name: weights[name][:10].clone()},
    }
    for number, (expected, changed) in enumerate(cases.items()):
        folder = shutil.copytree(export, tmp_path / str(number))
        save_file(changed, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ModelError, match=expected):
            load_model(folder)


def test_bert_weights_are_refused_under_their_own_config_and_under_modernbert_s(export: Path, tmp_path: Path) -> None:
    config = BertConfig(
        vocab_size=512, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96
    )
    BertForMaskedLM(config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="is a bert, not a modernbert"):
        load_model(tmp_path)
    shutil.copy(export / "config.json", tmp_path / "config.json")
    with pytest.raises(ModelError, match="keys missing"):
        load_model(tmp_path)


def test_a_folder_with_pickled_weights_only_is_refused(export: Path, tmp_path: Path) -> None:
    weights = load_file(export / "model.safetensors")
    torch.save(weights, tmp_path / "pytorch_model.bin")
    shutil.copy(export / "config.json", tmp_path / "config.json")
    with pytest.raises(ModelError, match="cannot load a ModernBertForMaskedLM"):
        load_model(tmp_path)


def test_a_torn_weight_file_is_refused(export: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(export, tmp_path / "torn")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match="cannot load a ModernBertForMaskedLM"):
        load_model(folder)


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="absent"):
        load_model(tmp_path / "absent")


def test_weights_are_loaded_in_float32_whatever_they_were_saved_in(export: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(export, tmp_path / "half")
    halved = {name: weight.bfloat16() for name, weight in load_file(export / "model.safetensors").items()}
    save_file(halved, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "dtype": "bfloat16"}))
    assert {parameter.dtype for parameter in load_model(folder).parameters()} == {torch.float32}


def test_a_loaded_encoder_is_in_evaluation_mode(encoder: Encoder) -> None:
    assert not any(module.training for module in encoder.model.modules())
