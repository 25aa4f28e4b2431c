"""Rows of a table of texts as they are embedded: id, text and named columns; what cannot be read is quarantined by its place."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from clinical_modernbert.bulk.fingerprint_inputs import columns_of
from clinical_modernbert.recipe import EmbedRecipe
from clinical_modernbert.sources.csv_rows import read_rows
from clinical_modernbert.sources.document import Quarantined
from clinical_modernbert.sources.files import read_chunks

_BATCH_ROWS = 1024


@dataclass(frozen=True, slots=True)
class TextRow:
    """One row; an empty text is a row too, and counted as such."""

    position: str
    """``line 12`` of a CSV file, ``row 12`` of a Parquet file."""
    id: str
    text: str
    metadata: tuple[str | None, ...]
    """Values of the metadata columns in the recipe's order."""


def read_table_rows(location: Path, *, file: str, recipe: EmbedRecipe) -> Iterator[TextRow | Quarantined]:
    """Yield one value a row, in the file's order and always the same ones: parts count on it."""
    columns = columns_of(recipe)
    found = (
        _parquet_rows(location, file, columns)
        if file.lower().endswith(".parquet")
        else _csv_rows(location, file, columns)
    )
    for item in found:
        yield item if isinstance(item, Quarantined) else _row(*item, file=file, recipe=recipe)


def quarantine_entry(item: Quarantined) -> list[str | None]:
    """Return file, position, reason and the row's id where it is known."""
    return [item.file, item.position, item.reason, item.record_id]


def _row(position: str, values: dict[str, Any], *, file: str, recipe: EmbedRecipe) -> TextRow | Quarantined:
    name, text = _string(values[recipe.id_column]), values[recipe.text_column]
    if not name:
        return Quarantined(file, position, f"no {recipe.id_column}")
    if text is not None and not isinstance(text, str):
        return Quarantined(file, position, f"{recipe.text_column} is no text", record_id=name)
    return TextRow(position, name, text or "", tuple(_string(values[column]) for column in recipe.metadata_columns))


def _csv_rows(
    location: Path, file: str, columns: tuple[str, ...]
) -> Iterator[tuple[str, dict[str, Any]] | Quarantined]:
    for row in read_rows(read_chunks(location), file=file, columns=columns):
        if isinstance(row, Quarantined):
            yield row
        else:
            yield f"line {row.line}", dict(zip(columns, row.values, strict=True))


def _parquet_rows(
    location: Path, file: str, columns: tuple[str, ...]
) -> Iterator[tuple[str, dict[str, Any]] | Quarantined]:
    number = 0
    try:
        with pq.ParquetFile(location) as parquet:
            for batch in parquet.iter_batches(batch_size=_BATCH_ROWS, columns=list(columns)):
                for values in batch.to_pylist():
                    number += 1
                    yield f"row {number}", values
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        yield Quarantined(file, f"row {number + 1}", f"broken Parquet ({type(error).__name__}); the rest is not read")


def _string(value: Any) -> str | None:
    """The same string whatever the format: Parquet has 7 where CSV has "7"; a missing or empty value is None."""
    if isinstance(value, float):
        return None if value != value else f"{value:.0f}" if value.is_integer() else str(value)
    return None if value is None else str(value).strip() or None
