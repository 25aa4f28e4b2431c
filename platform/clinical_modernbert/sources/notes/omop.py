"""The NOTE table of OMOP's CDM 5.x: CSV of any delimiter and case, or Parquet; one document a note, grouped by patient.

OMOP has no revisions of notes, and a note's title is not part of its text. Events (CONDITION_OCCURRENCE and others) are not read:
MEDS converters exist for them, and ``meds`` reads what they write.
"""

from collections.abc import Iterator
from pathlib import Path

from clinical_modernbert.recipe.sources import OmopNoteSource, TableSource
from clinical_modernbert.sources.document import Record, Unit
from clinical_modernbert.sources.files import Progress, file_units, find_files, is_folder, path_field
from clinical_modernbert.sources.notes.table import check_table, read_table

_ENDINGS = ("csv", "csv.gz", "tsv", "tsv.gz", "txt", "txt.gz", "parquet")
_PATTERNS = tuple(f"{name}.{ending}" for name in ("note", "NOTE", "Note") for ending in _ENDINGS)


def units(source: OmopNoteSource) -> list[Unit]:
    """Return the files of the table; raises ``SourceError`` where one lacks a column."""
    folders = [f"{source.path.rstrip('/')}/{name}" for name in ("note", "NOTE")]
    shards = next(filter(is_folder, folders), None)
    where, patterns = (shards, ("*.parquet", "*.csv", "*.csv.gz")) if shards else (source.path, _PATTERNS)
    files = find_files(where, field=path_field(source.name), patterns=patterns)
    return file_units(source.name, files, check=lambda _, local: check_table(local, _table(source, local)))


def read(source: OmopNoteSource, unit: Unit, progress: Progress) -> Iterator[Record]:
    """Yield one value for each note."""
    location = Path(unit.location)
    return read_table(location, file=unit.name, source=_table(source, location), progress=progress)


def licence(source: OmopNoteSource) -> None:
    """Return None: the notes are the user's own."""


def _table(source: OmopNoteSource, location: Path) -> TableSource:
    return TableSource(
        type="table",
        name=source.name,
        path=str(location),
        text_column="note_text",
        id_column="note_id",
        group_column="person_id",
        quoted=source.quoted,
    )
