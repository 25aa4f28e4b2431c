"""Rows whose id an earlier row has, of any number of files, in bounded memory.

A file leaves 64-bit hashes of its ids, sorted, with their row numbers. A task then compares one range of hashes of all files.
Of 100 million ids, two different ones have equal hashes with a probability of 0.03 %.
"""

import hashlib
import tempfile
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clinical_modernbert.artifacts.work_area import WorkArea

_ROWS_A_PARTITION = 4_000_000
_SHOWN = 5
_HASHED = np.dtype([("hash", "<u8"), ("row", "<u8")])


@dataclass(frozen=True, slots=True)
class Duplicates:
    """The rows of one range of hashes whose id an earlier row has."""

    number: int
    first: tuple[tuple[int, int], ...]
    """Numbers of file and row of the first of them; rows count from 0."""


class IdHashes:
    """The hashes of one file's ids while it is read: 16 bytes a row."""

    def __init__(self) -> None:
        self._hashes, self._rows = array("Q"), array("Q")

    def add(self, row: int, name: str) -> None:
        """Add the id of the row with this number."""
        self._hashes.append(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little"))
        self._rows.append(row)

    def put(self, area: WorkArea, file: int) -> None:
        """Keep them in the work area, sorted."""
        hashed = np.empty(len(self._hashes), dtype=_HASHED)
        hashed["hash"], hashed["row"] = self._hashes, self._rows
        area.put_array(np.sort(hashed), _name(file))


def num_partitions(num_rows: int) -> int:
    """Return the number of ranges of hashes for a table of ``num_rows``."""
    return 1 + num_rows // _ROWS_A_PARTITION


def find_duplicates(area: WorkArea, num_files: int, partition: int, partitions: int) -> Duplicates:
    """Return the duplicates of one range of hashes."""

    def run() -> Duplicates:
        low, high = (np.uint64(min((1 << 64) * n // partitions, (1 << 64) - 1)) for n in (partition, partition + 1))
        found, files = [], []
        with tempfile.TemporaryDirectory() as folder:
            for file in range(num_files):
                hashed = area.get_array(_name(file), Path(folder))
                last = partition + 1 == partitions
                bounds = np.searchsorted(hashed["hash"], [low, high]).tolist()
                found.append(np.array(hashed[bounds[0] : None if last else bounds[1]]))
                files.append(np.full(len(found[-1]), file, dtype=np.uint32))
        return _repeated(np.concatenate(found), np.concatenate(files))

    return area.once(f"duplicates/{partition:06d}", run, Duplicates)


def positions(found: Sequence[Duplicates]) -> list[tuple[int, int]]:
    """Return the first duplicates of all ranges, by file and row."""
    return sorted(place for one in found for place in one.first)[:_SHOWN]


def _repeated(hashed: np.ndarray, file_N: np.ndarray) -> Duplicates:
    order = np.lexsort((hashed["row"], file_N, hashed["hash"]))
    hashed, file_N = hashed[order], file_N[order]
    repeated = np.flatnonzero(hashed["hash"][1:] == hashed["hash"][:-1]) + 1
    places = sorted(zip(file_N[repeated].tolist(), hashed["row"][repeated].tolist(), strict=True))
    return Duplicates(len(repeated), tuple(places[:_SHOWN]))


def _name(file: int) -> str:
    return f"ids/{file:06d}.npy"
