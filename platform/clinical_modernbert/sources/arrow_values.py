"""Values of Parquet files that Python cannot hold, and columns that inflate to far more than they say."""

from collections.abc import Iterator, Sequence
from typing import Any

from clinical_modernbert.sources.files import HARMLESS_BYTES, MOST_RATIO
from clinical_modernbert.sources.inflate import DamagedFileError

UNREADABLE: Any = object()
"""Stands for a text that is not UTF-8 or a time beyond the years of ``datetime``."""
UNREADABLE_REASON = "a text that is not UTF-8, or a time beyond the years 1 to 9999"


def readable(value: Any) -> Any:
    """Return a value of an Arrow array as Python has it, or ``UNREADABLE``."""
    try:
        return value.as_py()
    except (ValueError, OverflowError):
        return UNREADABLE


def rows_of(
    parquet: Any, names: Sequence[str], *, batch_rows: int, row_groups: Sequence[int] | None = None
) -> Iterator[tuple[Any, ...]]:
    """Yield the values of each row by ``names``, which may repeat; one that Python cannot hold is ``UNREADABLE``.

    ``row_groups`` reads these alone. Value by value: a few bytes of a dictionary may be a long text in each of the rows.
    """
    for batch in parquet.iter_batches(batch_size=batch_rows, columns=list(dict.fromkeys(names)), row_groups=row_groups):
        for values in zip(*map(batch.column, names), strict=True):
            yield tuple(map(readable, values))


def check_inflation(parquet: Any) -> None:
    """Raise ``DamagedFileError`` where a column of texts inflates as no text does; numbers may well be the same in all rows."""
    metadata = parquet.metadata
    for group in range(metadata.num_row_groups):
        for number in range(metadata.num_columns):
            column = metadata.row_group(group).column(number)
            size = column.total_uncompressed_size
            if column.physical_type == "BYTE_ARRAY" and size > max(
                HARMLESS_BYTES, MOST_RATIO * column.total_compressed_size
            ):
                raise DamagedFileError(
                    f"row group {group + 1}", f"a column inflates to more than {MOST_RATIO} times its size"
                )
