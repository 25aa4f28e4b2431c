"""The NOTE table of OMOP's CDM 5.x: CSV of any delimiter and case, Parquet, or in a DuckDB file; one document a note, grouped by
patient.

OMOP has no revisions of notes, and a note's title is not part of its text. ``omop_events`` reads the other tables.
"""

from collections.abc import Iterator

from clinical_modernbert.artifacts.remote_files import open_location
from clinical_modernbert.errors import SourceError
from clinical_modernbert.recipe.sources import OmopNoteSource, TableSource
from clinical_modernbert.sources.document import Quarantined, Record, Unit
from clinical_modernbert.sources.files import Progress, file_units, find_files, is_folder, path_field, size_of
from clinical_modernbert.sources.notes.omop_tables import (
    TABLE_PATTERNS,
    duckdb_tables,
    holds,
    is_duckdb,
    table_files,
    table_rows,
)
from clinical_modernbert.sources.notes.table import check_table, read_table, record_of

_TABLE = "note"
_COLUMNS = ("note_text", "note_id", "person_id")


def units(source: OmopNoteSource) -> list[Unit]:
    """Return the files of the table; raises ``SourceError`` where one lacks a column."""
    field = path_field(source.name)
    if is_duckdb(source.path):
        if _TABLE not in duckdb_tables(source.path, field=field):
            raise SourceError(f"{field}: {source.path!r} has no table note")
        return file_units(source.name, [(source.path.rpartition("/")[2], source.path)], check=_check_duckdb)
    files = _files(source.path, field)
    if not files:
        raise SourceError(
            f"{field}: no table note below {source.path!r}; expected note.csv, note.parquet or another usual ending, of any case "
            "and plain or gzip, or a folder note of such files"
        )
    return file_units(source.name, files, check=lambda _, location: check_table(location, _table(source, location)))


def read(source: OmopNoteSource, unit: Unit, progress: Progress) -> Iterator[Record]:
    """Yield one value for each note."""
    if is_duckdb(unit.location):
        return _read_duckdb(unit.location, unit.name, source, progress)
    table = _table(source, unit.location)
    return read_table(unit.location, file=unit.name, source=table, progress=progress)


def licence(source: OmopNoteSource) -> None:
    """Return None: the notes are the user's own."""


def _files(path: str, field: str) -> list[tuple[str, str]]:
    top = path.rstrip("/").rpartition("/")[2]
    if not is_folder(path) or holds(f"{top}/", _TABLE):  # one file, whatever its name, or the table's own folder
        return find_files(path, field=field, patterns=TABLE_PATTERNS, required=False)
    return table_files(path, _TABLE, field=field)


def _check_duckdb(name: str, location: str) -> None:
    for _ in _duckdb_rows(location, name, Progress()):
        break  # the table has all columns


def _read_duckdb(location: str, file: str, source: OmopNoteSource, progress: Progress) -> Iterator[Record]:
    with open_location(location) as stream:
        progress.size_bytes, progress.is_whole = size_of(stream), True
    table = _table(source, location)
    for number, row in enumerate(_duckdb_rows(location, file, progress), start=1):
        if isinstance(row, Quarantined):
            yield row
        else:
            position, values = row
            yield record_of(dict(zip(_COLUMNS, values, strict=True)), number, position, file=file, source=table)


def _duckdb_rows(location: str, file: str, progress: Progress) -> Iterator[tuple[str, tuple[str, ...]] | Quarantined]:
    return table_rows(location, file=file, table=_TABLE, columns=_COLUMNS, optional=(), quoted=True, progress=progress)


def _table(source: OmopNoteSource, location: str) -> TableSource:
    return TableSource(
        type="table",
        name=source.name,
        path=location,
        text_column="note_text",
        id_column="note_id",
        group_column="person_id",
        quoted=source.quoted,
    )
