"""Exported files give the endpoint's numbers in runtimes without torch, whatever the batch, the length and the architecture."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clinical_modernbert.artifacts import Artifact, open_store, resolve
from clinical_modernbert.encoder import forward, load_export, portable
from clinical_modernbert.encoder.load import load_with_new_head
from clinical_modernbert.encoder.portable import export_model
from clinical_modernbert.errors import ModelError
from tokenizers import Tokenizer

from tests.helpers.served_models import publish_folder

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra export is not installed")
openvino = pytest.importorskip("openvino", reason="the extra export is not installed")
TEXTS = ["The patient took warfarin 5 mg daily.", "heparin", "The patient took insulin in the ward. " * 4, "x"]


def published(folder: Path, root: Path, *, head: Any = None, labels: tuple[str, ...] = ()) -> Artifact:
    """Publish an encoder, with a new head where one is named."""
    copy = root / "copy" / "model"
    shutil.copytree(folder, copy)
    if head:
        load_with_new_head(folder, head, labels=labels).save_pretrained(copy)
    publish_folder(root / "store", copy.parent)
    return resolve(open_store(str(root / "store")), "model", "tiny")


def run_files(folder: Path, ids: list[list[int]]) -> tuple[list[list[Any]], np.ndarray]:
    """Return the outputs of every file for one padded batch, and its mask."""
    width = max(map(len, ids))
    ids_BL, mask_BL = (np.zeros((len(ids), width), dtype=np.int64) for _ in range(2))
    for row, text in enumerate(ids):
        ids_BL[row, : len(text)], mask_BL[row, : len(text)] = text, 1
    inputs = {"input_ids": ids_BL, "attention_mask": mask_BL}
    session = onnxruntime.InferenceSession(str(folder / "onnx/model.onnx"), providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map["model"] == "tiny-0123456789ab"
    compiled = openvino.Core().compile_model(
        str(folder / "openvino/openvino_model.xml"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    found = compiled(inputs)
    return [session.run(None, inputs), [found[i] for i in range(len(compiled.outputs))]], mask_BL.astype(bool)


@pytest.mark.parametrize(("architecture", "pooling"), [("modernbert", "cls"), ("bert", "mean")])
def test_vectors_and_states_are_those_of_the_endpoint(
    encoder_folders: dict[str, Path], tmp_path: Path, architecture: str, pooling: Any
) -> None:
    model = published(encoder_folders[architecture], tmp_path)
    files = export_model(model, tmp_path / "out", formats=["onnx", "openvino"], pooling=pooling)
    assert [file.largest_difference < 1e-5 for file in files] == [True, True]
    facts = json.loads((tmp_path / "out/export.json").read_text())
    assert facts["model"] == "tiny-0123456789ab" and facts["pooling"] == pooling and facts["max_tokens"] == 64
    assert not list((tmp_path / "out").glob("*.safetensors")) and (tmp_path / "out/config.json").is_file()

    ours = load_export(model.folder("model"), pooling=pooling)
    tokenizer = Tokenizer.from_file(str(tmp_path / "out/tokenizer.json"))  # as a client without this package reads it
    ids = [encoding.ids for encoding in tokenizer.encode_batch(TEXTS)]
    assert ids == ours.tokenize(TEXTS)
    for batch in (ids, ids[:1], [ids[2][:64]], [[ids[0][0]]]):
        outputs, mask_BL = run_files(tmp_path / "out", batch)
        for states_BLD, vectors_BD in outputs:
            np.testing.assert_allclose(vectors_BD, ours.embed(batch, pooling=pooling, normalize=True), atol=1e-5)
            with torch.inference_mode():
                np.testing.assert_allclose(states_BLD[mask_BL], forward.states(ours.model, batch), atol=2e-5)


@pytest.mark.parametrize(
    ("architecture", "head"), [("modernbert", "sequence"), ("bert", "token"), ("modernbert", None)]
)
def test_logits_are_those_of_the_head(
    encoder_folders: dict[str, Path], tmp_path: Path, architecture: str, head: Any
) -> None:
    model = published(encoder_folders[architecture], tmp_path, head=head, labels=("a", "b", "c") if head else ())
    output: Any = None if head else "logits"
    with pytest.raises(ModelError, match="pooling=mean: logits are not pooled; leave it out"):
        export_model(model, tmp_path / "out", formats=["onnx"], output=output, pooling="mean")
    export_model(model, tmp_path / "out", formats=["onnx", "openvino"], output=output)
    ours = load_export(model.folder("model"))
    ids = ours.tokenize(TEXTS)
    outputs, mask_BL = run_files(tmp_path / "out", ids)
    with torch.inference_mode():
        states = forward.states(ours.model, ids)
        expected = forward.logits(ours.model, ids) if head else forward.word_logits(ours.model, states)
    for (logits,) in outputs:
        np.testing.assert_allclose(logits if head == "sequence" else logits[mask_BL], expected, atol=2e-5)


def test_what_differs_from_torch_or_exists_is_not_written(
    encoder_folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = published(encoder_folders["bert"], tmp_path)
    with pytest.raises(ModelError, match="output=logits: tiny-0123456789ab has no head"):
        export_model(model, tmp_path / "out", formats=["onnx"], output="logits")
    (tmp_path / "there").mkdir()
    with pytest.raises(ModelError, match="there exists: name a new folder"):
        export_model(model, tmp_path / "there", formats=["onnx"])
    right = portable.forward.vectors
    monkeypatch.setattr(portable.forward, "vectors", lambda *given, **named: right(*given, **named) + 0.01)
    with pytest.raises(ModelError, match=r"onnx/model.onnx: onnxruntime \S+ gives numbers that differ from torch's by"):
        export_model(model, tmp_path / "out", formats=["onnx"])

    def nan_in_a_later_batch(*given: Any, **named: Any) -> torch.Tensor:
        return right(*given, **named) * (float("nan") if len(given[1]) > 1 else 1.0)

    monkeypatch.setattr(portable.forward, "vectors", nan_in_a_later_batch)
    with pytest.raises(ModelError, match="differ from torch's by nan"):
        export_model(model, tmp_path / "out", formats=["onnx"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "store", "there"]
