"""Step 2 of a build: which documents stay, in three passes over hash partitions: versions, exact duplicates, near duplicates.

Each pass looks only at what the pass before it kept, so that a document has one reason at most and the account balances. A task
holds one partition of the hashes and the drops of the earlier passes, 8 bytes each, whatever the size of the corpus.
"""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.artifacts.work_area import WorkArea
from clinical_modernbert.corpus.dedup.minhash import resembling
from clinical_modernbert.corpus.piece_files import NO_ROW, Piece, PieceId
from clinical_modernbert.corpus.results import Dropped, Partitions

REASONS = ("superseded", "deleted", "duplicate", "near_duplicate")
DROP = np.dtype([("piece", "<u4"), ("row", "<u4"), ("reason", "u1")])


def resolve_versions(area: WorkArea, *, pieces: Sequence[PieceId], partition: int, num_partitions: int) -> Dropped:
    """Drop what a later version of the same document replaces and what a later notice deletes."""
    return area.once(f"versions/{partition:04d}", lambda: _resolve(area, pieces, partition, num_partitions), Dropped)


def _resolve(area: WorkArea, pieces: Sequence[PieceId], partition: int, num_partitions: int) -> Dropped:
    keys, piece_of = _slices(area, "keys", "key", pieces, partition, num_partitions)
    # The key holds the source, so pieces of different sources never share one. Versions rank before files: a file may bring an
    # earlier version again.
    order = np.lexsort((keys["place"], piece_of, keys["order"], keys["version"], keys["key"]))
    keys, piece_of = keys[order], piece_of[order]
    drops = []
    first = np.ones(len(keys), dtype=bool)
    first[1:] = keys["key"][1:] != keys["key"][:-1]
    starts = np.flatnonzero(first)
    sizes = np.diff(np.append(starts, len(keys)))
    several = (sizes > 1).nonzero()[0]
    for start, size in zip(starts[several].tolist(), sizes[several].tolist(), strict=True):
        group, pieces_of = keys[start : start + size], piece_of[start : start + size]
        for n, reason in _resolved(group, pieces_of):
            if group["row"][n] != NO_ROW:
                drops.append((pieces_of[n], group["row"][n], REASONS.index(reason)))
    return _keep(area, "versions", partition, np.array(drops, dtype=DROP))


def _resolved(group: NDArray[np.void], pieces_of: NDArray[np.uint32]) -> Iterator[tuple[int, str]]:
    """Yield which entries of one record are dropped, and why; the entries are in the order of version, file and place.

    A notice deletes its version, or all versions where it names none, as far as earlier files brought them. Of what is left the
    last one stays, with the other abstracts at its place.
    """
    columns = [group[name].tolist() for name in ("version", "order", "place", "deleted")]
    notices: dict[int, int] = {}  # version -> order of its last notice
    texts, left = [], None
    for n, (version, order, _, is_notice) in enumerate(zip(*columns, strict=True)):
        if is_notice:
            notices[version] = max(order, notices.get(version, order))
        else:
            texts.append(n)
    at = {n: (columns[0][n], columns[1][n], int(pieces_of[n]), columns[2][n]) for n in texts}
    for n in texts:
        version, order = at[n][:2]
        if max(notices.get(version, -1), notices.get(0, -1)) < order:
            left = at[n]
    for n in texts:
        if at[n] != left:
            yield n, "superseded" if at[n] != at[texts[-1]] else "deleted"


def find_duplicates(
    area: WorkArea, *, pieces: Sequence[PieceId], partition: int, num_partitions: int, earlier: Partitions
) -> Dropped:
    """Compare the hashes of one range over all pieces; keep the first document of each text, in piece and row order."""
    return area.once(
        f"duplicates/{partition:04d}", lambda: _compare(area, pieces, partition, num_partitions, earlier), Dropped
    )


def _compare(
    area: WorkArea, pieces: Sequence[PieceId], partition: int, num_partitions: int, earlier: Partitions
) -> Dropped:
    hashes, piece_of = _slices(area, "hashes", "high", pieces, partition, num_partitions)
    dropped = _dropped(area, earlier, piece_of, hashes["row"])
    hashes, piece_of = hashes[~dropped], piece_of[~dropped]
    order = np.lexsort((hashes["row"], piece_of, hashes["low"], hashes["high"]))
    hashes, piece_of = hashes[order], piece_of[order]
    same = np.zeros(len(hashes), dtype=bool)
    same[1:] = (hashes["high"][1:] == hashes["high"][:-1]) & (hashes["low"][1:] == hashes["low"][:-1])
    return _keep(area, "duplicates", partition, _drops(piece_of[same], hashes["row"][same], "duplicate"))


def join_bands(area: WorkArea, *, pieces: Sequence[PieceId], group: int, num_partitions: int) -> Dropped:
    """Write the bands of a group of pieces as one file a partition; a file of each piece would be half a million requests."""

    def run() -> Dropped:
        with tempfile.TemporaryDirectory() as folder:
            arrays = [area.get_array(f"bands/{piece}.npy", Path(folder)) for piece in pieces]
            partitions = [array["hash"] % np.uint64(num_partitions) for array in arrays]
            for number in range(num_partitions):
                ends = [np.searchsorted(partition, [number, number + 1]) for partition in partitions]
                slices = [array[first:last] for array, (first, last) in zip(arrays, ends, strict=True)]
                area.put_array(np.concatenate(slices), f"bands/{number:04d}/{group:04d}.npy")
        return Dropped(0)

    return area.once(f"joined/{group:04d}", run, Dropped)


def find_near_duplicates(area: WorkArea, *, names: Sequence[str], partition: int, earlier: Partitions) -> Dropped:
    """Drop what resembles an earlier document in one partition of the bands, which are in the files ``names``."""
    return area.once(f"near/{partition:04d}", lambda: _find_near(area, names, partition, earlier), Dropped)


def _find_near(area: WorkArea, names: Sequence[str], partition: int, earlier: Partitions) -> Dropped:
    with tempfile.TemporaryDirectory() as folder:
        records = np.concatenate([area.get_array(name, Path(folder)) for name in names])
    records = records[~_dropped(area, earlier, records["piece"], records["row"])]
    alike, unchecked = resembling(records)
    done = _keep(area, "near", partition, _drops(alike["piece"], alike["row"], "near_duplicate"))
    return Dropped(done.dropped, unchecked)


def merge_drops(area: WorkArea, *, partitions: Partitions) -> Dropped:
    """Write the drops of all passes as one file: every later worker reads them."""
    return area.once("merged", lambda: _keep(area, "merged", 0, _read_drops(area, partitions)), Dropped)


def _slices(
    area: WorkArea, name: str, field: str, pieces: Sequence[PieceId], partition: int, num_partitions: int
) -> tuple[NDArray[np.void], NDArray[np.uint32]]:
    """Return the records of one range of ``field`` over all pieces' sorted files, and the piece of each."""
    low, high = (partition << 64) // num_partitions, ((partition + 1) << 64) // num_partitions
    slices, pieces_of = [], []
    with tempfile.TemporaryDirectory() as folder:
        for piece in pieces:
            array = area.get_array(f"{name}/{piece}.npy", Path(folder))
            first = np.searchsorted(array[field], np.uint64(low)) if low else 0
            last = np.searchsorted(array[field], np.uint64(high)) if high < 1 << 64 else len(array)
            slices.append(np.array(array[first:last]))
            pieces_of.append(np.full(last - first, piece.index, dtype=np.uint32))
    return np.concatenate(slices), np.concatenate(pieces_of)


def _drops(pieces: NDArray[np.uint32], rows: NDArray[np.uint32], reason: str) -> NDArray[np.void]:
    drops = np.empty(len(pieces), dtype=DROP)
    drops["piece"], drops["row"], drops["reason"] = pieces, rows, REASONS.index(reason)
    return drops


def _keep(area: WorkArea, name: str, partition: int, drops: NDArray[np.void]) -> Dropped:
    area.put_array(drops, f"drops/{name}-{partition:04d}.npy")
    return Dropped(len(drops))


@lru_cache(maxsize=1)
def _read_drops(area: WorkArea, partitions: Partitions) -> NDArray[np.void]:
    # The worker process keeps them: read again for each piece, they would be most of a build's requests.
    names = [f"{name}-{number:04d}" for name, count in asdict(partitions).items() for number in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        arrays = [np.array(area.get_array(f"drops/{name}.npy", Path(folder))) for name in names]
    return np.concatenate([np.empty(0, dtype=DROP), *arrays])


def _dropped(
    area: WorkArea, partitions: Partitions, pieces: NDArray[np.uint32], rows: NDArray[np.uint32]
) -> NDArray[np.bool_]:
    """Return which of the documents the passes in ``partitions`` dropped."""
    drops = _read_drops(area, partitions)
    return np.isin(_place(pieces, rows), _place(drops["piece"], drops["row"]))


def _place(pieces: NDArray[np.uint32], rows: NDArray[np.uint32]) -> NDArray[np.uint64]:
    return (pieces.astype(np.uint64) << np.uint64(32)) | rows.astype(np.uint64)


def piece_drops(area: WorkArea, *, piece: PieceId, partitions: Partitions) -> dict[str, int]:
    """Return how many documents of a piece the passes dropped, by reason."""
    drops = _read_drops(area, partitions)
    drops = drops[drops["piece"] == piece.index]
    # A document may resemble others in several partitions of the bands.
    _, first = np.unique(drops["row"], return_index=True)
    counts = np.bincount(drops["reason"][first], minlength=len(REASONS)).tolist()
    return {reason: count for reason, count in zip(REASONS, counts, strict=True) if count}


def kept_rows(area: WorkArea, *, piece: Piece, partitions: Partitions) -> NDArray[np.bool_]:
    """Return which documents of a piece the passes in ``partitions`` kept."""
    kept = np.ones(piece.num_rows, dtype=bool)
    drops = _read_drops(area, partitions)
    kept[drops["row"][drops["piece"] == piece.id.index]] = False
    return kept
