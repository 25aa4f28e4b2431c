"""Labelled texts in the user's own files: CSV with a header, JSON lines or Parquet, one text a row."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clinical_modernbert.errors import SourceError
from clinical_modernbert.sources.arrow_values import UNREADABLE, UNREADABLE_REASON, rows_of
from clinical_modernbert.sources.column_names import check_names
from clinical_modernbert.sources.csv_rows import read_rows
from clinical_modernbert.sources.document import Quarantined
from clinical_modernbert.sources.evaluation_sets.lines import numbered_lines, refuse
from clinical_modernbert.sources.files import read_chunks


@dataclass(frozen=True, slots=True)
class LabelledRow:
    """A row of the file."""

    number: int
    """From 1."""
    group: str
    text: str
    label: str


def read_labelled(path: Path, *, text: str, label: str, group: str | None) -> Iterator[LabelledRow]:
    """Yield the rows, with the columns named; a row without ``group`` column is its own group.

    ``SourceError`` names file and row of an empty text or label: a row that was silently left out would change the figures.
    """
    columns = (text, label) if group is None else (text, label, group)
    for number, row in enumerate(_rows(path, columns), start=1):
        values = [_string(row[column]) for column in columns]
        empty = next((column for column, value in zip(columns, values, strict=True) if not value), None)
        if empty is not None:
            raise SourceError(f"{path.name}, row {number}: {empty} is empty")
        yield LabelledRow(number, values[2] if group is not None else f"{path.name}:{number}", values[0], values[1])


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[Mapping[str, Any]]:
    name = path.name.removesuffix(".gz")
    if name.endswith(".csv"):
        yield from _csv_rows(path, columns)
    elif name.endswith((".jsonl", ".ndjson")):
        yield from _json_rows(path, columns)
    elif name.endswith(".parquet"):
        yield from _parquet_rows(path, columns)
    else:
        raise SourceError(f"{path.name}: expected .csv, .jsonl, .ndjson (these also with .gz) or .parquet")


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
        check_names(list(row), columns, f"{path.name}, line {number}")
        yield row


def _parquet_rows(path: Path, columns: tuple[str, ...]) -> Iterator[Mapping[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        check_names(file.schema_arrow.names, columns, path.name)
        for number, values in enumerate(rows_of(file, columns, batch_rows=256), start=1):
            if UNREADABLE in values:
                raise SourceError(f"{path.name}, row {number}: {UNREADABLE_REASON}")
            yield dict(zip(columns, values, strict=True))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path.name}: no readable Parquet file ({type(error).__name__})") from None


def _string(value: Any) -> str:
    """Return a value as the same string in every format: Parquet and JSON have 1 where CSV has "1"."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None or value != value else str(value).strip()
