"""Labelled texts in the user's own files, one text or pair a row: CSV with a header, JSON lines, Parquet or Feather."""

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clinical_modernbert.errors import SourceError
from clinical_modernbert.sources.arrow_values import UNREADABLE, UNREADABLE_REASON, rows_of
from clinical_modernbert.sources.column_names import check_names
from clinical_modernbert.sources.csv_rows import DELIMITERS, read_rows
from clinical_modernbert.sources.document import Quarantined
from clinical_modernbert.sources.evaluation_sets.lines import numbered_lines, refuse
from clinical_modernbert.sources.files import read_chunks


@dataclass(frozen=True, slots=True)
class LabelSetRow:
    """A row with any number of labels."""

    id: str
    group: str
    text: str
    labels: tuple[str, ...]
    """Without repetition, in the order of the row."""


def read_strings(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield (row from 1, values in the order of ``columns``).

    ``SourceError`` names file and row of an empty value: a row that was silently left out would change the figures.
    """
    distinct = tuple(dict.fromkeys(columns))
    for number, row in enumerate(_rows(path, distinct), start=1):
        values = dict(zip(distinct, _filled(path, number, row), strict=True))
        yield number, tuple(values[column] for column in columns)


def read_label_sets(
    path: Path, *, text: str, labels: str, separator: str, group: str | None, id_column: str | None
) -> Iterator[LabelSetRow]:
    """Yield the rows of texts with any number of labels, also none: a list, or a text with ``separator`` between them.

    Without ``id_column`` or ``group`` a row is named by its number.
    """
    named = list(dict.fromkeys(column for column in (text, group, id_column) if column is not None))
    for number, row in enumerate(_rows(path, tuple(dict.fromkeys([*named, labels]))), start=1):
        values = dict(zip(named, _filled(path, number, {column: row[column] for column in named}), strict=True))
        place = f"{path.name}:{number}"
        found = row[labels]
        listed = found if isinstance(found, (list, tuple)) else _string(found).split(separator)
        kept = tuple(dict.fromkeys(name for name in map(_string, listed) if name))
        yield LabelSetRow(
            values[id_column] if id_column else place, values[group] if group else place, values[text], kept
        )


def table_texts(path: Path, *, by_cell: bool = False) -> Iterator[str]:
    """Yield each row's texts of a table with unknown columns, whatever is a string: joined by spaces, or one by one.

    Lists and structs count too: data sets of the hub have the sentences of an abstract in them.
    """
    for row in _rows(path, _text_columns(path)):
        texts = [text for value in row.values() for text in _strings(value) if text]
        yield from texts if by_cell else (" ".join(texts),)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, str):
        yield value.strip()


def _holds_text(kind: Any) -> bool:
    """Whether a column of Arrow has strings, at whatever depth."""
    import pyarrow.types as types

    if types.is_dictionary(kind):
        return _holds_text(kind.value_type)
    if types.is_nested(kind):
        return any(_holds_text(kind.field(number).type) for number in range(kind.num_fields))
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _text_columns(path: Path) -> tuple[str, ...]:
    name = path.name.removesuffix(".gz")
    if name.endswith(".csv"):
        header = next((line for _, line in numbered_lines(path)), "")
        delimiter = max(DELIMITERS, key=header.count)
        return tuple(next(csv.reader([header], delimiter=delimiter), []))
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if name.endswith(".parquet"):
            schema = pq.read_schema(path)
        else:
            with pa.memory_map(str(path)) as source:
                schema = pa.ipc.open_file(source).schema
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{path.name}: no readable Parquet or Feather file ({type(error).__name__})") from None
    return tuple(field.name for field in schema if _holds_text(field.type))


def _filled(path: Path, number: int, row: Mapping[str, Any]) -> tuple[str, ...]:
    values = {column: _string(value) for column, value in row.items()}
    empty = next((column for column, value in values.items() if not value), None)
    if empty is not None:
        raise SourceError(f"{path.name}, row {number}: {empty} is empty")
    return tuple(values.values())


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[Mapping[str, Any]]:
    name = path.name.removesuffix(".gz")
    if name.endswith((".csv", ".tsv")):
        yield from _csv_rows(path, columns)
    elif name.endswith((".jsonl", ".ndjson")):
        yield from _json_rows(path, columns)
    elif name.endswith(".parquet"):
        yield from _parquet_rows(path, columns)
    elif name.endswith((".feather", ".arrow")):
        yield from _feather_rows(path, columns)
    else:
        raise SourceError(
            f"{path.name}: expected .csv, .tsv, .jsonl, .ndjson (these also with .gz), .parquet or .feather"
        )


def _csv_rows(path: Path, columns: tuple[str, ...]) -> Iterator[Mapping[str, Any]]:
    for row in read_rows(read_chunks(path), file=path.name, columns=columns):
        if isinstance(row, Quarantined):
            raise SourceError(f"{path.name}, {row.position}: {row.reason}")
        yield dict(zip(columns, row.values, strict=True))


def _json_rows(path: Path, columns: tuple[str, ...]) -> Iterator[Mapping[str, Any]]:
    for number, line in numbered_lines(path):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            refuse(path, number, f"no JSON ({error.msg})")
        except (ValueError, RecursionError):  # a number of thousands of digits, or too deep
            refuse(path, number, "JSON that Python cannot hold")
        if not isinstance(row, dict):
            refuse(path, number, "expected a JSON object")
        names = check_names(list(row), columns, f"{path.name}, line {number}")
        yield {column: row[name] for column, name in zip(columns, names, strict=True)}


def _parquet_rows(path: Path, columns: tuple[str, ...]) -> Iterator[Mapping[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        names = check_names(file.schema_arrow.names, columns, path.name)
        for number, values in enumerate(rows_of(file, names, batch_rows=256), start=1):
            if UNREADABLE in values:
                raise SourceError(f"{path.name}, row {number}: {UNREADABLE_REASON}")
            yield dict(zip(columns, values, strict=True))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path.name}: no readable Parquet file ({type(error).__name__})") from None


def _feather_rows(path: Path, columns: tuple[str, ...]) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of a Feather file (version 2, the Arrow IPC format), one batch in memory at a time."""
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as source:
            reader = pa.ipc.open_file(source)
            names = check_names(reader.schema.names, columns, path.name)
            for number in range(reader.num_record_batches):
                yield from (
                    dict(zip(columns, row.values(), strict=True))
                    for row in reader.get_batch(number).select(names).to_pylist()
                )
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path.name}: no readable Feather file of version 2 ({type(error).__name__})") from None


def _string(value: Any) -> str:
    """Return a value as the same string in every format: Parquet and JSON have 1 where CSV has "1"."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None or value != value else str(value).strip()
