"""Code tables in files, read through the source that a recipe names."""

from pathlib import Path

from clinical_modernbert.recipe.sources import CodeSource
from clinical_modernbert.sources import list_units, read_unit
from clinical_modernbert.sources.document import Document, Record


def read(path: Path | None, table: str, **settings: object) -> list[Record]:
    """Return the records of a code table's file; ``settings`` are the source's other fields."""
    source = CodeSource.model_validate(
        {"type": "codes", "name": "c", "table": table, "path": path and str(path), **settings}
    )
    (unit,) = list_units(source)
    return list(read_unit(source, unit))


def made(tmp_path: Path, content: str | bytes, table: str, **settings: object) -> list[Record]:
    """As ``read``, of a file with ``content``."""
    path = tmp_path / "table.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read(path, table, **settings)


def texts(records: list[Record]) -> dict[str, str]:
    """Return the documents' texts by id."""
    return {record.id: record.text for record in records if isinstance(record, Document)}
