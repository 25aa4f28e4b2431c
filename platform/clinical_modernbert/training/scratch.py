"""Folders on the local disk for the state of a checkpoint, which has gigabytes: one that a killed process left is swept.

The lock of its file tells a folder in use from one that was left. A process id would not: containers that share a disk have their
own ids.
"""

import fcntl
import logging
import shutil
import socket
import tempfile
from pathlib import Path

from clinical_modernbert.disk_space import free_bytes, no_room
from clinical_modernbert.errors import DiskFullError
from clinical_modernbert.training.worker import Worker, gather_from_workers

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


def check_scratch(size_bytes: int, worker: Worker, *, what: str) -> None:
    """Raise ``DiskFullError`` on every worker unless the disks have room for what all workers write. Every worker calls it.

    Workers of one node share its disk, so their sizes add up.
    """
    folder = Path(tempfile.gettempdir())
    disk = (socket.gethostname(), folder.stat().st_dev)
    answers = gather_from_workers((disk, size_bytes, free_bytes(folder), folder), worker)
    for disk, _, free, path in answers:
        needed = sum(size for other, size, _, _ in answers if other == disk)
        if free < needed:
            raise DiskFullError(no_room(path, what=what, size_bytes=needed, free=free))


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
