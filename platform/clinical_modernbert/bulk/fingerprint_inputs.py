"""The files of a bulk job: which ones, what they hold, and that their columns are there. Loads neither torch nor ray."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from clinical_modernbert.artifacts import InputEntry, Store, open_store
from clinical_modernbert.errors import SourceError
from clinical_modernbert.hashing import file_sha256
from clinical_modernbert.recipe import EmbedRecipe
from clinical_modernbert.sources.csv_rows import check_columns

_KINDS = (".csv", ".csv.gz", ".parquet")


@dataclass(frozen=True, slots=True)
class TableFile:
    """One file of the table, as a task finds it from any node."""

    root: str
    """Root of the store that it lies in."""
    key: str
    """Its key there, which is also its name in messages."""

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
    found = [TableFile(recipe.input_uri, key) for key in keys if key.lower().endswith(_KINDS)]
    if not found:
        raise SourceError(f"input_uri: no {', '.join(_KINDS)} file below {recipe.input_uri!r}")
    return found


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


def raw_inputs(recipe: EmbedRecipe) -> tuple[InputEntry, ...]:
    """Return one entry a file with the sha256 of its bytes; raises ``SourceError`` where a file or a column is missing.

    Every file is read once for this, from S3 too: the vectors of a table that was changed in place must be new work.
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
    except (pa.ArrowInvalid, OSError):
        return  # a damaged file is left to the reader, which quarantines it
    missing = [column for column in columns if column not in names]
    if missing:
        raise SourceError(
            f"{table.key} has no column {', '.join(map(repr, missing))}; its columns are {', '.join(map(repr, names))}"
        )
