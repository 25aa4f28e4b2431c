"""The table of a bulk job: its files, their columns, and their rows. Loads neither torch nor ray.

What cannot be read is quarantined with its position in the file. Rows are yielded in the same order on every read, because a
batch of the job is a range of row numbers.
"""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from clinical_modernbert.artifacts import InputEntry, Store, open_store
from clinical_modernbert.errors import SourceError
from clinical_modernbert.hashing import file_sha256
from clinical_modernbert.recipe import EmbedRecipe
from clinical_modernbert.sources.arrow_values import UNREADABLE, UNREADABLE_REASON, check_inflation, rows_of
from clinical_modernbert.sources.checked_records import shown_id
from clinical_modernbert.sources.column_names import check_names
from clinical_modernbert.sources.csv_rows import check_columns, read_rows
from clinical_modernbert.sources.document import Quarantined
from clinical_modernbert.sources.files import read_chunks
from clinical_modernbert.sources.inflate import DamagedFileError

_KINDS = (".csv", ".csv.gz", ".parquet")
_BATCH_ROWS = 256

_Located = tuple[str, dict[str, Any]]
"""A row's position in its file, and its values by column as the file's library reads them."""


@dataclass(frozen=True, slots=True)
class TableFile:
    """One file of the table, by the address under which any node can read it."""

    root: str
    """Root of its store."""
    key: str
    """Its key there, and its name in messages."""

    @property
    def is_parquet(self) -> bool:
        """Parquet by its name; CSV otherwise."""
        return self.key.lower().endswith(".parquet")


def find_tables(recipe: EmbedRecipe) -> list[TableFile]:
    """Return the files that ``input_uri`` names, sorted by name; raises ``SourceError`` where there are none."""
    if recipe.input_uri.lower().endswith(_KINDS):
        root, _, key = recipe.input_uri.rpartition("/")
        return [TableFile(root or ".", key)]
    keys = [item.key for item in open_store(recipe.input_uri).walk("")]
    tables = [TableFile(recipe.input_uri, key) for key in keys if key.lower().endswith(_KINDS)]
    if not tables:
        raise SourceError(f"input_uri: no {', '.join(_KINDS)} file below {recipe.input_uri!r}")
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


def fingerprint_inputs(recipe: EmbedRecipe) -> tuple[InputEntry, ...]:
    """Return one entry a file with the sha256 of its bytes; raises ``SourceError`` where a file or a column is missing.

    Every file is read once for this, from S3 too: a table that was changed in place needs new vectors.
    """
    entries = []
    for table in find_tables(recipe):
        with fetched(table) as location:
            _check_columns(location, table, recipe)
            entries.append(InputEntry(name=table.key, id="table", digest=file_sha256(location)))
    return tuple(entries)


def columns_of(recipe: EmbedRecipe) -> tuple[str, ...]:
    """Return the columns that are read: id, text, then metadata."""
    return tuple(dict.fromkeys((recipe.id_column, recipe.text_column, *recipe.metadata_columns)))


def _check_columns(location: Path, table: TableFile, recipe: EmbedRecipe) -> None:
    columns = columns_of(recipe)
    if not table.is_parquet:
        check_columns(location, file=table.key, columns=columns)
        return
    try:
        names = pq.read_schema(location).names
    except (pa.ArrowException, OSError, UnicodeDecodeError):
        return  # the reader quarantines a damaged file
    check_names(names, columns, table.key)


@dataclass(frozen=True, slots=True)
class TextRow:
    """One row; an empty text is a row too, and counted as such."""

    position: str
    """``line 12`` of a CSV file, ``row 12`` of a Parquet file."""
    id: str
    text: str
    metadata: tuple[str | None, ...]
    """Values of the metadata columns in the recipe's order."""


def read_table_rows(
    location: Path, *, file: str, recipe: EmbedRecipe, start: int = 0
) -> Iterator[TextRow | Quarantined]:
    """Yield one value a row from the row ``start`` on, in the file's order. Row groups of Parquet before it are not read."""
    columns = columns_of(recipe)
    rows = (
        _parquet_rows(location, file, columns, start=start)
        if file.lower().endswith(".parquet")
        else islice(_csv_rows(location, file, columns), start, None)
    )
    for item in rows:
        yield item if isinstance(item, Quarantined) else _row(*item, file=file, recipe=recipe)


Entry = tuple[str, str, str, str | None]
"""File, position, reason and id of a quarantined row; the id is None where it is unknown."""


def quarantine_entry(item: Quarantined) -> Entry:
    """Return a quarantined row as results and ``quarantine.parquet`` keep it."""
    return item.file, item.position, item.reason, shown_id(item.record_id)


def _row(position: str, values: Mapping[str, Any], *, file: str, recipe: EmbedRecipe) -> TextRow | Quarantined:
    name, text = _string(values[recipe.id_column]), values[recipe.text_column]
    if not name:
        return Quarantined(file, position, f"no {recipe.id_column}")
    if text is not None and not isinstance(text, str):
        return Quarantined(file, position, f"{recipe.text_column} is no text", record_id=name)
    return TextRow(position, name, text or "", tuple(_string(values[column]) for column in recipe.metadata_columns))


def _csv_rows(location: Path, file: str, columns: tuple[str, ...]) -> Iterator[_Located | Quarantined]:
    for row in read_rows(read_chunks(location), file=file, columns=columns):
        if isinstance(row, Quarantined):
            yield row
        else:
            yield f"line {row.line}", dict(zip(columns, row.values, strict=True))


def _parquet_rows(
    location: Path, file: str, columns: tuple[str, ...], *, start: int
) -> Iterator[_Located | Quarantined]:
    number = 0
    try:
        with pq.ParquetFile(location) as parquet:
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


def _string(value: Any) -> str | None:
    """The same string whatever the format: Parquet has 7 where CSV has "7"; a missing or empty value is None."""
    if isinstance(value, float):
        return None if value != value else f"{value:.0f}" if value.is_integer() else str(value)
    return None if value is None else str(value).strip() or None
