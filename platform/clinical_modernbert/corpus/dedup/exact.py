"""Step 2 of a build: which documents stay, in three passes over hash partitions: versions, exact duplicates, near duplicates.

Each pass looks only at what the pass before it kept, so that a document has one reason at most and the account balances. A task
holds one partition of the hashes and the drops of the earlier passes, 8 bytes each, whatever the size of the corpus.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
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


TABLES = {"keys": "key", "hashes": "high", "bands": "hash"}
"""The tables of a piece, each with the field that decides the partition."""


def join_tables(area: WorkArea, *, pieces: Sequence[PieceId], group: int, num_partitions: Mapping[str, int]) -> Dropped:
    """Write each table of a group of pieces as one file a partition.

    Else each task of a pass would read a file of each piece: half a million requests for PubMed. A table of one partition is left
    as it is.
    """

    def run() -> Dropped:
        for table, number in num_partitions.items():
            if number > 1:
                _join(area, table, pieces, group, number)
        return Dropped(0)

    return area.once(f"tables/{group:04d}", run, Dropped)


def _join(area: WorkArea, table: str, pieces: Sequence[PieceId], group: int, num_partitions: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        arrays = [area.get_array(f"{table}/{piece}.npy", Path(folder)) for piece in pieces]
        ends = [_partition_ends(table, array[TABLES[table]], num_partitions) for array in arrays]
        for n in range(num_partitions):
            slices = [array[at[n] : at[n + 1]] for array, at in zip(arrays, ends, strict=True)]
            area.put_array(np.concatenate(slices), f"{table}/{n:04d}/{group:04d}.npy")


def _partition_ends(table: str, values: NDArray[np.uint64], num_partitions: int) -> list[int]:
    """Return where each partition of a piece's table begins, and the end; a piece has keys and hashes in their order."""
    if table == "bands":  # in the order of their partitions, whose number was known when the piece was written
        return np.searchsorted(values % np.uint64(num_partitions), np.arange(num_partitions + 1)).tolist()
    limits = np.array([(n << 64) // num_partitions for n in range(1, num_partitions)], dtype=np.uint64)
    return [0, *np.searchsorted(values, limits).tolist(), len(values)]


def resolve_versions(area: WorkArea, *, names: Sequence[str], partition: int) -> Dropped:
    """Drop what a later version of the same document replaces and what a later notice deletes, by the keys in ``names``."""
    return area.once(f"versions/{partition:04d}", lambda: _resolve(area, names, partition), Dropped)


def _resolve(area: WorkArea, names: Sequence[str], partition: int) -> Dropped:
    keys = _records(area, names)
    # The key holds the source, so pieces of different sources never share one. Versions rank before files: a file may bring an
    # earlier version again.
    keys = keys[np.lexsort((keys["place"], keys["piece"], keys["order"], keys["version"], keys["key"]))]
    drops = []
    first = np.ones(len(keys), dtype=bool)
    first[1:] = keys["key"][1:] != keys["key"][:-1]
    starts = np.flatnonzero(first)
    sizes = np.diff(np.append(starts, len(keys)))
    several = (sizes > 1).nonzero()[0]
    for start, size in zip(starts[several].tolist(), sizes[several].tolist(), strict=True):
        group = keys[start : start + size]
        for n, reason in _resolved(group):
            if group["row"][n] != NO_ROW:
                drops.append((group["piece"][n], group["row"][n], REASONS.index(reason)))
    return _keep(area, "versions", partition, np.array(drops, dtype=DROP))


def _resolved(group: NDArray[np.void]) -> Iterator[tuple[int, str]]:
    """Yield which entries of one record are dropped, and why; the entries are in the order of version, file and place.

    A notice deletes its version, or all versions where it names none, as far as earlier files brought them. Of what is left the
    last one stays, with the other abstracts at its place.
    """
    columns = [group[name].tolist() for name in ("version", "order", "place", "deleted", "piece")]
    notices: dict[int, int] = {}  # version -> order of its last notice
    texts, left = [], None
    for n, (version, order, _, is_notice, _) in enumerate(zip(*columns, strict=True)):
        if is_notice:
            notices[version] = max(order, notices.get(version, order))
        else:
            texts.append(n)
    at = {n: (columns[0][n], columns[1][n], columns[4][n], columns[2][n]) for n in texts}
    for n in texts:
        version, order = at[n][:2]
        if max(notices.get(version, -1), notices.get(0, -1)) < order:
            left = at[n]
    for n in texts:
        if at[n] != left:
            yield n, "superseded" if at[n] != at[texts[-1]] else "deleted"


def find_duplicates(area: WorkArea, *, names: Sequence[str], partition: int, earlier: Partitions) -> Dropped:
    """Compare the hashes in ``names``; keep the first document of each text, in piece and row order."""
    return area.once(f"duplicates/{partition:04d}", lambda: _compare(area, names, partition, earlier), Dropped)


def _compare(area: WorkArea, names: Sequence[str], partition: int, earlier: Partitions) -> Dropped:
    hashes = _records(area, names)
    hashes = hashes[~_dropped(area, earlier, hashes["piece"], hashes["row"])]
    hashes = hashes[np.lexsort((hashes["row"], hashes["piece"], hashes["low"], hashes["high"]))]
    same = np.zeros(len(hashes), dtype=bool)
    same[1:] = (hashes["high"][1:] == hashes["high"][:-1]) & (hashes["low"][1:] == hashes["low"][:-1])
    return _keep(area, "duplicates", partition, _drops(hashes["piece"][same], hashes["row"][same], "duplicate"))


def find_near_duplicates(area: WorkArea, *, names: Sequence[str], partition: int, earlier: Partitions) -> Dropped:
    """Drop what resembles an earlier document in one partition of the bands, which are in the files ``names``."""
    return area.once(f"near/{partition:04d}", lambda: _find_near(area, names, partition, earlier), Dropped)


def _find_near(area: WorkArea, names: Sequence[str], partition: int, earlier: Partitions) -> Dropped:
    records = _records(area, names)
    records = records[~_dropped(area, earlier, records["piece"], records["row"])]
    alike, unchecked = resembling(records)
    done = _keep(area, "near", partition, _drops(alike["piece"], alike["row"], "near_duplicate"))
    return Dropped(done.dropped, unchecked)


def merge_drops(area: WorkArea, *, partitions: Partitions) -> Dropped:
    """Write the drops of all passes as one file: every later worker reads them."""
    return area.once("merged", lambda: _keep(area, "merged", 0, _read_drops(area, partitions)), Dropped)


def _records(area: WorkArea, names: Sequence[str]) -> NDArray[np.void]:
    """Return the records of one partition of a table, which are in the files ``names``."""
    with tempfile.TemporaryDirectory() as folder:
        return np.concatenate([area.get_array(name, Path(folder)) for name in names])


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
