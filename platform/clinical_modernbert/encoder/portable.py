"""Write a model as files that run without Python and without this package: ONNX, and OpenVINO's own format.

A file holds the whole computation from token ids to vectors or logits, over padded batches of any size and length. Its runtime
computes generated notes before the folder appears, and must give what the endpoint gives. The only module that imports onnx,
onnxruntime and openvino. Attention is dense here: time and memory grow with the square of a text's length in every layer.

Legend: B texts, L tokens of the longest, T tokens of all texts, D width, C classes, V words.
"""

import json
import logging
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clinical_modernbert.artifacts import Artifact, Store, resolve
from clinical_modernbert.encoder import forward
from clinical_modernbert.encoder.embed import Encoder
from clinical_modernbert.encoder.load import load_with_head, pooling_of
from clinical_modernbert.encoder.windows import cut
from clinical_modernbert.errors import ModelError
from clinical_modernbert.hashing import file_sha256
from clinical_modernbert.recipe.vocabulary import Pooling, PortableFormat, PortableOutput
from clinical_modernbert.sources.generated.notes import make_note
from clinical_modernbert.tokenizer import load_tokenizer

_PATHS: dict[PortableFormat, str] = {"onnx": "onnx/model.onnx", "openvino": "openvino/openvino_model.xml"}
_PACKAGES: dict[PortableFormat, tuple[str, ...]] = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "openvino"),
}
# The version of 2023, which onnxruntime 1.17 and every later one run.
_OPSET = 20
# One protobuf file has at most 2 GiB.
_MOST_BYTES = 1_900_000_000
# Lengths in tokens of the texts of each batch that is compared.
_CHECKED_LENGTHS = ((1,), (16, 64, 9), (512,))
_MOST_DIFFERENCE = 1e-4
"""Of a number of a vector of length 1, or of logits in units of the largest one."""
_WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "*.bin", "onnx", "openvino")

Ids = Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True)
class PortableFile:
    """One exported file, checked against torch."""

    path: str
    sha256: str
    runtime: str
    """Name and version of what ran it."""
    largest_difference: float
    """Between its numbers and torch's, as ``_MOST_DIFFERENCE`` counts."""

    def __str__(self) -> str:
        return f"{self.path}  {self.runtime} differs from torch by {self.largest_difference:.1e}"


def export_named(store: Store, reference: str, folder: Path, **choices: Any) -> list[PortableFile]:
    """Export the model of the store that ``reference`` names; see ``export_model``."""
    return export_model(resolve(store, "model", reference), folder, **choices)


def export_model(
    model: Artifact,
    folder: Path,
    *,
    formats: Sequence[PortableFormat],
    output: PortableOutput | None = None,
    pooling: Pooling | None = None,
) -> list[PortableFile]:
    """Write the model's files with its tokenizer and config to a new folder, which ``export.json`` describes.

    ``vectors`` has ``last_hidden_state`` [B, L, D] and ``sentence_embedding`` [B, D] of length 1; ``logits`` has those of a
    classification head or of the masked-language head. None is what the head is for. Raises ``ModelError``.
    """
    if folder.exists():
        raise ModelError(f"{folder} exists: name a new folder")
    _check_packages(formats)
    source, named, pooling = model.folder("model"), pooling, pooling_of(model, pooling)
    loaded, head = load_with_head(source)
    encoder = Encoder(model=loaded.eval(), tokenizer=load_tokenizer(source), head=head)
    output = output or ("logits" if head in ("sequence", "token") else "vectors")
    if output == "logits" and head == "embedding":
        raise ModelError(f"output=logits: {model.manifest.id} has no head; leave it out")
    if output == "logits" and named:
        raise ModelError(f"pooling={named}: logits are not pooled; leave it out, or ask for output=vectors")
    batches = _checked_batches(encoder)
    with torch.inference_mode():  # by the endpoint's way, before the model is changed to another
        expected = [_by_endpoint(encoder, ids, output=output, pooling=pooling) for ids in batches]
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(source, partial, ignore=shutil.ignore_patterns(*_WEIGHTS))
    try:
        onnx_path = partial / _PATHS["onnx"]
        _write_onnx(encoder, onnx_path, output=output, pooling=pooling, model_id=model.manifest.id)
        if "openvino" in formats:
            _write_openvino(onnx_path, partial / _PATHS["openvino"])
        files = [_checked(name, partial, batches, expected, encoder=encoder) for name in formats]
        if "onnx" not in formats:
            shutil.rmtree(onnx_path.parent)
        facts = {
            "model": model.manifest.id,
            "digest": model.manifest.digest,
            "output": output,
            "pooling": pooling if output == "vectors" else None,
            "max_tokens": encoder.max_tokens,
            "files": [asdict(file) for file in files],
        }
        (partial / "export.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return files


class _Vectors(torch.nn.Module):
    """States of all tokens, and one vector of length 1 for each text."""

    names = ("last_hidden_state", "sentence_embedding")

    def __init__(self, model: Any, pooling: Pooling) -> None:
        super().__init__()
        self.base, self.pooling = model.base_model, pooling

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        states_BLD = self.base(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        if self.pooling == "cls":
            pooled_BD = states_BLD[:, 0]
        else:
            mask_BL1 = attention_mask.unsqueeze(-1).to(states_BLD.dtype)
            pooled_BD = (states_BLD * mask_BL1).sum(1) / mask_BL1.sum(1)
        return states_BLD, torch.nn.functional.normalize(pooled_BD, dim=-1)


class _Logits(torch.nn.Module):
    """The output of the model's head: [B, C], [B, L, C] or [B, L, V]."""

    names = ("logits",)

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
        return logits


def _by_endpoint(encoder: Encoder, ids: Ids, *, output: PortableOutput, pooling: Pooling) -> NDArray[np.float32]:
    """Return what the endpoint computes: vectors [B, D], logits [B, C], or those of all tokens back to back [T, C] or [T, V]."""
    model = encoder.model
    if output == "vectors":
        return encoder.embed(ids, pooling=pooling, normalize=True)
    if encoder.head == "masked-lm":
        return np.asarray(forward.word_logits(model, forward.states(model, ids)))
    return np.asarray(forward.logits(model, ids))


def _write_onnx(encoder: Encoder, path: Path, *, output: PortableOutput, pooling: Pooling, model_id: str) -> None:
    model = encoder.model
    # Plain products and a softmax, which every runtime knows and fuses by itself. The weights are the same.
    model.set_attn_implementation("eager")
    wrapped = (_Vectors(model, pooling) if output == "vectors" else _Logits(model)).eval()
    ids_BL = torch.full((2, min(8, encoder.max_tokens)), int(encoder.tokenizer.sep_token_id))
    mask_BL = torch.ones_like(ids_BL)
    shape = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", max=encoder.max_tokens)}
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            wrapped,
            (ids_BL, mask_BL),
            dynamo=True,
            dynamic_shapes={"input_ids": shape, "attention_mask": shape},
            input_names=["input_ids", "attention_mask"],
            output_names=list(wrapped.names),
            opset_version=_OPSET,
            verbose=False,
        )
    assert program is not None
    program.model.metadata_props["model"] = model_id
    size = sum(parameter.numel() * parameter.element_size() for parameter in wrapped.parameters())
    path.parent.mkdir()
    program.save(str(path), external_data=size > _MOST_BYTES)

    import onnx

    onnx.checker.check_model(str(path), full_check=True)


def _write_openvino(onnx_path: Path, path: Path) -> None:
    import openvino

    path.parent.mkdir()
    openvino.save_model(openvino.Core().read_model(str(onnx_path)), str(path), compress_to_fp16=False)


Run = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float32]]
"""From ids and mask [B, L] to the last output of a file: the vectors, or the logits."""


def _open_onnx(path: Path) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(ids_BL: NDArray[np.int64], mask_BL: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.asarray(session.run(None, {"input_ids": ids_BL, "attention_mask": mask_BL})[-1])

    return run


def _open_openvino(path: Path) -> Run:
    import openvino

    # Its own default is bfloat16 where the CPU has it.
    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(ids_BL: NDArray[np.int64], mask_BL: NDArray[np.int64]) -> NDArray[np.float32]:
        found = compiled({"input_ids": ids_BL, "attention_mask": mask_BL})
        return np.asarray(found[len(compiled.outputs) - 1])

    return run


def _onnx_runtime() -> str:
    import onnxruntime

    return f"onnxruntime {onnxruntime.__version__}"


def _openvino_runtime() -> str:
    import openvino

    return f"openvino {openvino.__version__}"


_RUNTIMES: dict[PortableFormat, tuple[Callable[[Path], Run], Callable[[], str]]] = {
    "onnx": (_open_onnx, _onnx_runtime),
    "openvino": (_open_openvino, _openvino_runtime),
}


def _checked(
    name: PortableFormat,
    folder: Path,
    batches: Sequence[Ids],
    expected: Sequence[NDArray[np.float32]],
    *,
    encoder: Encoder,
) -> PortableFile:
    """Return the file if its own runtime gives what torch does; raises ``ModelError``."""
    path, (open_file, runtime) = folder / _PATHS[name], _RUNTIMES[name]
    difference = _compare(open_file(path), batches, expected, encoder=encoder)
    if not difference <= _MOST_DIFFERENCE:  # NaN too
        raise ModelError(
            f"{_PATHS[name]}: {runtime()} gives numbers that differ from torch's by {difference:.1e}, "
            f"and {_MOST_DIFFERENCE:.0e} is allowed; nothing was written"
        )
    return PortableFile(_PATHS[name], file_sha256(path), runtime(), difference)


def _compare(run: Run, batches: Sequence[Ids], expected: Sequence[NDArray[np.float32]], *, encoder: Encoder) -> float:
    """Return the largest difference from ``expected``, each in units of its largest number, but of 1 for vectors."""
    found = []
    for ids, theirs in zip(batches, expected, strict=True):
        width = max(len(text) for text in ids)
        ids_BL = np.full((len(ids), width), int(encoder.tokenizer.pad_token_id or 0), dtype=np.int64)
        mask_BL = np.zeros((len(ids), width), dtype=np.int64)
        for row, text in enumerate(ids):
            ids_BL[row, : len(text)], mask_BL[row, : len(text)] = text, 1
        ours = run(ids_BL, mask_BL)
        if ours.ndim > theirs.ndim:
            ours = ours[mask_BL.astype(bool)]
        found.append(float(np.abs(ours - theirs).max()) / max(1.0, float(np.abs(theirs).max())))
    return float(np.max(found))  # NaN if one is, where max may pass over it


def _checked_batches(encoder: Encoder) -> list[list[list[int]]]:
    """Return generated notes as token ids: a text of one token, a batch with padding, and a long text."""
    (ids,) = encoder.tokenize(["\n".join(make_note(0, number).text for number in range(20))])
    return [
        [cut(ids, min(length, encoder.max_tokens)) if length > 1 else ids[:1] for length in lengths]
        for lengths in _CHECKED_LENGTHS
    ]


def _check_packages(formats: Sequence[PortableFormat]) -> None:
    missing = sorted({package for name in formats for package in _PACKAGES[name] if find_spec(package) is None})
    if missing:
        raise ModelError(
            f"the formats {', '.join(formats)} need {', '.join(missing)}: install clinical-modernbert[export]"
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter, which warns about packages that no text model needs."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
