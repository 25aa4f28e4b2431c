"""Whether a local disk has room for what is about to be written: a full disk is found before hours of work, and named."""

import shutil
from pathlib import Path


def free_bytes(folder: Path) -> int:
    """Return the free bytes of the disk of ``folder``, which need not exist yet."""
    return shutil.disk_usage(next(path for path in (folder, *folder.absolute().parents) if path.exists())).free


def no_room(folder: Path, *, what: str, size_bytes: int, free: int) -> str:
    """Return the words for a disk that is too full."""
    return (
        f"{what} needs {size_bytes:,} bytes, and the disk of {folder} is full: {free:,} bytes are free; free space there, or set "
        "TMPDIR to a larger disk"
    )
