"""Generated notes as CSV files in the columns of MIMIC-IV-Note's ``discharge``, read by its reader."""

import csv
import io
from collections.abc import Iterator

from clinical_modernbert.recipe.sources import SyntheticNoteSource
from clinical_modernbert.sources.document import Record, Unit
from clinical_modernbert.sources.files import Progress
from clinical_modernbert.sources.generated import LICENCE, indexes, parts
from clinical_modernbert.sources.notes.mimic import read_notes

_COLUMNS = ("note_id", "subject_id", "hadm_id", "note_type", "note_seq", "charttime", "storetime", "text")


def units(source: SyntheticNoteSource) -> list[Unit]:
    """Return the parts."""
    return parts(source)


def read(source: SyntheticNoteSource, unit: Unit, progress: Progress) -> Iterator[Record]:
    """Yield one value for each generated note."""
    return read_notes(note_chunks(source, unit), file=unit.name, source=source.name)


def licence(source: SyntheticNoteSource) -> str:
    """Return that generated text has none."""
    return LICENCE


def note_chunks(source: SyntheticNoteSource, unit: Unit) -> Iterator[bytes]:
    """Yield a part as a CSV file, a line at a time."""
    from clinical_modernbert.sources.generated.notes import make_note

    yield _csv_line(_COLUMNS)
    for index in indexes(unit):
        note = make_note(source.seed, index)
        identity = (f"{note.subject_id}-DS-{note.sequence}", note.subject_id, note.admission_id, "DS", note.sequence)
        yield _csv_line((*identity, note.time, note.time, note.text))


def _csv_line(values: tuple[object, ...]) -> bytes:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue().encode()
