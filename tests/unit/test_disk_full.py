"""A full disk is an error for users whichever library meets it: the device ``/dev/full`` refuses every byte."""

import errno
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml
from clinical_modernbert.artifacts import Artifact, Plan
from clinical_modernbert.errors import disk_full
from clinical_modernbert.job import main
from clinical_modernbert.recipe import CorpusRecipe

# As Rust's libraries (tokenizers, safetensors) and Ray's wrappers say it.
TEXTS = (
    "Error while serializing: I/O error: No space left on device (os error 28)",
    "Traceback (most recent call last):\nOSError: [Errno 28] No space left on device",
)


# Open files, not paths: a library that fails may delete the path or rename another file over it.
def write_numpy() -> None:
    with Path("/dev/full").open("wb") as file:
        np.save(file, np.zeros(100_000))


def write_arrow() -> None:
    with Path("/dev/full").open("wb") as file, pa.output_stream(file) as stream:
        stream.write(bytes(1 << 20))


@pytest.mark.parametrize("write", [write_numpy, write_arrow])
def test_every_library_that_writes_is_understood(write: Callable[[], None]) -> None:
    with pytest.raises(OSError) as caught:
        write()
    assert disk_full(caught.value) is not None, repr(caught.value)


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_understood(text: str) -> None:
    assert disk_full(RuntimeError(text)) is not None


def test_the_cause_is_understood_and_another_one_is_not() -> None:
    error = RuntimeError("a task failed")
    error.__cause__ = OSError(errno.ENOSPC, "")
    assert disk_full(error) is not None
    assert disk_full(ValueError("a note that says 28")) is None


def test_a_job_says_it_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(plan: Plan) -> Artifact:
        write_numpy()
        raise AssertionError

    source = {"type": "synthetic_notes", "name": "notes", "num_documents": 10}
    (recipe := tmp_path / "c.yaml").write_text(yaml.safe_dump({"kind": "corpus", "name": "c", "sources": [source]}))
    with pytest.raises(SystemExit) as ended:
        main(CorpusRecipe, run, arguments=[str(recipe), "--root", f"file://{tmp_path}/store"])
    assert ended.value.code == 1
    assert "error: the disk for this job's scratch files is full" in capsys.readouterr().err
