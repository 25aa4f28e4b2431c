"""Generated sources: parts of at most 500 records, rendered in the real formats and read by the real readers.

A record is a pure function of (seed, its index), so parts can be made in any order and on any machine. ``VERSION`` enters every
digest: raise it when a generated text changes.
"""

import csv
import hashlib
import io
import json
from collections.abc import Iterator

from clinical_modernbert.recipe.sources import SyntheticNoteSource, SyntheticPubMedSource
from clinical_modernbert.sources.document import Unit

VERSION = 1
PART_RECORDS = 500

_NOTE_COLUMNS = ("note_id", "subject_id", "hadm_id", "note_type", "note_seq", "charttime", "storetime", "text")


def list_parts(source: SyntheticNoteSource | SyntheticPubMedSource) -> list[Unit]:
    """Return the parts of a generated source; the digest covers the generator's version, the seed and the records."""
    parts = []
    for number, first in enumerate(range(0, source.num_documents, PART_RECORDS)):
        count = min(PART_RECORDS, source.num_documents - first)
        settings = {"version": VERSION, "type": source.type, "seed": source.seed, "first": first, "records": count}
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        parts.append(Unit(source.name, f"part-{number:06d}", "", first_record=first, num_records=count, digest=digest))
    return parts


def note_chunks(source: SyntheticNoteSource, unit: Unit) -> Iterator[bytes]:
    """Yield a part's notes as a CSV file in the columns of MIMIC-IV-Note's ``discharge``."""
    from clinical_modernbert.sources.generated.notes import make_note

    yield _csv_line(_NOTE_COLUMNS)
    for index in _indexes(unit):
        note = make_note(source.seed, index)
        identity = (f"{note.subject_id}-DS-{note.sequence}", note.subject_id, note.admission_id, "DS", note.sequence)
        yield _csv_line((*identity, note.time, note.time, note.text))


def citation_chunks(source: SyntheticPubMedSource, unit: Unit) -> Iterator[bytes]:
    """Yield a part's citations as an XML file in the form of the current PubMed DTD."""
    from clinical_modernbert.sources.generated.pubmed import make_citation

    yield b'<?xml version="1.0" encoding="utf-8"?>\n<PubmedArticleSet>\n'
    for index in _indexes(unit):
        yield make_citation(source.seed, index).encode()
    yield b"</PubmedArticleSet>\n"


def _indexes(unit: Unit) -> range:
    assert unit.num_records is not None, "a generated part names its records"
    return range(unit.first_record, unit.first_record + unit.num_records)


def _csv_line(values: tuple[object, ...]) -> bytes:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue().encode()
