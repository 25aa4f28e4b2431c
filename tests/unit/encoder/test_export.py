"""An export says RoPE and the kinds of layers under the names of transformers 4 and 5."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clinical_modernbert.encoder import Precision, build_model, load_export, save_model, set_global_rope_theta
from clinical_modernbert.recipe.corpus import TokenizerSection
from clinical_modernbert.recipe.pretrain import ModelSection
from clinical_modernbert.tokenizer import build_tokenizer, padded_vocabulary_size, special_ids
from transformers import AutoModelForMaskedLM, AutoTokenizer, ModernBertConfig

TOKENIZER = build_tokenizer(
    TokenizerSection(base="train", vocabulary_size=320, num_clinical_tokens=0), ["chest pain"], clinical_words=set()
)


def tiny(**shape: Any) -> Any:
    section = ModelSection(hidden_size=32, intermediate_size=32, num_heads=2, max_position_embeddings=64, **shape)
    ids = special_ids(TOKENIZER)
    return build_model(section, vocabulary_size=padded_vocabulary_size(TOKENIZER), special_ids=ids, seed=0)


def exported(model: Any, folder: Path, *, dtype: Precision = "float32") -> dict[str, Any]:
    save_model(model, TOKENIZER, folder, dtype=dtype)
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return config


@pytest.mark.parametrize(("num_layers", "every"), [(5, 2), (4, 1), (4, 3), (7, 3)])
def test_earlier_names_hold_what_the_model_has(tmp_path: Path, num_layers: int, every: int) -> None:
    model = tiny(num_layers=num_layers, global_every_layers=every, local_rope_theta=700)
    set_global_rope_theta(model, 80_000)  # as a phase does, after the config was made
    config = exported(model, tmp_path)
    assert config["global_rope_theta"] == 80_000 and config["local_rope_theta"] == 700
    assert config["global_attn_every_n_layers"] == every
    # transformers 5 reads the same model from the old names alone, which is how transformers 4 reads it.
    old = {name: value for name, value in config.items() if name not in ("rope_parameters", "layer_types")}
    read = ModernBertConfig(**old)
    assert read.layer_types == model.config.layer_types and read.rope_parameters == model.config.rope_parameters


def test_a_second_export_has_the_base_of_its_own_model(tmp_path: Path) -> None:
    exported(tiny(num_layers=2), tmp_path / "first")
    again = type(tiny(num_layers=2)).from_pretrained(tmp_path / "first")
    set_global_rope_theta(again, 500)
    assert exported(again, tmp_path / "second")["global_rope_theta"] == 500


def test_an_irregular_order_of_layers_has_no_earlier_name(tmp_path: Path) -> None:
    model = tiny(num_layers=3)
    model.config.layer_types = ["full_attention", "full_attention", "sliding_attention"]
    assert "global_attn_every_n_layers" not in exported(model, tmp_path)


def test_truncation_cuts_at_the_longest_text_of_the_model(tmp_path: Path) -> None:
    exported(tiny(num_layers=1), tmp_path)
    assert len(AutoTokenizer.from_pretrained(tmp_path)("pain " * 200, truncation=True)["input_ids"]) == 64


def test_an_export_in_bfloat16_has_half_the_size_and_loads_everywhere(tmp_path: Path) -> None:
    model = tiny(num_layers=2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    exported(model, tmp_path / "float32")
    config = exported(model, tmp_path / "bfloat16", dtype="bfloat16")
    sizes = {dtype: (tmp_path / dtype / "model.safetensors").stat().st_size for dtype in ("float32", "bfloat16")}
    assert sizes["bfloat16"] < 0.55 * sizes["float32"]  # a tied decoder is there once
    assert config["dtype"] == config["torch_dtype"] == "bfloat16" and config["architectures"] == [
        "ModernBertForMaskedLM"
    ]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())

    theirs = AutoModelForMaskedLM.from_pretrained(tmp_path / "bfloat16", dtype="auto")
    assert theirs.dtype == torch.bfloat16 and theirs.decoder.weight is theirs.get_input_embeddings().weight
    assert all(torch.equal(tensor, before[name].bfloat16()) for name, tensor in theirs.state_dict().items())
    ours = load_export(tmp_path / "bfloat16")
    vectors = ours.embed(ours.tokenize(["chest pain"]), pooling="mean", normalize=True)
    library = pytest.importorskip("sentence_transformers")
    their_vectors = library.SentenceTransformer(str(tmp_path / "bfloat16"), device="cpu").encode(
        ["chest pain"], normalize_embeddings=True
    )
    np.testing.assert_allclose(vectors, their_vectors, atol=2e-2)  # theirs multiplies in bfloat16
