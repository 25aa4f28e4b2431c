"""CSV rows with named columns (RFC 4180, UTF-8), streamed; a row that cannot be read is quarantined with its line.

After a broken quote the borders of rows are unknown: reading continues at the next line that has the header's number of columns,
and everything before that line counts as one quarantined record.
"""

import codecs
import csv
import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from clinical_modernbert.sources.column_names import check_names
from clinical_modernbert.sources.document import Quarantined
from clinical_modernbert.sources.files import DamagedFileError, read_chunks

# A discharge summary has up to about 100,000 characters; a longer field is an unclosed quote.
_MOST_CHARACTERS = 1 << 24
_NOT_UTF8 = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Row:
    """The values of one row's columns, in the order of the request."""

    number: int
    """Row number from 1, header excluded."""
    line: int
    """Line of the file on which the row begins, from 1."""
    values: tuple[str, ...]


def read_rows(chunks: Iterable[bytes], *, file: str, columns: tuple[str, ...]) -> Iterator[Row | Quarantined]:
    """Yield one value for each row after the header; blank lines are skipped.

    Raises ``SourceError`` where the header lacks a column.
    """
    csv.field_size_limit(_MOST_CHARACTERS)
    lines = _Lines(chunks)
    reader = csv.reader(lines, strict=True)
    try:
        header = next(reader, None)
    except csv.Error as error:
        yield Quarantined(file, "line 1", f"the header is no CSV ({error})")
        return
    if header is None:
        position, reason = lines.damage or ("line 1", "the file is empty, expected a CSV header")
        yield Quarantined(file, position, reason)
        return
    check_names(header, columns, file)
    indexes = [header.index(column) for column in columns]
    number, lost = 0, False
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            if lines.damage:  # the damage cut this row; it is reported once, below
                break
            number += 1
            lost = True
            yield Quarantined(file, f"lines {line}-{reader.line_num}", f"broken CSV quoting ({error})")
            continue
        if not row or (lost and len(row) != len(header)):
            continue
        lost = False
        number += 1
        if len(row) != len(header):
            reason = f"{len(row)} columns where the header has {len(header)}"
            yield Quarantined(file, f"line {line}", reason, sha256=_row_hash(row))
            continue
        values = tuple([row[index] for index in indexes])
        if any(_NOT_UTF8.search(value) for value in values):
            yield Quarantined(file, f"line {line}", "the row is not UTF-8", sha256=_row_hash(row))
            continue
        yield Row(number, line, values)
    if lines.damage:
        position, reason = lines.damage
        yield Quarantined(file, f"row {number + 1}, {position}", reason)


def check_columns(location: Path, *, file: str, columns: tuple[str, ...]) -> None:
    """Raise ``SourceError`` where the file's header lacks a column; a damaged file is left to ``read_rows``."""
    for _ in read_rows(read_chunks(location), file=file, columns=columns):
        return


def _row_hash(row: list[str]) -> str:
    return hashlib.sha256("\0".join(row).encode("utf-8", "surrogateescape")).hexdigest()


class _Lines:
    """Whole lines of text from chunks of bytes; where the bytes end early, ``damage`` is set and the torn line left out."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks
        self.damage: tuple[str, str] | None = None

    def __iter__(self) -> Iterator[str]:
        # Bytes that are not UTF-8 become lone surrogates, so that only their row is quarantined.
        decoder = codecs.getincrementaldecoder("utf-8-sig")(errors="surrogateescape")
        pending = ""
        try:
            for chunk in self._chunks:
                *whole, pending = (pending + decoder.decode(chunk)).split("\n")
                for line in whole:
                    yield line + "\n"
                if len(pending) > _MOST_CHARACTERS:
                    self.damage = (f"after {_MOST_CHARACTERS} characters", "a line without end")
                    return
        except DamagedFileError as error:
            self.damage = (error.position, error.reason)
            return
        pending += decoder.decode(b"", final=True)
        if pending:
            yield pending
