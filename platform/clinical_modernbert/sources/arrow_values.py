"""Parquet files, wherever they are: values that Python cannot hold, and columns that inflate to far more than they say."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from clinical_modernbert.artifacts.remote_files import is_remote, open_location
from clinical_modernbert.sources.files import HARMLESS_BYTES, MOST_RATIO, Progress, size_of
from clinical_modernbert.sources.inflate import DamagedFileError

UNREADABLE: Any = object()
"""Stands for a text that is not UTF-8 or a time beyond the years of ``datetime``."""
UNREADABLE_REASON = "a text that is not UTF-8, or a time beyond the years 1 to 9999"


@contextmanager
def parquet_file(location: str, progress: Progress | None = None) -> Iterator[Any]:
    """Hand out a ``pyarrow.parquet.ParquetFile``; one in S3 is read in ranges, of the columns that are asked for."""
    import pyarrow.parquet as pq

    progress = progress or Progress()
    with ExitStack() as opened:
        file: Any = location
        if is_remote(location):
            file = opened.enter_context(open_location(location))
            progress.size_bytes = size_of(file)
        else:
            progress.size_bytes = Path(location).stat().st_size
        # By default pyarrow keeps all row groups that are asked for in memory, from the first one on.
        yield opened.enter_context(pq.ParquetFile(file, pre_buffer=False))


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
