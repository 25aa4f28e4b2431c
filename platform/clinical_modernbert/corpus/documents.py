"""Step 1, one task a unit: raw file -> normalised documents and their content hashes; step 2: exact duplicates by hash range.

Memory is flat in the file's size: documents leave in batches of a Parquet writer, hashes are 24 bytes a document.
"""

import hashlib
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from clinical_modernbert.corpus.normalise import drop_reason, normalise
from clinical_modernbert.corpus.split import is_held_out
from clinical_modernbert.corpus.work import StepResult, WorkArea
from clinical_modernbert.recipe.corpus import CorpusRecipe
from clinical_modernbert.sources import read_unit
from clinical_modernbert.sources.document import Document, Dropped, Quarantined, Unit

SCHEMA = pa.schema([("text", pa.string()), ("key", pa.uint64()), ("held_out", pa.bool_())])
HASH = np.dtype([("high", "<u8"), ("low", "<u8"), ("row", "<u4")])
DROP = np.dtype([("unit", "<u4"), ("row", "<u4")])
_BATCH = 2048


def parse_unit(area: WorkArea, recipe: CorpusRecipe, unit: Unit, number: int) -> StepResult:
    """Read one unit into ``documents/<n>.parquet`` and ``hashes/<n>.npy``; return its counts."""
    return area.once(f"parsed/{number:06d}", lambda: _parse(area, recipe, unit, number))


def _parse(area: WorkArea, recipe: CorpusRecipe, unit: Unit, number: int) -> StepResult:
    source = next(source for source in recipe.sources if source.name == unit.source)
    counts: Counter[str] = Counter()
    quarantine: list[dict[str, Any]] = []
    hashes: list[tuple[int, int, int]] = []
    rows: list[tuple[str, int, bool]] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "documents.parquet"
        with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
            for record in read_unit(source, unit):
                counts["records"] += 1
                match record:
                    case Quarantined():
                        counts["quarantined"] += 1
                        quarantine.append({"source": unit.source, **_fields(record)})
                    case Dropped(reason):
                        counts[f"dropped:{reason}"] += 1
                    case Document():
                        text = normalise(record.text)
                        unfit = drop_reason(text, recipe.filters)
                        if unfit:
                            counts[f"dropped:{unfit}"] += 1
                            continue
                        hashes.append((*_content_hash(text), counts["read"]))
                        counts["read"] += 1
                        rows.append((text, record.key, is_held_out(record.group, recipe.held_out)))
                if len(rows) >= _BATCH:
                    _write(writer, rows)
            _write(writer, rows)
        area.put(path, f"documents/{number:06d}.parquet")
    array = np.array(hashes, dtype=HASH)
    area.put_array(array[np.argsort(array, order=("high", "low", "row"))], f"hashes/{number:06d}.npy")
    return {"source": unit.source, "unit": unit.name, "counts": dict(counts), "quarantine": quarantine}


def _fields(record: Quarantined) -> dict[str, str | None]:
    return {name: getattr(record, name) for name in ("file", "position", "reason", "record_id", "sha256")}


def _write(writer: pq.ParquetWriter, rows: list[tuple[str, int, bool]]) -> None:
    if rows:
        columns = list(zip(*rows, strict=True))
        writer.write_table(pa.table([pa.array(c, t.type) for c, t in zip(columns, SCHEMA, strict=True)], schema=SCHEMA))
        rows.clear()


def _content_hash(text: str) -> tuple[int, int]:
    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")


def find_duplicates(area: WorkArea, *, num_units: int, part: int, num_parts: int) -> StepResult:
    """Compare the hashes of one range over all units; keep the first document of each text, in unit and row order."""
    return area.once(f"duplicates/{part:04d}", lambda: _compare(area, num_units, part, num_parts))


def _compare(area: WorkArea, num_units: int, part: int, num_parts: int) -> StepResult:
    low, high = (part << 64) // num_parts, ((part + 1) << 64) // num_parts
    slices, units = [], []
    with tempfile.TemporaryDirectory() as folder:
        for unit in range(num_units):
            array = area.get_array(f"hashes/{unit:06d}.npy", Path(folder))
            first = np.searchsorted(array["high"], np.uint64(low)) if low else 0
            last = np.searchsorted(array["high"], np.uint64(high)) if high < 1 << 64 else len(array)
            slices.append(np.array(array[first:last]))
            units.append(np.full(last - first, unit, dtype=np.uint32))
    hashes, unit_of = np.concatenate(slices), np.concatenate(units)
    order = np.lexsort((hashes["row"], unit_of, hashes["low"], hashes["high"]))
    hashes, unit_of = hashes[order], unit_of[order]
    same = np.zeros(len(hashes), dtype=bool)
    same[1:] = (hashes["high"][1:] == hashes["high"][:-1]) & (hashes["low"][1:] == hashes["low"][:-1])
    drops = np.empty(int(same.sum()), dtype=DROP)
    drops["unit"], drops["row"] = unit_of[same], hashes["row"][same]
    area.put_array(drops, f"drops/{part:04d}.npy")
    return {"duplicates": len(drops)}


def kept_rows(area: WorkArea, *, unit: int, num_rows: int, num_parts: int) -> NDArray[np.bool_]:
    """Return which documents of a unit are no duplicates of an earlier one."""
    kept = np.ones(num_rows, dtype=bool)
    with tempfile.TemporaryDirectory() as folder:
        for part in range(num_parts):
            drops = area.get_array(f"drops/{part:04d}.npy", Path(folder))
            kept[drops["row"][drops["unit"] == unit]] = False
    return kept
