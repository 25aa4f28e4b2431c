"""Step 2: which documents stay, in three passes over hash partitions: versions, exact duplicates, near duplicates.

Each pass looks only at what the one before kept, so that a document has one reason at most and the account balances. A task
holds one partition of the hashes and the drops of the earlier passes, 8 bytes each, whatever the size of the corpus.
"""

import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from clinical_modernbert.corpus.documents import NO_ROW
from clinical_modernbert.corpus.near import BAND, band_records, resembling
from clinical_modernbert.corpus.work import StepResult, WorkArea

PASSES = ("versions", "duplicates", "near")
REASONS = ("superseded", "deleted", "duplicate", "near_duplicate")
DROP = np.dtype([("unit", "<u4"), ("row", "<u4"), ("reason", "u1")])
_BATCH = 1024

Parts = dict[str, int]
"""Pass -> number of its partitions; of the passes that are done."""


def resolve_versions(area: WorkArea, *, num_units: int, part: int, num_parts: int) -> StepResult:
    """Drop what a later version of the same document replaces and what a later notice deletes."""
    return area.once(f"versions/{part:04d}", lambda: _resolve(area, num_units, part, num_parts))


def _resolve(area: WorkArea, num_units: int, part: int, num_parts: int) -> StepResult:
    keys, unit_of = _slices(area, "keys", "key", num_units, part, num_parts)
    # The key holds the source, so units of different sources never share one.
    order = np.lexsort((keys["place"], unit_of, keys["version"], keys["order"], keys["key"]))
    keys, unit_of = keys[order], unit_of[order]
    drops = []
    first = np.ones(len(keys), dtype=bool)
    first[1:] = keys["key"][1:] != keys["key"][:-1]
    starts = np.flatnonzero(first)
    sizes = np.diff(np.append(starts, len(keys)))
    several = (sizes > 1).nonzero()[0]
    for start, size in zip(starts[several].tolist(), sizes[several].tolist(), strict=True):
        group, units = keys[start : start + size], unit_of[start : start + size]
        notices = group["order"][group["deleted"]]
        versions = np.flatnonzero(~group["deleted"])
        if not len(versions):
            continue
        newest, newest_unit = group[versions[-1]], units[versions[-1]]
        gone = len(notices) > 0 and notices.max() >= newest["order"]
        for record, unit in zip(group, units.tolist(), strict=True):
            if record["row"] == NO_ROW:
                continue
            # A citation's abstracts are one version, at one place.
            current = unit == newest_unit and all(
                record[name] == newest[name] for name in ("order", "version", "place")
            )
            if gone or not current:
                drops.append((unit, record["row"], REASONS.index("deleted" if gone and current else "superseded")))
    return _keep(area, "versions", part, np.array(drops, dtype=DROP))


def find_duplicates(area: WorkArea, *, num_units: int, part: int, num_parts: int, earlier: Parts) -> StepResult:
    """Compare the hashes of one range over all units; keep the first document of each text, in unit and row order."""
    return area.once(f"duplicates/{part:04d}", lambda: _compare(area, num_units, part, num_parts, earlier))


def _compare(area: WorkArea, num_units: int, part: int, num_parts: int, earlier: Parts) -> StepResult:
    hashes, unit_of = _slices(area, "hashes", "high", num_units, part, num_parts)
    gone = _read_drops(area, earlier)
    if len(gone):
        known = np.isin(_place(unit_of, hashes["row"]), _place(gone["unit"], gone["row"]))
        hashes, unit_of = hashes[~known], unit_of[~known]
    order = np.lexsort((hashes["row"], unit_of, hashes["low"], hashes["high"]))
    hashes, unit_of = hashes[order], unit_of[order]
    same = np.zeros(len(hashes), dtype=bool)
    same[1:] = (hashes["high"][1:] == hashes["high"][:-1]) & (hashes["low"][1:] == hashes["low"][:-1])
    return _keep(area, "duplicates", part, _drops(unit_of[same], hashes["row"][same], "duplicate"))


def sketch_unit(
    area: WorkArea, *, unit: int, num_rows: int, num_parts: int, min_words: int, earlier: Parts
) -> StepResult:
    """Write the band records of a unit's kept documents, one file a partition."""
    return area.once(f"sketched/{unit:06d}", lambda: _sketch(area, unit, num_rows, num_parts, min_words, earlier))


def _sketch(area: WorkArea, unit: int, num_rows: int, num_parts: int, min_words: int, earlier: Parts) -> StepResult:
    kept = kept_rows(area, unit=unit, num_rows=num_rows, parts=earlier)
    found = [np.empty(0, dtype=BAND)]
    with tempfile.TemporaryDirectory() as folder:
        path = area.get(f"documents/{unit:06d}.parquet", Path(folder))
        row = 0
        for batch in pq.ParquetFile(path).iter_batches(batch_size=_BATCH, columns=["text"]):
            chosen = np.flatnonzero(kept[row : row + len(batch)])
            texts = batch.column(0).take(chosen).to_pylist()
            found.append(band_records(texts, chosen + row, unit=unit, min_words=min_words))
            row += len(batch)
    records = np.concatenate(found)
    part_of = records["hash"] % np.uint64(num_parts)
    for part in range(num_parts):
        area.put_array(records[part_of == part], f"bands/{part:04d}/{unit:06d}.npy")
    return {"records": len(records)}


def find_near_duplicates(area: WorkArea, *, num_units: int, part: int) -> StepResult:
    """Drop what resembles an earlier document in one partition of the bands."""
    return area.once(f"near/{part:04d}", lambda: _find_near(area, num_units, part))


def _find_near(area: WorkArea, num_units: int, part: int) -> StepResult:
    with tempfile.TemporaryDirectory() as folder:
        arrays = [area.get_array(f"bands/{part:04d}/{unit:06d}.npy", Path(folder)) for unit in range(num_units)]
        records = np.concatenate(arrays)
    found = resembling(records)
    return _keep(area, "near", part, _drops(found["unit"], found["row"], "near_duplicate"))


def _slices(
    area: WorkArea, name: str, field: str, num_units: int, part: int, num_parts: int
) -> tuple[NDArray[np.void], NDArray[np.uint32]]:
    """Return the records of one range of ``field`` over all units' sorted files, and the unit of each."""
    low, high = (part << 64) // num_parts, ((part + 1) << 64) // num_parts
    slices, units = [], []
    with tempfile.TemporaryDirectory() as folder:
        for unit in range(num_units):
            array = area.get_array(f"{name}/{unit:06d}.npy", Path(folder))
            first = np.searchsorted(array[field], np.uint64(low)) if low else 0
            last = np.searchsorted(array[field], np.uint64(high)) if high < 1 << 64 else len(array)
            slices.append(np.array(array[first:last]))
            units.append(np.full(last - first, unit, dtype=np.uint32))
    return np.concatenate(slices), np.concatenate(units)


def _drops(units: NDArray[np.uint32], rows: NDArray[np.uint32], reason: str) -> NDArray[np.void]:
    drops = np.empty(len(units), dtype=DROP)
    drops["unit"], drops["row"], drops["reason"] = units, rows, REASONS.index(reason)
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


def _place(units: NDArray[np.uint32], rows: NDArray[np.uint32]) -> NDArray[np.uint64]:
    return (units.astype(np.uint64) << np.uint64(32)) | rows.astype(np.uint64)


def unit_drops(area: WorkArea, *, unit: int, parts: Parts) -> dict[str, int]:
    """Return how many documents of a unit the passes dropped, by reason."""
    drops = _read_drops(area, parts)
    drops = drops[drops["unit"] == unit]
    # A document may resemble others in several partitions of the bands.
    _, first = np.unique(drops["row"], return_index=True)
    counts = np.bincount(drops["reason"][first], minlength=len(REASONS)).tolist()
    return {reason: count for reason, count in zip(REASONS, counts, strict=True) if count}


def kept_rows(area: WorkArea, *, unit: int, num_rows: int, parts: Parts) -> NDArray[np.bool_]:
    """Return which documents of a unit the passes in ``parts`` kept."""
    kept = np.ones(num_rows, dtype=bool)
    drops = _read_drops(area, parts)
    kept[drops["row"][drops["unit"] == unit]] = False
    return kept
