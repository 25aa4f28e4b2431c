"""Step 1, one task a unit: raw file -> pieces of normalised, filtered documents, with their keys, hashes and MinHash bands.

A piece holds at most ``PIECE_DOCUMENTS`` documents, and every later pass works by pieces, so that memory is flat in the file's
size: a file of two million notes becomes many pieces, one of PubMed's files one.
"""

import json
import tempfile
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.artifacts.work_area import StepResult, WorkArea
from clinical_modernbert.corpus.dedup.shingles import is_contaminated
from clinical_modernbert.corpus.filters import detect_language, drop_reason
from clinical_modernbert.corpus.identifiers import mask_identifiers
from clinical_modernbert.corpus.normalise import normalise
from clinical_modernbert.corpus.piece_files import NO_ROW, PIECE_DOCUMENTS, PIECES_A_UNIT, PieceWriter
from clinical_modernbert.corpus.split import is_held_out
from clinical_modernbert.errors import SourceError
from clinical_modernbert.recipe.corpus import CorpusRecipe
from clinical_modernbert.sources import read_unit
from clinical_modernbert.sources.document import Deleted, Document, Dropped, Quarantined, Unit, key_of
from clinical_modernbert.sources.files import Progress

NO_NGRAMS: NDArray[np.uint64] = np.empty(0, dtype=np.uint64)
_QUARANTINE_SHOWN = 5


def parse_unit(area: WorkArea, recipe: CorpusRecipe, unit: Unit, number: int, num_bands_parts: int) -> StepResult:
    """Read one unit into its pieces' ``documents``, ``keys``, ``hashes`` and ``bands``; return its counts."""
    return area.once(f"parsed/{number:06d}", lambda: _parse(area, recipe, unit, number, num_bands_parts))


def _parse(area: WorkArea, recipe: CorpusRecipe, unit: Unit, number: int, num_bands_parts: int) -> StepResult:
    source = next(source for source in recipe.sources if source.name == unit.source)
    counts: Counter[str] = Counter()
    quarantine: list[dict[str, Any]] = []
    progress = Progress()
    contaminants = evaluation_table(area.store_uri, area.prefix) if recipe.decontamination.paths else NO_NGRAMS
    sizes: list[int] = []
    first = number * PIECES_A_UNIT
    piece = PieceWriter(area, recipe, first, num_bands_parts)
    try:
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
                        piece.keys.append((key_of(unit.source, record.record), *version))
                case Deleted(record=name, order=order):
                    counts["dropped:deletion_notice"] += 1
                    piece.keys.append((key_of(unit.source, name), order, 0, counts["records"], NO_ROW, True))
                case Document():
                    # Another abstract belongs to the citation before it, and stays in its piece.
                    belongs = record.record is not None and record.id != record.record
                    if piece.is_full() and not belongs:
                        piece.put()
                        sizes.append(piece.num_rows)
                        if len(sizes) == PIECES_A_UNIT:
                            raise SourceError(
                                f"{unit.source}/{unit.name}: more than {PIECES_A_UNIT * PIECE_DOCUMENTS:,} documents in one "
                                "file; split it"
                            )
                        piece = PieceWriter(area, recipe, first + len(sizes), num_bands_parts)
                    text, unfit = _prepare(record.text, recipe, counts, contaminants)
                    if record.record is not None:
                        place = piece.keys[-1][3] if belongs else counts["records"]
                        version = record.order, record.version, place, NO_ROW if unfit else piece.num_rows, False
                        piece.keys.append((key_of(unit.source, record.record), *version))
                    if unfit:
                        counts[f"dropped:{unfit}"] += 1
                        continue
                    counts["read"] += 1
                    piece.add(text, record.key, held_out=is_held_out(record.group, recipe.held_out))
        piece.put()
        sizes.append(piece.num_rows)
    finally:
        piece.discard()
    if quarantine:
        area.put_bytes("".join(f"{json.dumps(entry)}\n" for entry in quarantine).encode(), quarantine_name(number))
    return {
        "source": unit.source,
        "unit": unit.name,
        "counts": dict(counts),
        "pieces": sizes,
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
