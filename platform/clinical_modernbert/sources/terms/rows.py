"""Rows of tables of terms: named columns of tab- or comma-separated values, plain or gzip, damaged rows quarantined."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from clinical_modernbert.errors import SourceError
from clinical_modernbert.recipe.terms import TermSection
from clinical_modernbert.sources.column_names import check_names
from clinical_modernbert.sources.document import Quarantined
from clinical_modernbert.sources.files import numbered_texts, read_chunks


def existing(path: str, source: TermSection, field: str) -> Path:
    """Return the path of a file that is there; ``field`` is named in the error."""
    if not Path(path).is_file():
        raise SourceError(f"sources[{source.name}].{field}: {path!r} is not a file")
    return Path(path)


def read_rows(location: Path, columns: Sequence[str], *, delimiter: str) -> Iterator[tuple[str, ...] | Quarantined]:
    """Yield the values of ``columns`` of each row; a row with another number of fields is quarantined.

    In tab-separated files a quote is a character like any other, as ontologies and RF2 write them.
    """
    positions: list[int] = []
    num_fields = 0
    for number, line in numbered_texts(read_chunks(location), file=location.name):
        if isinstance(line, Quarantined):
            yield line
            continue
        fields = _fields(line.rstrip("\r"), delimiter)
        if not positions:
            wanted = list(dict.fromkeys(columns))  # a concept's id may be its name
            spelled = dict(zip(wanted, check_names(fields, wanted, location.name), strict=True))
            positions, num_fields = [fields.index(spelled[column]) for column in columns], len(fields)
        elif len(fields) == num_fields:
            yield tuple(fields[position].strip() for position in positions)
        elif line.strip():
            yield Quarantined(location.name, f"line {number}", f"{len(fields)} fields, the header has {num_fields}")


def _fields(line: str, delimiter: str) -> list[str]:
    if delimiter == "\t":
        return line.split("\t")
    return next(csv.reader([line], delimiter=delimiter), [])
