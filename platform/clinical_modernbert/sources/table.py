"""Notes in a CSV file with named columns: one document a row."""

from collections.abc import Iterable, Iterator

from clinical_modernbert.recipe.sources import TableSource
from clinical_modernbert.sources.document import Document, Dropped, Quarantined
from clinical_modernbert.sources.rows import read_rows


def table_columns(source: TableSource) -> tuple[str, ...]:
    """Return the columns that must be in the file: text, then id and group where they are named."""
    return tuple(c for c in (source.text_column, source.id_column, source.group_column) if c is not None)


def read_table(
    chunks: Iterable[bytes], *, file: str, source: TableSource
) -> Iterator[Document | Dropped | Quarantined]:
    """Yield one value for each row; rows without text are dropped as ``empty``.

    The id is the id column's value, or the row number from 1. The group is ``<group_column>:<value>``, so that tables which
    share a column of patients share their groups, or the document itself.
    """
    columns = table_columns(source)
    for row in read_rows(chunks, file=file, columns=columns):
        if isinstance(row, Quarantined):
            yield row
            continue
        named = dict(zip(columns, row.values, strict=True))
        document_id = str(row.number) if source.id_column is None else named[source.id_column].strip()
        group = document_id if source.group_column is None else named[source.group_column].strip()
        if not document_id or not group:
            missing = source.group_column if document_id else source.id_column
            yield Quarantined(file, f"line {row.line}", f"no {missing}", record_id=document_id or None)
        elif not named[source.text_column].strip():
            yield Dropped("empty")
        else:
            yield Document(
                document_id, source.name, f"{source.group_column or source.name}:{group}", named[source.text_column]
            )
