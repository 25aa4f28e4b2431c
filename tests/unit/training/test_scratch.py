"""What a killed worker leaves on the disk is swept, what another worker uses is not."""

import errno
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from clinical_modernbert.artifacts import Store, open_store
from clinical_modernbert.errors import DiskFullError
from clinical_modernbert.training import loop, scratch
from clinical_modernbert.training.engine import TorchEngine
from clinical_modernbert.training.launch import pretrain_in_process
from clinical_modernbert.training.scratch import PREFIX, ScratchFolder, check_scratch, sweep_scratch
from clinical_modernbert.training.worker import Worker

from tests.helpers.tiny import publish_tiny_corpus, tiny_pretrain_plan

_LEAVES = """
import os, signal, sys
from clinical_modernbert.training.scratch import ScratchFolder
folder = ScratchFolder()
(folder.path / "state.pt").write_bytes(b"x" * 1000)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_a_folder_that_the_next_sweeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    mine = ScratchFolder()
    (mine.path / "state.pt").write_bytes(b"mine")
    done = subprocess.run([sys.executable, "-c", _LEAVES], env={**os.environ, "TMPDIR": str(tmp_path)}, check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(list(tmp_path.glob(f"{PREFIX}*"))) == 2
    sweep_scratch()
    assert [path.parent for path in tmp_path.glob(f"{PREFIX}*/files")] == [mine.path.parent]
    assert (mine.path / "state.pt").read_bytes() == b"mine"
    mine.cleanup()
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_for_a_checkpoint_is_found_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []
    monkeypatch.setattr(loop, "train_step", lambda *a, step, **k: trained.append(step))
    monkeypatch.setattr(scratch, "free_bytes", lambda folder: 1_000_000)
    store = open_store(str(tmp_path))
    publish_tiny_corpus(store)
    with pytest.raises(
        DiskFullError, match=r"the state of a checkpoint needs 1,\d{3},\d{3} bytes, .* 1,000,000 bytes are free"
    ):
        pretrain_in_process(tiny_pretrain_plan(store))
    assert trained == []


def test_a_disk_that_is_nearly_full_later_is_found_before_the_state_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = iter([1 << 30, 1_000_000])
    monkeypatch.setattr(scratch, "free_bytes", lambda folder: next(free))
    store = open_store(str(tmp_path))
    publish_tiny_corpus(store)
    with pytest.raises(DiskFullError, match=r"the state after step 4 needs"):
        pretrain_in_process(tiny_pretrain_plan(store))


def test_workers_of_one_disk_need_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = [
        (("a", 1), 60, 100, "/tmp"),
        (("a", 1), 60, 100, "/tmp"),
        (("a", 2), 70, 90, "/tmp"),
        (("b", 1), 90, 90, "/tmp"),
    ]
    monkeypatch.setattr(scratch, "gather_from_workers", lambda value, worker: workers[:count])
    worker = Worker(rank=0, world_size=4, device=torch.device("cpu"))
    for count in (1, 4):
        if count == 1:
            check_scratch(60, worker, what="the state")
        else:
            with pytest.raises(
                DiskFullError, match="the state needs 120 bytes, and the disk of /tmp is full: 100 bytes"
            ):
                check_scratch(60, worker, what="the state")
    workers = workers[1:]
    check_scratch(70, worker, what="the state")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 7936 vs 7830"),  # torch.save's
    ],
)
def test_a_full_disk_is_named_with_its_folder_and_bytes(
    store: Store, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fills(self: TorchEngine, folder: Path) -> None:
        (folder / "state.pt").write_bytes(b"." * 7830)
        raise error

    monkeypatch.setattr(TorchEngine, "save", fills)
    disk = f"the disk of {tempfile.gettempdir()} is full"
    message = rf"after step 4: {disk}: 7,830 bytes .* to state.pt, [\d,]+ bytes are free; .* TMPDIR"
    with pytest.raises(DiskFullError, match=message):
        pretrain_in_process(tiny_pretrain_plan(store))
