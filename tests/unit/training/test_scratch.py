"""What a killed worker leaves on the disk is swept, what another worker uses is not."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from clinical_modernbert.training.scratch import PREFIX, ScratchFolder, sweep_scratch

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
