"""Tables of an OMOP CDM: where they are, and their rows as texts, from CSV of any case and delimiter, Parquet or a DuckDB file.

A DuckDB file is opened read-only, and nothing in it may read other files.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from clinical_modernbert.artifacts.remote_files import fetched, is_remote
from clinical_modernbert.errors import SourceError
from clinical_modernbert.sources.arrow_values import (
    UNREADABLE,
    UNREADABLE_REASON,
    check_inflation,
    parquet_file,
    readable,
)
from clinical_modernbert.sources.column_names import check_names
from clinical_modernbert.sources.csv_rows import read_rows
from clinical_modernbert.sources.document import Quarantined
from clinical_modernbert.sources.event_texts import number_text
from clinical_modernbert.sources.files import Progress, find_files, read_chunks
from clinical_modernbert.sources.inflate import DamagedFileError
from clinical_modernbert.sources.notes.table import string_of

_ENDINGS = ("csv", "csv.gz", "tsv", "tsv.gz", "txt", "txt.gz", "parquet")
TABLE_PATTERNS = tuple(f"*.{e}" for ending in _ENDINGS for e in (ending, ending.upper()))
_BATCH_ROWS = 4096
_DUCKDB_MAGIC = b"DUCK"  # from byte 8
_DUCKDB_ENDINGS = (".duckdb", ".ddb", ".db")

Columns = Sequence[str]
PlacedRow = tuple[str, tuple[str, ...]]
"""Where a row is, and its values: those of the columns, then of the optional ones, empty where there is none."""


def is_duckdb(path: str) -> bool:
    """Return whether ``path`` is a DuckDB file: by its first bytes, in S3 by its name."""
    if is_remote(path):
        return path.lower().endswith(_DUCKDB_ENDINGS)
    file = Path(path)
    if not file.is_file():
        return False
    with file.open("rb") as stream:
        return stream.read(12)[8:] == _DUCKDB_MAGIC


def table_files(path: str, table: str, *, field: str) -> list[tuple[str, str]]:
    """Return (name, location) of the files of ``table`` below ``path``, of any case: one file, or a folder of shards."""
    found = find_files(
        path, field=field, patterns=TABLE_PATTERNS, chosen=lambda name: holds(name, table), required=False
    )
    return [file for file in found if holds(file[0], table)]  # a path of one file is taken as it is


def holds(name: str, table: str) -> bool:
    """Whether the file ``name`` is of ``table``: by its own name, or that of its folder.

    Spark writes ``note.parquet/part-0000.snappy.parquet``, and ``note/year=2180/part-0000.parquet`` in partitions.
    """
    *folders, base = name.lower().split("/")
    stem = base.removesuffix(".gz").rpartition(".")[0]
    folder = next((part for part in reversed(folders) if "=" not in part), "")
    return table in (stem, folder, folder.rpartition(".")[0])


def table_rows(
    location: str, *, file: str, table: str, columns: Columns, optional: Columns, quoted: bool, progress: Progress
) -> Iterator[PlacedRow | Quarantined]:
    """Yield each row of a table; raises ``SourceError`` where it lacks one of ``columns``."""
    if is_duckdb(location):
        with fetched(location) as local:
            yield from _duckdb_rows(local, table, columns, optional)
    elif location.lower().endswith(".parquet"):
        yield from _parquet_rows(location, file, columns, optional, progress)
    else:
        chunks = read_chunks(location, progress)
        for row in read_rows(chunks, file=file, columns=tuple(columns), optional=tuple(optional), quoted=quoted):
            yield row if isinstance(row, Quarantined) else (f"line {row.line}", row.values)


def is_tabbed(location: str) -> bool:
    """Whether the header of a CSV file has tabs; of a damaged file no."""
    try:
        return b"\t" in next(read_chunks(location), b"").partition(b"\n")[0]
    except DamagedFileError:
        return False


def duckdb_tables(path: str, *, field: str) -> dict[str, tuple[str, str]]:
    """Return (schema, name) of each table of a DuckDB file by its name in lower case; raises ``SourceError``."""
    with ExitStack() as opened:
        try:
            local = opened.enter_context(fetched(path))
        except FileNotFoundError:
            raise SourceError(f"{field}: {path!r} does not exist") from None
        tables: dict[str, tuple[str, str]] = {}
        query = "SELECT table_schema, table_name FROM information_schema.tables WHERE table_type = 'BASE TABLE' ORDER BY 1, 2"
        for schema, name in _connect(local, field).execute(query).fetchall():
            if name.lower() in tables:
                raise SourceError(f"{field}: {path!r} has the table {name.lower()} twice, in two schemas; leave one")
            tables[name.lower()] = (schema, name)
        return tables


def _connect(location: Path, field: str) -> Any:
    try:
        import duckdb
    except ImportError:
        raise SourceError(
            f"{field} is a DuckDB file: install the package duckdb (clinical-modernbert[duckdb])"
        ) from None
    try:
        return duckdb.connect(str(location), read_only=True, config={"enable_external_access": "false"})
    except duckdb.Error as error:
        raise SourceError(
            f"{field}: {location.name} cannot be opened by DuckDB {duckdb.__version__} ({type(error).__name__})"
        ) from None


def _duckdb_rows(location: Path, table: str, columns: Columns, optional: Columns) -> Iterator[PlacedRow]:
    schema, name = duckdb_tables(str(location), field=location.name)[table]
    connection = _connect(location, location.name)
    place = f'"{schema}"."{name.replace(chr(34), chr(34) * 2)}"'
    found = [row[0] for row in connection.execute(f"DESCRIBE {place}").fetchall()]
    names = _names(found, columns, optional, f"{location.name}, table {table}")
    chosen = ", ".join(f'"{column}"' if column else "NULL" for column in names)
    batches = connection.sql(f"SELECT {chosen} FROM {place}").to_arrow_reader(_BATCH_ROWS)
    number = 0
    for batch in batches:
        for values in zip(*map(_texts, batch.columns), strict=True):
            number += 1
            yield f"{table}, row {number}", values


def _parquet_rows(
    location: str, file: str, columns: Columns, optional: Columns, progress: Progress
) -> Iterator[PlacedRow | Quarantined]:
    import pyarrow as pa

    number = 0
    try:
        with parquet_file(location, progress) as parquet:
            check_inflation(parquet)
            names = _names(parquet.schema_arrow.names, columns, optional, file)
            present = list(dict.fromkeys(name for name in names if name))
            for batch in parquet.iter_batches(batch_size=_BATCH_ROWS, columns=present):
                empty = [""] * batch.num_rows
                texts = {name: _texts(batch.column(name)) for name in present}
                for values in zip(*(texts[name] if name else empty for name in names), strict=True):
                    number += 1
                    if UNREADABLE in values:
                        yield Quarantined(file, f"row {number}", UNREADABLE_REASON)
                    else:
                        yield f"row {number}", values
                progress.count_rows(number, parquet.metadata.num_rows)
        progress.is_whole = True
    except DamagedFileError as error:
        yield Quarantined(file, error.position, error.reason)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        yield Quarantined(file, f"row {number + 1}", f"broken Parquet ({type(error).__name__}); the rest is not read")


def _names(found: Sequence[str], columns: Columns, optional: Columns, file: str) -> list[str]:
    """Return the names of the columns as the table spells them, empty for an optional one that it lacks."""
    lower = {name.lower(): name for name in found}
    return [*check_names(found, columns, file), *(lower.get(name, "") for name in optional)]


def _texts(column: Any) -> list[Any]:
    """Return a column's values as texts; 32-bit numbers have the digits that they hold and no more."""
    import pyarrow.types as types

    try:
        values = column.to_pylist()
    except (ValueError, OverflowError):  # not UTF-8, or a year beyond those of datetime
        values = [readable(value) for value in column]
    if types.is_float32(column.type):
        return ["" if value is None or value != value else number_text(value) for value in values]
    return [value if value is UNREADABLE else string_of(value) for value in values]
