"""Notes in the rows of a Hugging Face data set: a hub id at a commit, or a folder; one document a row, streaming.

A folder in S3 is copied to the worker's disk, because the library opens its files itself.
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from clinical_modernbert.artifacts.remote_files import is_remote, local_copy
from clinical_modernbert.errors import SourceError
from clinical_modernbert.hashing import file_sha256
from clinical_modernbert.recipe.sources import DatasetSource
from clinical_modernbert.sources.column_names import check_names
from clinical_modernbert.sources.document import Record, Unit
from clinical_modernbert.sources.files import Progress, all_files, file_units, path_field
from clinical_modernbert.sources.notes.table import record_of, table_columns

_CSV = {".csv", ".tsv"}
_SAVED = ("dataset_info.json", "dataset_dict.json")


def units(source: DatasetSource) -> list[Unit]:
    """Return the data set as one unit."""
    return [Unit(source.name, Path(source.path).name, source.path, digest=dataset_digest(source))]


def read(source: DatasetSource, unit: Unit, progress: Progress) -> Iterator[Record]:
    """Yield one value for each row."""
    if not is_remote(source.path):
        yield from read_dataset(source)
        return
    local = source.model_copy(update={"path": str(local_copy(source.path))})
    if dataset_digest(source) != unit.digest:
        raise SourceError(f"{unit.source}/{unit.name} changed since it was listed; run the build again")
    yield from read_dataset(local)


def licence(source: DatasetSource) -> None:
    """Return None: the data set is of the user's choice."""


def dataset_digest(source: DatasetSource) -> str:
    """Return the sha256 of a folder's files (in S3: of their ETags and sizes), or of a hub id with its commit.

    Raises ``SourceError`` for a hub id without one, and for an address with nothing below it.
    """
    folder = Path(source.path)
    parts = [str(source.configuration), source.split]
    if is_remote(source.path):
        files_there = all_files(source.path)
        if not files_there:
            raise SourceError(f"{path_field(source.name)}: {source.path!r} does not exist")
        parts += [f"{unit.name}\0{unit.digest}" for unit in file_units(source.name, files_there)]
    elif folder.is_dir():
        files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
        parts += [f"{p.relative_to(folder).as_posix()}\0{file_sha256(p)}" for p in files]
    elif source.revision is None:
        raise SourceError(
            f"{path_field(source.name)}: {source.path!r} is not a folder; give a folder, or a hub id "
            "together with revision, its commit"
        )
    else:
        parts += [source.path, source.revision]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def read_dataset(source: DatasetSource) -> Iterator[Record]:
    """Yield one value for each row of a data set, streaming; ids and groups as in ``read_table``.

    Raises ``SourceError`` where it cannot be loaded (offline, unknown id or split), lacks a column, or has a file that cannot be
    read: how many rows would be lost with that file is unknown.
    """
    import datasets
    import pyarrow as pa

    folder, columns = Path(source.path), table_columns(source)
    try:
        if folder.is_dir() and any((folder / name).is_file() for name in _SAVED):
            data = datasets.load_from_disk(source.path)
            if isinstance(data, datasets.DatasetDict):
                data = data[source.split]
        else:
            data = datasets.load_dataset(
                source.path,
                source.configuration,
                split=source.split,
                revision=source.revision,
                streaming=True,
                **_as_text(folder, columns),
            )
        rows = iter(data)
        first = next(rows, None)
    except (OSError, ValueError, KeyError, datasets.exceptions.DatasetsError) as error:
        raise SourceError(
            f"{path_field(source.name)}: the data set {source.path!r}, split {source.split!r}, cannot be loaded "
            f"({type(error).__name__})"
        ) from None
    if first is None:
        return
    names = check_names(list(first), columns, source.path)

    def record(row: Mapping[str, Any], number: int) -> Record:
        named = {column: row[name] for column, name in zip(columns, names, strict=True)}
        return record_of(named, number, f"row {number}", file=source.path, source=source)

    yield record(first, 1)
    number = 1
    try:
        for number, row in enumerate(rows, start=2):
            yield record(row, number)
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException, datasets.exceptions.DatasetsError) as error:
        raise SourceError(
            f"{path_field(source.name)}: the data set {source.path!r} cannot be read after row {number} ({type(error).__name__})"
            f"{_odd_file(folder)}; repair it, or leave its broken file out"
        ) from None


def _as_text(folder: Path, columns: tuple[str, ...]) -> dict[str, Any]:
    """Return settings by which pandas reads CSV files as they are: else 0012 is 12, and the text ``NA`` is missing."""
    # ``notes.csv.gz`` and ``notes.tsv`` are read by pandas, too.
    holds_csv = folder.is_dir() and any(not _CSV.isdisjoint(path.suffixes) for path in folder.rglob("*"))
    return {"converters": dict.fromkeys(columns, str), "keep_default_na": False} if holds_csv else {}


def _odd_file(folder: Path) -> str:
    """Return which Parquet file below ``folder`` is broken or has other columns than the first, for a message."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names: list[str] | None = None
    for path in sorted(folder.rglob("*.parquet")) if folder.is_dir() else ():
        try:
            found = pq.read_schema(path).names
        except (OSError, pa.ArrowException):
            return f": {path.relative_to(folder).as_posix()} is no readable Parquet"
        names = names or found
        if found != names:
            return f": {path.relative_to(folder).as_posix()} has other columns than the first file"
    return ""
