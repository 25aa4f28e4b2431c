"""Step 1, one task a unit: raw file -> normalised, filtered documents, with their keys and content hashes.

Memory is flat in the file's size: documents leave in batches of a Parquet writer, hashes are 24 bytes a document.
"""

import hashlib
import json
import tempfile
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from clinical_modernbert.corpus.filters import detect_language, drop_reason
from clinical_modernbert.corpus.identifiers import mask_identifiers
from clinical_modernbert.corpus.normalise import normalise
from clinical_modernbert.corpus.shingles import is_contaminated
from clinical_modernbert.corpus.split import is_held_out
from clinical_modernbert.corpus.work import StepResult, WorkArea
from clinical_modernbert.recipe.corpus import CorpusRecipe
from clinical_modernbert.sources import read_unit
from clinical_modernbert.sources.document import Deleted, Document, Dropped, Quarantined, Unit, key_of
from clinical_modernbert.sources.files import Progress

SCHEMA = pa.schema([("text", pa.string()), ("key", pa.uint64()), ("held_out", pa.bool_())])
HASH = np.dtype([("high", "<u8"), ("low", "<u8"), ("row", "<u4")])
KEY = np.dtype(
    [("key", "<u8"), ("order", "<i8"), ("version", "<i8"), ("place", "<u4"), ("row", "<u4"), ("deleted", "?")]
)
NO_ROW = 2**32 - 1  # of a version that a rule or filter dropped, which still supersedes the earlier ones
NO_NGRAMS: NDArray[np.uint64] = np.empty(0, dtype=np.uint64)
_BATCH = 2048
_QUARANTINE_SHOWN = 5


def parse_unit(area: WorkArea, recipe: CorpusRecipe, unit: Unit, number: int) -> StepResult:
    """Read one unit into ``documents/<n>.parquet`` and ``hashes/<n>.npy``; return its counts."""
    return area.once(f"parsed/{number:06d}", lambda: _parse(area, recipe, unit, number))


def _parse(area: WorkArea, recipe: CorpusRecipe, unit: Unit, number: int) -> StepResult:
    source = next(source for source in recipe.sources if source.name == unit.source)
    counts: Counter[str] = Counter()
    quarantine: list[dict[str, Any]] = []
    progress = Progress()
    hashes: list[tuple[int, int, int]] = []
    keys: list[tuple[int, int, int, int, int, bool]] = []
    contaminants = evaluation_table(area.store_uri, area.prefix) if recipe.decontamination.paths else NO_NGRAMS
    rows: list[tuple[str, int, bool]] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "documents.parquet"
        with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
            for record in read_unit(source, unit, progress=progress):
                counts["records"] += 1
                match record:
                    case Quarantined():
                        counts["quarantined"] += 1
                        quarantine.append({"source": unit.source, **_fields(record)})
                    case Dropped(reason):
                        counts[f"dropped:{reason}"] += 1
                        if record.record is not None:
                            version = record.order, record.version, counts["records"], NO_ROW, False
                            keys.append((key_of(unit.source, record.record), *version))
                    case Deleted(record=name, order=order):
                        counts["dropped:deletion_notice"] += 1
                        keys.append((key_of(unit.source, name), order, 0, counts["records"], NO_ROW, True))
                    case Document():
                        text, unfit = _prepare(record.text, recipe, counts, contaminants)
                        if record.record is not None:
                            # Another abstract belongs to the citation before it.
                            place = counts["records"] if record.id == record.record else keys[-1][3]
                            version = record.order, record.version, place, NO_ROW if unfit else counts["read"], False
                            keys.append((key_of(unit.source, record.record), *version))
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
    table = np.array(keys, dtype=KEY)
    area.put_array(table[np.argsort(table["key"], kind="stable")], f"keys/{number:06d}.npy")
    array = np.array(hashes, dtype=HASH)
    area.put_array(array[np.argsort(array, order=("high", "low", "row"))], f"hashes/{number:06d}.npy")
    if quarantine:
        area.put_bytes("".join(f"{json.dumps(entry)}\n" for entry in quarantine).encode(), quarantine_name(number))
    return {
        "source": unit.source,
        "unit": unit.name,
        "counts": dict(counts),
        "quarantine": quarantine[:_QUARANTINE_SHOWN],
        "bytes": progress.size_bytes,
        "unread_bytes": progress.unread_bytes,
    }


def quarantine_name(number: int) -> str:
    """Return the name of a unit's quarantined records in the work area; there is such a file only where there are some."""
    return f"quarantine/{number:06d}.jsonl"


def _prepare(
    text: str, recipe: CorpusRecipe, counts: Counter[str], contaminants: NDArray[np.uint64]
) -> tuple[str, str | None]:
    """Return the text as the corpus holds it, and why it is left out, if it is; count languages and identifiers."""
    text = normalise(text)
    language = detect_language(text)
    unfit = drop_reason(text, recipe.filters, lexicon=recipe.lexicon, language=language)
    if unfit:
        return text, unfit
    masked, found = mask_identifiers(text)
    for kind, times in found.items():
        counts[f"identifier:{kind}"] += times
    if found:
        counts["with_identifiers"] += 1
        if recipe.identifiers.action == "drop":
            return text, "identifiers"
        if recipe.identifiers.action == "mask":
            text = masked
    if is_contaminated(text, contaminants):
        return text, "contaminated"
    counts[f"language:{language or 'short'}"] += 1
    return text, None


@lru_cache(maxsize=1)
def evaluation_table(store_uri: str, prefix: str) -> NDArray[np.uint64]:
    """Return the n-grams of the evaluation sets, kept by the worker process for its next units."""
    with tempfile.TemporaryDirectory() as folder:
        return np.array(WorkArea(store_uri, prefix).get_array("evaluation.npy", Path(folder)))


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
