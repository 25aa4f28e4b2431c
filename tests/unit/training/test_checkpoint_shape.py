"""Which checkpoints a run can load, by the way their engine's state is split."""

from types import SimpleNamespace

import pytest
from clinical_modernbert.artifacts import Artifact
from clinical_modernbert.errors import ModelError
from clinical_modernbert.training.checkpoint_shape import FORMAT_VERSION, CheckpointShape


def shape(engine: str, *, num_workers: int = 3, precision: str = "float32") -> CheckpointShape:
    return CheckpointShape(
        engine=engine, zero_stage=1, num_workers=num_workers, precision=precision, model="64 wide", tokenizer="abc"
    )


def checkpoint(engine: str, *, num_workers: int, format_version: int = FORMAT_VERSION) -> Artifact:
    summary = {
        "engine": engine,
        "zero_stage": 1,
        "num_workers": num_workers,
        "precision": "float32",
        "model": "64 wide",
        "tokenizer": "abc",
    }
    manifest = SimpleNamespace(format_version=format_version)
    return SimpleNamespace(summary=summary, uri="file:///x", manifest=manifest)  # type: ignore[return-value]


def test_a_torch_checkpoint_fits_any_number_of_workers_and_deepspeed_s_its_own() -> None:
    shape("torch").check_loads(checkpoint("torch", num_workers=2))
    shape("deepspeed").check_loads(checkpoint("deepspeed", num_workers=3))
    with pytest.raises(ModelError, match="resume with the former"):
        shape("deepspeed").check_loads(checkpoint("deepspeed", num_workers=2))


def test_another_engine_precision_or_format_is_refused() -> None:
    with pytest.raises(ModelError, match="resume with the former"):
        shape("torch").check_loads(checkpoint("deepspeed", num_workers=3))
    with pytest.raises(ModelError, match="resume with the former"):
        shape("torch", precision="bfloat16").check_loads(checkpoint("torch", num_workers=3))
    with pytest.raises(ModelError, match="has format 1, this code reads 4"):
        shape("torch").check_loads(checkpoint("torch", num_workers=3, format_version=1))
