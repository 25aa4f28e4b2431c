"""Step 2: which documents stay, in three passes over hash partitions: versions, exact duplicates, near duplicates.

Each pass looks only at what the one before kept, so that a document has one reason at most and the account balances. A task
holds one partition of the hashes and the drops of the earlier passes, 8 bytes each, whatever the size of the corpus.
"""

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.artifacts.work_area import StepResult, WorkArea
from clinical_modernbert.corpus.dedup.minhash import resembling
from clinical_modernbert.corpus.piece_files import NO_ROW

PASSES = ("versions", "duplicates", "near")
REASONS = ("superseded", "deleted", "duplicate", "near_duplicate")
DROP = np.dtype([("piece", "<u4"), ("row", "<u4"), ("reason", "u1")])

Parts = dict[str, int]
"""Pass -> number of its partitions; of the passes that are done."""


def resolve_versions(area: WorkArea, *, pieces: list[int], part: int, num_parts: int) -> StepResult:
    """Drop what a later version of the same document replaces and what a later notice deletes."""
    return area.once(f"versions/{part:04d}", lambda: _resolve(area, pieces, part, num_parts))


def _resolve(area: WorkArea, pieces: list[int], part: int, num_parts: int) -> StepResult:
    keys, piece_of = _slices(area, "keys", "key", pieces, part, num_parts)
    # The key holds the source, so pieces of different sources never share one.
    order = np.lexsort((keys["place"], piece_of, keys["version"], keys["order"], keys["key"]))
    keys, piece_of = keys[order], piece_of[order]
    drops = []
    first = np.ones(len(keys), dtype=bool)
    first[1:] = keys["key"][1:] != keys["key"][:-1]
    starts = np.flatnonzero(first)
    sizes = np.diff(np.append(starts, len(keys)))
    several = (sizes > 1).nonzero()[0]
    for start, size in zip(starts[several].tolist(), sizes[several].tolist(), strict=True):
        group, pieces_of = keys[start : start + size], piece_of[start : start + size]
        notices = group["order"][group["deleted"]]
        versions = np.flatnonzero(~group["deleted"])
        if not len(versions):
            continue
        newest, newest_piece = group[versions[-1]], pieces_of[versions[-1]]
        gone = len(notices) > 0 and notices.max() >= newest["order"]
        for record, piece in zip(group, pieces_of.tolist(), strict=True):
            if record["row"] == NO_ROW:
                continue
            # A citation's abstracts are one version, at one place.
            current = piece == newest_piece and all(
                record[name] == newest[name] for name in ("order", "version", "place")
            )
            if gone or not current:
                drops.append((piece, record["row"], REASONS.index("deleted" if gone and current else "superseded")))
    return _keep(area, "versions", part, np.array(drops, dtype=DROP))


def find_duplicates(area: WorkArea, *, pieces: list[int], part: int, num_parts: int, earlier: Parts) -> StepResult:
    """Compare the hashes of one range over all pieces; keep the first document of each text, in piece and row order."""
    return area.once(f"duplicates/{part:04d}", lambda: _compare(area, pieces, part, num_parts, earlier))


def _compare(area: WorkArea, pieces: list[int], part: int, num_parts: int, earlier: Parts) -> StepResult:
    hashes, piece_of = _slices(area, "hashes", "high", pieces, part, num_parts)
    known = _dropped(area, earlier, piece_of, hashes["row"])
    hashes, piece_of = hashes[~known], piece_of[~known]
    order = np.lexsort((hashes["row"], piece_of, hashes["low"], hashes["high"]))
    hashes, piece_of = hashes[order], piece_of[order]
    same = np.zeros(len(hashes), dtype=bool)
    same[1:] = (hashes["high"][1:] == hashes["high"][:-1]) & (hashes["low"][1:] == hashes["low"][:-1])
    return _keep(area, "duplicates", part, _drops(piece_of[same], hashes["row"][same], "duplicate"))


def find_near_duplicates(area: WorkArea, *, pieces: list[int], part: int, earlier: Parts) -> StepResult:
    """Drop what resembles an earlier document in one partition of the bands."""
    return area.once(f"near/{part:04d}", lambda: _find_near(area, pieces, part, earlier))


def _find_near(area: WorkArea, pieces: list[int], part: int, earlier: Parts) -> StepResult:
    with tempfile.TemporaryDirectory() as folder:
        arrays = [area.get_array(f"bands/{part:04d}/{piece:09d}.npy", Path(folder)) for piece in pieces]
        records = np.concatenate(arrays)
    records = records[~_dropped(area, earlier, records["piece"], records["row"])]
    found = resembling(records)
    return _keep(area, "near", part, _drops(found["piece"], found["row"], "near_duplicate"))


def _slices(
    area: WorkArea, name: str, field: str, pieces: list[int], part: int, num_parts: int
) -> tuple[NDArray[np.void], NDArray[np.uint32]]:
    """Return the records of one range of ``field`` over all pieces' sorted files, and the piece of each."""
    low, high = (part << 64) // num_parts, ((part + 1) << 64) // num_parts
    slices, pieces_of = [], []
    with tempfile.TemporaryDirectory() as folder:
        for piece in pieces:
            array = area.get_array(f"{name}/{piece:09d}.npy", Path(folder))
            first = np.searchsorted(array[field], np.uint64(low)) if low else 0
            last = np.searchsorted(array[field], np.uint64(high)) if high < 1 << 64 else len(array)
            slices.append(np.array(array[first:last]))
            pieces_of.append(np.full(last - first, piece, dtype=np.uint32))
    return np.concatenate(slices), np.concatenate(pieces_of)


def _drops(pieces: NDArray[np.uint32], rows: NDArray[np.uint32], reason: str) -> NDArray[np.void]:
    drops = np.empty(len(pieces), dtype=DROP)
    drops["piece"], drops["row"], drops["reason"] = pieces, rows, REASONS.index(reason)
    return drops


def _keep(area: WorkArea, name: str, part: int, drops: NDArray[np.void]) -> StepResult:
    area.put_array(drops, f"drops/{name}-{part:04d}.npy")
    return {"dropped": len(drops)}


def _read_drops(area: WorkArea, parts: Parts) -> NDArray[np.void]:
    found = [np.empty(0, dtype=DROP)]
    with tempfile.TemporaryDirectory() as folder:
        for name, num_parts in parts.items():
            found += [
                np.array(area.get_array(f"drops/{name}-{part:04d}.npy", Path(folder))) for part in range(num_parts)
            ]
    return np.concatenate(found)


def _dropped(area: WorkArea, parts: Parts, pieces: NDArray[np.uint32], rows: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Return which of the documents the passes in ``parts`` dropped."""
    gone = _read_drops(area, parts)
    return np.isin(_place(pieces, rows), _place(gone["piece"], gone["row"]))


def _place(pieces: NDArray[np.uint32], rows: NDArray[np.uint32]) -> NDArray[np.uint64]:
    return (pieces.astype(np.uint64) << np.uint64(32)) | rows.astype(np.uint64)


def piece_drops(area: WorkArea, *, piece: int, parts: Parts) -> dict[str, int]:
    """Return how many documents of a piece the passes dropped, by reason."""
    drops = _read_drops(area, parts)
    drops = drops[drops["piece"] == piece]
    # A document may resemble others in several partitions of the bands.
    _, first = np.unique(drops["row"], return_index=True)
    counts = np.bincount(drops["reason"][first], minlength=len(REASONS)).tolist()
    return {reason: count for reason, count in zip(REASONS, counts, strict=True) if count}


def kept_rows(area: WorkArea, *, piece: int, num_rows: int, parts: Parts) -> NDArray[np.bool_]:
    """Return which documents of a piece the passes in ``parts`` kept."""
    kept = np.ones(num_rows, dtype=bool)
    drops = _read_drops(area, parts)
    kept[drops["row"][drops["piece"] == piece]] = False
    return kept
