"""Composer's checkpoints: every weight finds its place, nothing is left out, nothing in the file runs."""

import copy
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from clinical_modernbert.encoder import SegmentLayout, encode_packed, load_encoder, load_model
from clinical_modernbert.encoder.composer import convert_checkpoint, convert_state_dict, hugging_face_name
from clinical_modernbert.errors import ModelError
from transformers import ModernBertForMaskedLM


def composer_names(model: ModernBertForMaskedLM) -> dict[str, torch.Tensor]:
    """The same weights as the training code names them, written out by hand."""
    weights = {}
    for name, tensor in model.state_dict().items():
        if name.startswith(("model.embeddings", "model.final_norm")):
            weights[name.replace("model.", "model.bert.", 1)] = tensor
        elif name.startswith("model.layers."):
            weights[name.replace("model.layers.", "model.bert.encoder.layers.", 1)] = tensor
        else:
            weights[f"model.{name}"] = tensor
    return weights


@pytest.fixture
def model(make_model: Callable[..., ModernBertForMaskedLM]) -> ModernBertForMaskedLM:
    return make_model(seed=9)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("model.bert.embeddings.tok_embeddings.weight", "model.embeddings.tok_embeddings.weight"),
        ("model.bert.encoder.layers.21.attn_norm.weight", "model.layers.21.attn_norm.weight"),
        ("model.bert.encoder.layers.0.attn.Wqkv.weight", "model.layers.0.attn.Wqkv.weight"),
        ("state.model.bert.encoder.layers.3.mlp.Wi.weight", "model.layers.3.mlp.Wi.weight"),
        ("bert.final_norm.weight", "model.final_norm.weight"),
        ("model.head.dense.weight", "head.dense.weight"),
        ("model.decoder.bias", "decoder.bias"),
    ],
)
def test_names(theirs: str, ours: str) -> None:
    assert hugging_face_name(theirs) == ours


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_checkpoint_becomes_the_same_model(model: ModernBertForMaskedLM, tmp_path: Path, wrapped: bool) -> None:
    weights = composer_names(model)
    torch.save({"state": {"model": weights, "timestamp": {"batch": 4}}} if wrapped else weights, tmp_path / "ba4.pt")
    config = copy.deepcopy(model.config)
    found = convert_checkpoint(tmp_path / "ba4.pt", config=config).eval()
    ids_T, layout = torch.arange(5, 45), SegmentLayout.build([30, 10])
    with torch.no_grad():
        ours, theirs = (m.head(encode_packed(m.model, ids_T, layout)) for m in (found, model))
        assert torch.equal(found.decoder(ours), model.decoder(theirs))


def test_the_job_writes_a_folder_that_a_recipe_can_start_from(
    export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = load_model(export)
    torch.save({"state": {"model": composer_names(model)}}, tmp_path / "ba4.pt")
    command = ["jobs/convert.py", str(tmp_path / "ba4.pt"), str(export), str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", command)
    job = Path(__file__).parents[3] / "jobs" / "convert.py"
    runpy.run_path(str(job), run_name="__main__")
    assert capsys.readouterr().out == f"{tmp_path / 'out'}\n"
    converted = load_encoder(tmp_path / "out")
    assert converted.tokenizer.get_vocab() == load_encoder(export).tokenizer.get_vocab()
    for name, tensor in model.state_dict().items():
        assert torch.equal(converted.model.state_dict()[name], tensor), name
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(job), run_name="__main__")
    assert stopped.value.code == 2
    assert "out exists: name a new folder" in capsys.readouterr().err


def test_a_missing_an_unknown_and_a_reshaped_weight_are_errors(model: ModernBertForMaskedLM, tmp_path: Path) -> None:
    weights, path = composer_names(model), tmp_path / "x.pt"
    torch.save({k: v for k, v in weights.items() if "layers.2.mlp.Wi" not in k}, path)
    with pytest.raises(ModelError, match=r"1 weights missing \['model.layers.2.mlp.Wi.weight'\]"):
        convert_checkpoint(path, config=copy.deepcopy(model.config))
    with pytest.raises(ModelError, match="is not a weight of a ModernBERT"):
        convert_state_dict({**weights, "model.bert.pooler.dense.weight": torch.zeros(1)})
    torch.save({**weights, "model.decoder.bias": torch.zeros(3)}, path)
    with pytest.raises(ModelError, match="1 of another shape"):
        convert_checkpoint(path, config=copy.deepcopy(model.config))
    with pytest.raises(ModelError, match="tied"):
        convert_state_dict({**weights, "model.decoder.weight": weights["model.decoder.weight"] + 1})


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("touched-by-a-pickle"),))


def test_code_in_a_file_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state": {"model": Evil()}}, tmp_path / "evil.pt")
    with pytest.raises(ModelError, match="more than tensors"):
        convert_checkpoint(tmp_path / "evil.pt", config=None)  # type: ignore[arg-type]
    assert not (tmp_path / "touched-by-a-pickle").exists()
