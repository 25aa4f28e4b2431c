"""Loading: weights are those of the checkpoint or there is an error; any architecture gives transformers' own vectors."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from clinical_modernbert.encoder import Encoder, load_export, load_model
from clinical_modernbert.errors import ModelError
from clinical_modernbert.recipe.vocabulary import Pooling
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    PreTrainedTokenizerFast,
)

from tests.helpers.tiny import save_tiny_classifier, save_tiny_model

KINDS = {
    "embedding": AutoModel,
    "masked-lm": AutoModelForMaskedLM,
    "sequence": AutoModelForSequenceClassification,
    "token": AutoModelForTokenClassification,
}
TEXTS = ["warfarin 3 mg", "x", "The patient took heparin 2 mg daily in the ward.", "took insulin 1 mg. " * 3]


@pytest.fixture
def tokenizer(encoder_folders: dict[str, Path]) -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(encoder_folders["bert"])


def save(folder: Path, tokenizer: PreTrainedTokenizerFast, architecture: str, kind: str) -> Path:
    """Save a two-layer model of ``architecture`` that reads 64 tokens and counts three labels where it has a head."""
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    if architecture == "longformer":
        pad = tokenizer.pad_token_id
        shape |= {"attention_window": [8, 8], "max_position_embeddings": 64 + pad + 1}
    else:
        shape |= {"max_position_embeddings": 64}
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        architecture, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, num_labels=3, **shape
    )
    model = KINDS[kind].from_config(config)
    for parameter in model.parameters():
        if parameter.dim() == 2:
            parameter.data *= 3  # so that attention, and a wrong mask, shows
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("kind", ["embedding", "sequence", "token"])
@pytest.mark.parametrize("architecture", ["modernbert", "bert", "distilbert", "longformer"])
def test_vectors_are_those_of_transformers_for_each_text_alone(
    architecture: str, kind: str, pooling: Pooling, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    encoder = load_export(save(tmp_path, tokenizer, architecture, kind))
    assert (encoder.head, encoder.max_tokens) == (kind, 64)
    ids = [*encoder.tokenize(TEXTS), [encoder.tokenizer.cls_token_id] * 64]
    found = encoder.embed(ids, pooling=pooling, normalize=False)
    reference = KINDS[kind].from_pretrained(tmp_path).eval().base_model
    with torch.no_grad():
        for vector, one in zip(found, ids, strict=True):
            states_TD = reference(input_ids=torch.tensor([one])).last_hidden_state[0]
            expected = states_TD[0] if pooling == "cls" else states_TD.mean(0)
            np.testing.assert_allclose(vector, expected.numpy(), atol=1e-5)
    with pytest.raises(ModelError, match="1 to 64 tokens"):
        encoder.embed([[1] * 65], pooling=pooling, normalize=False)


@pytest.mark.parametrize("kind", ["embedding", "token"])
@pytest.mark.parametrize("architecture", ["modernbert", "bert"])
def test_a_missing_a_left_over_and_a_pickled_weight_are_refused(
    architecture: str, kind: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    path = save(tmp_path, tokenizer, architecture, kind) / "model.safetensors"
    weights = load_file(path)
    name = next(name for name in weights if "layers.1." in name or "layer.1." in name)
    for expected, changed in (
        ("1 keys missing", {key: weight for key, weight in weights.items() if key != name}),
        ("1 unexpected", {**weights, name.replace("1.", "9."): weights[name].clone()}),
    ):
        save_file(changed, path, metadata={"format": "pt"})
        with pytest.raises(ModelError, match=expected):
            load_export(tmp_path)
    torch.save(weights, tmp_path / "pytorch_model.bin")
    path.unlink()
    with pytest.raises(ModelError, match="cannot load a"):
        load_export(tmp_path)


def test_what_is_not_served_is_refused_by_its_name(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"is a BertForMaskedLM; supported .* ModernBertForMaskedLM and, of any encoder"
    ):
        load_export(save(tmp_path / "bert", tokenizer, "bert", "masked-lm"))
    assert load_export(save(tmp_path / "own", tokenizer, "modernbert", "masked-lm")).head == "masked-lm"
    with pytest.raises(ModelError, match="has no readable config"):
        load_export(tmp_path)


def test_a_tokenizer_without_cls_and_sep_is_refused(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    save(tmp_path, tokenizer, "bert", "embedding")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="needs a fast tokenizer"):
        load_export(tmp_path)


@pytest.mark.parametrize(("head", "architecture"), [("sequence", "Sequence"), ("token", "Token")])
def test_a_head_whose_weights_are_missing_is_refused(tmp_path: Path, head: str, architecture: str) -> None:
    save_tiny_classifier(tmp_path, head=head, labels=("O", "B-DRUG", "I-DRUG"))
    encoder: Encoder = load_export(tmp_path)
    assert encoder.head == head
    assert type(encoder.model).__name__ == f"ModernBertFor{architecture}Classification"
    config = (tmp_path / "config.json").read_text()
    save_tiny_model(tmp_path)
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(ModelError, match=r"2 keys missing \['classifier"):
        load_export(tmp_path)


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
