"""Step 1 of a build, one task a unit: raw file -> pieces of normalised, filtered documents with their keys, hashes and bands.

Every record is counted once: as read, dropped with a reason, or quarantined. Which of several versions or duplicates stays is
decided by later passes, over all units.
"""

import json
import tempfile
from array import array
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import numpy as np

from clinical_modernbert.artifacts.work_area import WorkArea
from clinical_modernbert.corpus import is_held_out, presidio
from clinical_modernbert.corpus.decontamination import Decontamination, load_decontamination
from clinical_modernbert.corpus.filters import detect_language, drop_reason
from clinical_modernbert.corpus.identifiers import mask_identifiers
from clinical_modernbert.corpus.normalise import normalise
from clinical_modernbert.corpus.piece_files import (
    NO_ROW,
    PIECE_DOCUMENTS,
    PIECES_A_UNIT,
    PieceId,
    PieceWriter,
    Version,
)
from clinical_modernbert.corpus.record_timeout import record_timeout
from clinical_modernbert.corpus.results import Parsed, QuarantineEntry
from clinical_modernbert.errors import SourceError
from clinical_modernbert.recipe.corpus import CorpusRecipe, IdentifierSection
from clinical_modernbert.sources import read_unit
from clinical_modernbert.sources.document import Deleted, Document, Dropped, Quarantined, Record, Unit, key_of
from clinical_modernbert.sources.files import Progress

_QUARANTINE_SHOWN = 5


def parse_unit(
    area: WorkArea, recipe: CorpusRecipe, unit: Unit, *, number: int, num_bands_partitions: int = 1
) -> Parsed:
    """Read one unit into the ``documents``, ``keys``, ``hashes`` and ``bands`` of its pieces; return its counts."""
    return area.once(
        f"parsed/{number:06d}", lambda: _UnitParser(area, recipe, unit, number, num_bands_partitions).run(), Parsed
    )


def quarantine_name(number: int) -> str:
    """Return the name of a unit's quarantined records in the work area; there is such a file only where there are some."""
    return f"quarantine/{number:06d}.jsonl"


class _UnitParser:
    """One unit while it is read: its counts, its quarantined records, and the piece that takes its next document."""

    def __init__(
        self, area: WorkArea, recipe: CorpusRecipe, unit: Unit, number: int, num_bands_partitions: int
    ) -> None:
        self._area, self._recipe, self._unit, self._number = area, recipe, unit, number
        self._source = next(source for source in recipe.sources if source.name == unit.source)
        self._num_partitions = num_bands_partitions
        self._decontamination = load_decontamination(area, recipe.decontamination)
        self._counts: Counter[str] = Counter()
        self._quarantine: list[QuarantineEntry] = []  # the first ones; all are in the file
        self._scratch = tempfile.TemporaryDirectory()
        self._quarantine_path = Path(self._scratch.name) / "quarantine.jsonl"
        self._keys = array("Q")  # of all documents
        self._sizes: list[int] = []  # documents of the pieces that are written
        self._piece = self._next_piece()

    def run(self) -> Parsed:
        progress = Progress()
        try:
            with record_timeout(self._unit, progress, reads_ahead=self._source.reads_ahead) as count:
                for record in read_unit(self._source, self._unit, progress=progress):
                    self._counts["records"] += 1
                    self._add(record)
                    count.number += 1
                    count.has_document = count.has_document or isinstance(record, Document)
            self._put_piece()
            if repeated := len(self._keys) - len(np.unique(np.frombuffer(self._keys, dtype=np.uint64))):
                self._counts["repeated_ids"] = repeated
            if self._quarantine:
                self._area.put(self._quarantine_path, quarantine_name(self._number))
        finally:
            self._piece.discard()
            self._scratch.cleanup()
        return Parsed(
            source=self._unit.source,
            unit=self._unit.name,
            counts=dict(self._counts),
            pieces=tuple(self._sizes),
            quarantine=tuple(self._quarantine),
            bytes=progress.size_bytes + progress.missing_bytes,
            unread_bytes=progress.unread_bytes,
        )

    def _add(self, record: Record) -> None:
        match record:
            case Quarantined():
                self._set_aside(record)
            case Dropped(reason):
                self._counts[f"dropped:{reason}"] += 1
                if record.record is not None:
                    self._add_dropped(record.record, record.order, record.version)
            case Deleted():
                self._counts["dropped:deletion_notice"] += 1
                self._add_dropped(record.record, record.order, record.version, deleted=True)
            case Document():
                self._add_document(record)

    def _set_aside(self, record: Quarantined) -> None:
        self._counts["quarantined"] += 1
        if record.num_lost:
            self._counts["lost"] += record.num_lost
        entry = QuarantineEntry(
            self._unit.source, record.file, record.position, record.reason, record.record_id, record.sha256
        )
        with self._quarantine_path.open("a", encoding="utf-8") as out:
            out.write(f"{json.dumps(asdict(entry))}\n")
        if len(self._quarantine) < _QUARANTINE_SHOWN:
            self._quarantine.append(entry)

    def _add_document(self, document: Document) -> None:
        # Another abstract of a citation belongs to the document before it, and stays in its piece.
        belongs = document.record is not None and document.id != document.record
        if self._piece.is_full() and not belongs:
            self._turn_piece()
        text, unfit = prepared(
            document, self._recipe, self._counts, self._decontamination, is_prose=self._source.is_prose
        )
        if document.record is not None:
            place = self._piece.versions[-1].place if belongs else None
            row = NO_ROW if unfit else self._piece.num_rows
            self._add_version(document.record, document.order, document.version, row=row, place=place)
        if unfit:
            self._counts[f"dropped:{unfit}"] += 1
            return
        self._counts["read"] += 1
        if document.record is None:  # else the ids of a record's versions are the same, and one of them stays
            self._keys.append(document.key)
        self._piece.add(text, document.key, held_out=is_held_out(document.group, self._recipe.held_out))

    def _add_version(
        self, record: str, order: int, version: int, *, row: int, place: int | None = None, deleted: bool = False
    ) -> None:
        place = self._counts["records"] if place is None else place
        self._piece.versions.append(Version(key_of(self._unit.source, record), order, version, place, row, deleted))

    def _add_dropped(self, record: str, order: int, version: int, *, deleted: bool = False) -> None:
        if self._piece.is_full_of_versions():
            self._turn_piece()
        self._add_version(record, order, version, row=NO_ROW, deleted=deleted)

    def _turn_piece(self) -> None:
        self._put_piece()
        self._piece = self._next_piece()

    def _put_piece(self) -> None:
        self._piece.put()
        self._sizes.append(self._piece.num_rows)

    def _next_piece(self) -> PieceWriter:
        if len(self._sizes) == PIECES_A_UNIT:
            raise SourceError(
                f"{self._unit.source}/{self._unit.name}: more than {PIECES_A_UNIT * PIECE_DOCUMENTS:,} documents in one file; "
                "split it"
            )
        return PieceWriter(self._area, self._recipe, PieceId(self._number, len(self._sizes)), self._num_partitions)


def prepared(
    document: Document,
    recipe: CorpusRecipe,
    counts: Counter[str],
    decontamination: Decontamination,
    *,
    is_prose: bool,
) -> tuple[str, str | None]:
    """Return the text as the corpus holds it, and the reason to drop it, or None; count its language and identifiers."""
    text = normalise(document.text)
    language = detect_language(text) if is_prose else None
    unfit = drop_reason(text, recipe.filters, lexicon=recipe.lexicon, language=language)
    leak = None if unfit else decontamination.leak(document, text)
    if leak:
        unfit = leak.reason
        for path in leak.paths:
            counts[f"in:{path}"] += 1
    if unfit:
        return text, unfit
    masked, identifiers = _masked(text, recipe.identifiers)
    for kind, number in identifiers.items():
        counts[f"identifier:{kind}"] += number
    if identifiers:
        counts["with_identifiers"] += 1
        if recipe.identifiers.action == "drop":
            return text, "identifiers"
        if recipe.identifiers.action == "mask":
            text = masked
    counts[f"language:{language or 'short'}"] += 1
    return text, None


def _masked(text: str, section: IdentifierSection) -> tuple[str, Counter[str]]:
    if section.engine == "presidio":
        return presidio.mask_identifiers(text, model=section.model)
    return mask_identifiers(text)
