"""A disk of a few kilobytes (tmpfs) that can grow; it needs the right to mount."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LARGE = "512m"


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Mount a disk of ``size`` at ``folder`` for the length of the block; raises ``PermissionError`` without the right to."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise PermissionError(done.stderr.strip())
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def grow(folder: Path) -> None:
    """Give the disk at ``folder`` more room than any drill needs."""
    subprocess.run(["mount", "-o", f"remount,size={_LARGE}", str(folder)], check=True)
