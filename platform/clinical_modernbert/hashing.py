"""Hashes of files, texts and arrays of 64-bit integers. They are the same on every machine, so they may be stored."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if (
    TYPE_CHECKING
):  # numpy is loaded by the callers that have arrays: file hashes are needed where nothing heavy may load
    import numpy as np
    from numpy.typing import NDArray

_GOLDEN = 0x9E3779B97F4A7C15


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def text_sha256(text: str) -> str:
    """Return the sha256 of a text's UTF-8 bytes."""
    return hashlib.sha256(text.encode()).hexdigest()


def splitmix64(value: "NDArray[np.uint64]") -> "NDArray[np.uint64]":
    """Return each number mixed by the finaliser of splitmix64 (Steele, Lea and Flood, 2014): a bijection of 64-bit integers."""
    import numpy as np

    mixed = value * np.uint64(_GOLDEN)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def combined(hashes: "Iterable[NDArray[np.uint64]]", *, start: "NDArray[np.uint64]") -> "NDArray[np.uint64]":
    """Return one hash for each position of equally long arrays; it depends on the order of the arrays."""
    import numpy as np

    mixed = start
    for values in hashes:
        mixed = (mixed ^ values) * np.uint64(_GOLDEN)
        mixed ^= mixed >> np.uint64(29)
    return mixed
