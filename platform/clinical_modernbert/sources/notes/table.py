"""Notes in rows with named columns: CSV, Parquet or JSON, by the file's name; one document a row."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from typing import Any

from clinical_modernbert.errors import SourceError
from clinical_modernbert.recipe.sources import DatasetSource, TableSource
from clinical_modernbert.sources.arrow_values import (
    UNREADABLE,
    UNREADABLE_REASON,
    check_inflation,
    parquet_file,
    rows_of,
)
from clinical_modernbert.sources.column_names import check_names
from clinical_modernbert.sources.csv_rows import check_columns, read_rows
from clinical_modernbert.sources.document import (
    PATIENT,
    Document,
    Dropped,
    Quarantined,
    Record,
    Unit,
    group_of,
    whole_number,
)
from clinical_modernbert.sources.event_texts import iso_time
from clinical_modernbert.sources.files import Progress, file_units, path_field, read_chunks
from clinical_modernbert.sources.inflate import DamagedFileError
from clinical_modernbert.sources.json_values import read_values

_BATCH_ROWS = 256
_DIGITS = re.compile(r"[+-]?\d{1,99}", re.ASCII)
# Without underscores, in lower case.
_PATIENT_COLUMNS = frozenset({"subjectid", "personid", "patientid", "patient", "patientnum", "patid", "mrn"})


def units(source: TableSource) -> list[Unit]:
    """Return the file; raises ``SourceError`` where it does not exist or lacks a column."""
    name = source.path.rpartition("/")[2]
    try:
        return file_units(source.name, [(name, source.path)], check=lambda _, location: check_table(location, source))
    except (FileNotFoundError, IsADirectoryError):
        raise SourceError(
            f"{path_field(source.name)}: {source.path!r} is not a file; expected a CSV file with a header, Parquet or JSON"
        ) from None


def read(source: TableSource, unit: Unit, progress: Progress) -> Iterator[Record]:
    """Yield one value for each row."""
    return read_table(unit.location, file=unit.name, source=source, progress=progress)


def licence(source: TableSource) -> None:
    """Return None: the files are the user's own."""


def table_columns(source: TableSource | DatasetSource) -> tuple[str, ...]:
    """Return the columns that must be in the file: text, then id, group and version where they are named."""
    version = source.version_column if isinstance(source, TableSource) else None
    return tuple(c for c in (source.text_column, source.id_column, source.group_column, version) if c is not None)


def check_table(location: str, source: TableSource) -> None:
    """Raise ``SourceError`` where the file lacks a column; a damaged file is left to the reader."""
    columns = table_columns(source)
    if _kind(location) == "csv":
        check_columns(location, file=_name(location), columns=columns, quoted=source.quoted)
    elif _kind(location) == "parquet":
        import pyarrow as pa

        try:
            with parquet_file(location) as parquet:
                names = parquet.schema_arrow.names
        except (pa.ArrowException, OSError, UnicodeDecodeError):
            return
        check_names(names, columns, _name(location))


def read_table(location: str, *, file: str, source: TableSource, progress: Progress) -> Iterator[Record]:
    """Yield one value for each row; rows without text are dropped as ``empty``.

    The id is the id column's value, or the row number from 1. The group is ``<group name>:<value>``, so that sources of the same
    patients share their groups, or the document itself.
    """
    kind = _kind(location)
    if kind == "csv":
        columns = table_columns(source)
        for row in read_rows(read_chunks(location, progress), file=file, columns=columns, quoted=source.quoted):
            if isinstance(row, Quarantined):
                yield row
            else:
                named = dict(zip(columns, row.values, strict=True))
                yield record_of(named, row.number, f"line {row.line}", file=file, source=source)
    elif kind == "parquet":
        yield from _read_parquet(location, file=file, source=source, progress=progress)
    else:
        yield from _read_json(location, file=file, source=source, progress=progress)


def record_of(
    named: Mapping[str, Any], number: int, position: str, *, file: str, source: TableSource | DatasetSource
) -> Record:
    """Return the document of a row, given by column; ``number`` is its id where the source names no column for that."""
    document_id = str(number) if source.id_column is None else string_of(named[source.id_column])
    value = document_id if source.group_column is None else string_of(named[source.group_column])
    text = named[source.text_column]
    if not document_id or not value:
        missing = source.group_column if document_id else source.id_column
        return Quarantined(file, position, f"no {missing}", record_id=document_id or None)
    if text is not None and not isinstance(text, str):
        return Quarantined(file, position, f"{source.text_column} is no text", record_id=document_id)
    version_column = source.version_column if isinstance(source, TableSource) else None
    version = None if version_column is None else version_number(named[version_column])
    if version_column is not None and version is None:
        return Quarantined(file, position, f"{version_column} is no number or time", record_id=document_id)
    record = None if version is None else document_id
    if not text or not text.strip():
        return Dropped("empty", record, version or 0)
    group = f"{source.name}:{value}" if source.group_column is None else group_of(group_name(source), value)
    return Document(document_id, source.name, group, text, version or 0, record=record)


def group_name(source: TableSource | DatasetSource) -> str:
    """Return what the groups of a source are; columns of patients have many names, and their groups one."""
    column = source.group_column or source.name
    return source.group_name or (PATIENT if column.lower().replace("_", "") in _PATIENT_COLUMNS else column)


def version_number(value: Any) -> int | None:
    """Return the number of a revision, or the microseconds of its time; None for anything else."""
    if isinstance(value, datetime | date):
        value = value.isoformat()
    text = whole_number(string_of(value))
    if _DIGITS.fullmatch(text):
        return int(text)
    moment = iso_time(text)
    if moment is None:
        return None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000_000)


def string_of(value: Any) -> str:
    """Identifiers as the same string in every format: Parquet has 7 where CSV has "7"; a missing one is empty."""
    if isinstance(value, float):
        return "" if value != value else f"{value:.0f}" if value.is_integer() else str(value)
    return "" if value is None else str(value).strip()


def _read_parquet(location: str, *, file: str, source: TableSource, progress: Progress) -> Iterator[Record]:
    import pyarrow as pa

    columns = table_columns(source)
    number = 0
    try:
        with parquet_file(location, progress) as parquet:
            check_inflation(parquet)
            names = check_names(parquet.schema_arrow.names, columns, file)
            for values in rows_of(parquet, names, batch_rows=_BATCH_ROWS):
                number += 1
                if UNREADABLE in values:
                    yield Quarantined(file, f"row {number}", UNREADABLE_REASON)
                else:
                    named = dict(zip(columns, values, strict=True))
                    yield record_of(named, number, f"row {number}", file=file, source=source)
                if number % _BATCH_ROWS == 0:
                    progress.count_rows(number, parquet.metadata.num_rows)
        progress.is_whole = True
    except DamagedFileError as error:
        yield Quarantined(file, error.position, error.reason)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        yield Quarantined(file, f"row {number + 1}", f"broken Parquet ({type(error).__name__}); the rest is not read")


def _read_json(location: str, *, file: str, source: TableSource, progress: Progress) -> Iterator[Record]:
    columns = table_columns(source)
    for item in read_values(read_chunks(location, progress), file=file):
        if isinstance(item, Quarantined):
            yield item
        elif not isinstance(item.value, dict) or (named := _named(item.value, columns)) is None:
            reason = f"expected a JSON object with {', '.join(columns)}"
            yield Quarantined(file, item.position, reason, sha256=item.sha256)
        else:
            yield record_of(named, item.number, item.position, file=file, source=source)


def _named(value: Mapping[str, Any], columns: tuple[str, ...]) -> dict[str, Any] | None:
    """Return the values of ``columns``, exactly so named, else whatever their case; None where one is missing."""
    lower = {} if all(column in value for column in columns) else {name.lower(): name for name in value}
    names = {column: column if column in value else lower.get(column.lower(), "") for column in columns}
    return {column: value[name] for column, name in names.items()} if all(names.values()) else None


def _name(location: str) -> str:
    return location.rpartition("/")[2]


def _kind(location: str) -> str:
    name = _name(location).lower().removesuffix(".gz")
    if name.endswith(".parquet"):
        return "parquet"
    return "json" if name.endswith((".json", ".jsonl", ".ndjson")) else "csv"
