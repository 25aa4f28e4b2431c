"""A small disk (tmpfs) that can shrink and grow; it needs the right to mount."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LARGE, _PAGE_BYTES = "512m", 4096


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a disk at ``folder`` for the length of the block, large at first; raises ``PermissionError`` without the right to."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={_LARGE}", "tmpfs", str(folder)],
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


def leave_free(folder: Path, size_bytes: int) -> None:
    """Shrink the disk at ``folder``, so that ``size_bytes`` of it are free, to whole pages."""
    _resize(folder, str(max(shutil.disk_usage(folder).used + size_bytes, _PAGE_BYTES)))  # 0 would be no limit


def grow(folder: Path) -> None:
    """Give the disk at ``folder`` more room than any drill needs."""
    _resize(folder, _LARGE)


def _resize(folder: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)
