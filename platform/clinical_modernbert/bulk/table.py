"""The table of a bulk job: its files, their columns, and their rows. Loads neither torch nor ray.

What cannot be read is quarantined with its position in the file. Rows are yielded in the same order on every read, because a
batch of the job is a range of row numbers.
"""

import logging
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from clinical_modernbert.artifacts import InputEntry, Store, open_store
from clinical_modernbert.bulk.partitions import is_left_out, values_of_columns
from clinical_modernbert.errors import SourceError
from clinical_modernbert.hashing import file_sha256
from clinical_modernbert.recipe import TableRecipe
from clinical_modernbert.sources.arrow_values import UNREADABLE, UNREADABLE_REASON, check_inflation, rows_of
from clinical_modernbert.sources.checked_records import shown_id
from clinical_modernbert.sources.column_names import check_names, described
from clinical_modernbert.sources.csv_rows import check_columns, read_rows
from clinical_modernbert.sources.document import Quarantined, is_unicode
from clinical_modernbert.sources.files import read_chunks
from clinical_modernbert.sources.inflate import DamagedFileError
from clinical_modernbert.sources.json_values import read_values

_JSON = (".jsonl", ".ndjson", ".json")
_KINDS = (".parquet", ".csv", ".csv.gz", *(f"{name}{end}" for name in _JSON for end in ("", ".gz")))
_BATCH_ROWS = 256
_WHOLE_NUMBER = re.compile(r"-?\d{1,18}", re.ASCII)
# JSON may leave out a column where it is null, so its columns are those of many rows.
_COMPARED_VALUES = 1000

_logger = logging.getLogger(__name__)

_Located = tuple[str, dict[str, Any]]
"""A row's position in its file, and its values by column as the file's library reads them."""


@dataclass(frozen=True, slots=True)
class TableFile:
    """One file of the table, by the address under which any node can read it."""

    root: str
    """Root of its store."""
    key: str
    """Its key there, and its name in messages."""


def find_tables(recipe: TableRecipe) -> list[TableFile]:
    """Return the files that ``input_uri`` names, sorted by name; raises ``SourceError`` where there are none.

    Below a folder, files and folders with a leading ``_`` or ``.`` are left out. A folder may be called ``notes.parquet``, as
    Spark calls what it writes.
    """
    has_kind = recipe.input_uri.lower().endswith(_KINDS)
    if has_kind:
        root, _, key = recipe.input_uri.rpartition("/")
        with suppress(KeyError):
            open_store(root or ".").info(key)
            return [TableFile(root or ".", key)]
    keys = [item.key for item in open_store(recipe.input_uri).walk("") if item.key.lower().endswith(_KINDS)]
    tables = [TableFile(recipe.input_uri, key) for key in keys if not is_left_out(key)]
    left_out = len(keys) - len(tables)
    if has_kind and not keys:
        raise SourceError(f"input_uri: {recipe.input_uri} does not exist")
    if not tables:
        but = f" but {left_out} below names with a leading _ or ., which are left out" if left_out else ""
        raise SourceError(f"input_uri: no {', '.join(_KINDS)} file below {recipe.input_uri!r}{but}")
    twice = sorted(table.key for table in tables if f"{table.key}.gz" in keys)
    if twice:
        raise SourceError(
            f"input_uri: {twice[0]!r} is below {recipe.input_uri!r} both plain and as .gz; remove one of the two"
        )
    if left_out:
        _logger.info("input_uri: left out %d files below names with a leading _ or .", left_out)
    return tables


@contextmanager
def fetched(table: TableFile) -> Iterator[Path]:
    """Hand out a local path of the file; a download is deleted afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        yield fetch(open_store(table.root), table, Path(folder))


def fetch(store: Store, table: TableFile, folder: Path) -> Path:
    """Return a local path of the file, downloaded into ``folder`` where it is not local."""
    try:
        return store.get_file(table.key, folder / Path(table.key).name)
    except KeyError:
        raise SourceError(f"input_uri: {table.root}/{table.key} does not exist") from None


def fingerprint_inputs(recipe: TableRecipe) -> tuple[InputEntry, ...]:
    """Return one entry a file with the sha256 of its bytes; raises ``SourceError`` where a file or a column is missing.

    Every file is read once for this, from S3 too: a table that was changed in place needs new vectors.
    """
    entries, unseen = [], []
    for table in find_tables(recipe):
        with fetched(table) as location:
            unseen.append(_check_columns(location, table, recipe))
            entries.append(InputEntry(name=table.key, id="table", digest=file_sha256(location)))
    nowhere = set(recipe.stored_columns).intersection(*unseen)
    if nowhere:
        names = ", ".join(map(repr, sorted(nowhere)))
        raise SourceError(
            f"metadata_columns: no file has {names} in its first {_COMPARED_VALUES} values; correct the name or leave it out"
        )
    return tuple(entries)


def columns_of(recipe: TableRecipe) -> tuple[str, ...]:
    """Return the columns that are read: id, text, then metadata."""
    return tuple(dict.fromkeys((recipe.id_column, recipe.text_column, *recipe.stored_columns)))


def _check_columns(location: Path, table: TableFile, recipe: TableRecipe) -> set[str]:
    """Raise ``SourceError`` where a column is missing; return the metadata columns that only other files may show to exist."""
    in_folders = values_of_columns(table.key, columns_of(recipe))
    columns = tuple(column for column in columns_of(recipe) if column not in in_folders)
    kind = _kind(table.key)
    if kind == "json":
        return _check_json(location, table.key, columns, optional=recipe.stored_columns)
    if kind == "csv":
        check_columns(location, file=table.key, columns=columns)
        return set()
    try:
        names = pq.read_schema(location).names
    except (pa.ArrowException, OSError, UnicodeDecodeError):
        return set()  # the reader quarantines a damaged file
    check_names(names, columns, table.key)
    return set()


def _check_json(location: Path, file: str, columns: tuple[str, ...], *, optional: tuple[str, ...]) -> set[str]:
    """Return the ``optional`` columns that none of the file's first values has; the others must be there."""
    first = list(islice(read_values(read_chunks(location), file=file), _COMPARED_VALUES))
    objects = [item.value for item in first if not isinstance(item, Quarantined) and isinstance(item.value, dict)]
    if not objects:
        if any(not isinstance(item, Quarantined) for item in first):
            raise SourceError(f"{file}: expected JSON objects with {', '.join(map(repr, columns))}")
        return set()
    names = list(dict.fromkeys(name for value in objects for name in value))
    missing = {column for column in columns if column not in names}
    if missing - {*optional}:
        shown = ", ".join(map(repr, sorted(missing - {*optional})))
        raise SourceError(f"{file} has no column {shown}; {described(names)}")
    return missing & {*optional}


@dataclass(frozen=True, slots=True)
class TextRow:
    """One row; an empty text is a row too, and counted as such."""

    position: str
    """``line 12`` of a CSV or JSON file, ``row 12`` of a Parquet file, ``value 12`` of a JSON array."""
    id: str
    text: str
    metadata: tuple[str | None, ...]
    """Values of the metadata columns in the recipe's order."""


def read_table_rows(
    location: Path, *, file: str, recipe: TableRecipe, start: int = 0
) -> Iterator[TextRow | Quarantined]:
    """Yield one value a row from the row ``start`` on, in the file's order. Row groups of Parquet before it are not read."""
    in_folders = values_of_columns(file, columns_of(recipe))
    columns = tuple(column for column in columns_of(recipe) if column not in in_folders)
    kind = _kind(file)
    if kind == "parquet":
        rows = _parquet_rows(location, file, columns, start=start)
    else:
        read = _csv_rows if kind == "csv" else _json_rows
        rows = islice(read(location, file, columns), start, None)
    for item in rows:
        if isinstance(item, Quarantined):
            yield item
        else:
            position, values = item
            yield _row(position, {**values, **in_folders}, file=file, recipe=recipe)


Entry = tuple[str, str, str, str | None]
"""File, position, reason and id of a quarantined row; the id is None where it is unknown."""


def quarantine_entry(item: Quarantined) -> Entry:
    """Return a quarantined row as results and ``quarantine.parquet`` keep it."""
    return item.file, item.position, item.reason, shown_id(item.record_id)


def _row(position: str, values: Mapping[str, Any], *, file: str, recipe: TableRecipe) -> TextRow | Quarantined:
    name, text = _string(values[recipe.id_column]), values[recipe.text_column]
    if not name:
        return Quarantined(file, position, f"no {recipe.id_column}")
    if recipe.needs_whole_ids and not _WHOLE_NUMBER.fullmatch(name):
        reason = f"{recipe.id_column} is no whole number as OMOP's note_id is; id_type=string keeps others"
        return Quarantined(file, position, reason, record_id=name)
    if text is not None and not isinstance(text, str):
        return Quarantined(file, position, f"{recipe.text_column} is no text", record_id=name)
    metadata = tuple(_string(values[column]) for column in recipe.stored_columns)
    columns = (recipe.id_column, *recipe.stored_columns, recipe.text_column)
    for column, value in zip(columns, (name, *metadata, text), strict=True):
        if value is not None and not is_unicode(value):
            return Quarantined(file, position, f"{column} is not Unicode")
    return TextRow(position, name, text or "", metadata)


def _csv_rows(location: Path, file: str, columns: tuple[str, ...]) -> Iterator[_Located | Quarantined]:
    for row in read_rows(read_chunks(location), file=file, columns=columns):
        if isinstance(row, Quarantined):
            yield row
        else:
            yield f"line {row.line}", dict(zip(columns, row.values, strict=True))


def _json_rows(location: Path, file: str, columns: tuple[str, ...]) -> Iterator[_Located | Quarantined]:
    for item in read_values(read_chunks(location), file=file):
        if isinstance(item, Quarantined):
            yield item
        elif not isinstance(item.value, dict):
            yield Quarantined(file, item.position, "no JSON object")
        else:
            values = {column: item.value.get(column) for column in columns}
            nested = next((column for column in columns if isinstance(values[column], dict | list)), None)
            yield (
                Quarantined(file, item.position, f"{nested} is no single value") if nested else (item.position, values)
            )


def _parquet_rows(
    location: Path, file: str, columns: tuple[str, ...], *, start: int
) -> Iterator[_Located | Quarantined]:
    number = 0
    try:
        with pq.ParquetFile(location, pre_buffer=False) as parquet:
            names = check_names(parquet.schema_arrow.names, columns, file)
            check_inflation(parquet)
            for group in range(parquet.num_row_groups):
                num_rows = parquet.metadata.row_group(group).num_rows
                if number + num_rows <= start:
                    number += num_rows
                    continue
                # Group by group: a damaged one breaks at the same row wherever the reading began.
                for values in rows_of(parquet, names, batch_rows=_BATCH_ROWS, row_groups=[group]):
                    number += 1
                    if number <= start:
                        continue
                    if UNREADABLE in values:
                        yield Quarantined(file, f"row {number}", UNREADABLE_REASON)
                    else:
                        yield f"row {number}", dict(zip(columns, values, strict=True))
    except DamagedFileError as error:
        yield Quarantined(file, error.position, error.reason)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        yield Quarantined(file, f"row {number + 1}", f"broken Parquet ({type(error).__name__}); the rest is not read")


def _kind(key: str) -> Literal["csv", "json", "parquet"]:
    """Return the format of a file by its name."""
    name = key.lower().removesuffix(".gz")
    if name.endswith(".parquet"):
        return "parquet"
    return "json" if name.endswith(_JSON) else "csv"


def _string(value: Any) -> str | None:
    """The same string whatever the format: Parquet has 7 where CSV has "7"; a missing or empty value is None."""
    if isinstance(value, float):
        return None if value != value else f"{value:.0f}" if value.is_integer() else str(value)
    return None if value is None else str(value).strip() or None
