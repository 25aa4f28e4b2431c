"""Folders on the local disk for the state of a checkpoint, which has gigabytes: one that a killed process left is swept.

The lock of its file tells a folder in use from one that was left. A process id would not: containers that share a disk have their
own ids.
"""

import fcntl
import logging
import shutil
import tempfile
from pathlib import Path

PREFIX = "clinical-modernbert-checkpoint-"
_LOCK = "lock"

_logger = logging.getLogger(__name__)


class ScratchFolder:
    """A temporary folder, ``path``, until ``cleanup`` or the end of the process."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix=PREFIX)
        unlocked = Path(self._folder.name) / f"{_LOCK}.new"
        self._file = unlocked.open("w")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        unlocked.rename(Path(self._folder.name) / _LOCK)  # a sweep never sees it without its lock
        self.path = Path(self._folder.name) / "files"
        self.path.mkdir()

    def cleanup(self) -> None:
        """Delete the folder."""
        self._file.close()
        self._folder.cleanup()


def sweep_scratch() -> None:
    """Delete the folders that killed processes left on this disk."""
    for lock in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{_LOCK}"):
        try:
            with lock.open("r+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(lock.parent, ignore_errors=True)
        except OSError:  # in use, of another user, or swept by another worker just now
            continue
        _logger.info("deleted %s, which a killed process left", lock.parent)
