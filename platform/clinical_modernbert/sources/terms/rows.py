"""Lines and rows of files of terms, plain or gzip, in UTF-8 or Windows-1252. A damaged file is refused."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from clinical_modernbert.artifacts.remote_files import is_remote, local_copy
from clinical_modernbert.errors import SourceError
from clinical_modernbert.recipe.terms import TermSection
from clinical_modernbert.sources import csv_rows
from clinical_modernbert.sources.document import Quarantined
from clinical_modernbert.sources.files import numbered_texts, read_chunks

S = TypeVar("S", bound=TermSection)


def existing(path: str, source: TermSection, field: str) -> Path:
    """Return the path of a file that is there; ``field`` is named in the error."""
    if not Path(path).is_file():
        raise SourceError(f"sources[{source.name}].{field}: {path!r} is not a file")
    return Path(path)


def with_local_paths(source: S) -> S:
    """Return the source with local paths; its files in S3 are copied to this machine until the process ends."""
    return source.model_copy(update={field: _local(source, field, path) for field, path in source.paths.items()})


def _local(source: TermSection, field: str, path: str) -> str:
    local = local_copy(path)
    if is_remote(path) and not local.is_file():
        raise SourceError(f"sources[{source.name}].{field}: {path!r} is not an object")
    return str(local)


def whole_lines(location: Path) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, line); raises ``SourceError`` where the file ends early or is broken."""
    for number, line in numbered_texts(read_chunks(location), file=location.name):
        if isinstance(line, Quarantined):
            raise SourceError(f"{line.file}, {line.position}: {line.reason}; get the file again")
        yield number, line.rstrip("\r")


def whole_chunks(location: Path) -> Iterator[bytes]:
    """Yield the same lines in UTF-8, for ``csv_rows``."""
    for _, line in whole_lines(location):
        yield f"{line}\n".encode()


def read_rows(location: Path, columns: Sequence[str], *, quoted: bool) -> Iterator[tuple[str, ...] | Quarantined]:
    """Yield the values of ``columns`` of each row, whatever the delimiter; a row that cannot be read is quarantined.

    Without ``quoted`` a quote is a character like any other, as ontologies and RF2 write tab-separated files.
    """
    wanted = tuple(dict.fromkeys(columns))  # a concept's id may be its name
    places = [wanted.index(column) for column in columns]
    for row in csv_rows.read_rows(whole_chunks(location), file=location.name, columns=wanted, quoted=quoted):
        yield row if isinstance(row, Quarantined) else tuple(row.values[place].strip() for place in places)
