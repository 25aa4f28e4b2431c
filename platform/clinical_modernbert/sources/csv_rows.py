"""CSV rows with named columns (RFC 4180, UTF-8), streamed; a row that cannot be read is quarantined with its line.

The delimiter is the one of ``DELIMITERS`` by which the header has the columns. Names may differ in case and in outer blanks.

After a broken quote the borders of rows are unknown. Everything up to the next line that is surely a row is one quarantined
record, which counts the rows that it swallowed; ``csv_loss`` decides where rows begin again.
"""

import codecs
import csv
import hashlib
import itertools
import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from clinical_modernbert.sources.column_names import check_names
from clinical_modernbert.sources.csv_loss import Loss, column_shapes, skip_quoted
from clinical_modernbert.sources.document import Quarantined
from clinical_modernbert.sources.files import NULLS, NULLS_REASON, read_chunks
from clinical_modernbert.sources.inflate import DamagedFileError

# A discharge summary has up to about 100,000 characters; a longer field is an unclosed quote.
_MOST_CHARACTERS = 1 << 24
DELIMITERS = (",", "\t", "|", ";")
_COMPARED_ROWS = 8
_END_OF_DOS = ["\x1a"]  # ends files of DOS
_UNREADABLE = re.compile(f"[\ud800-\udfff]|{NULLS.decode()}")


@dataclass(frozen=True, slots=True)
class Row:
    """The values of one row's columns, in the order of the request."""

    number: int
    """Row number from 1, header excluded."""
    line: int
    """Line of the file on which the row begins, from 1."""
    values: tuple[str, ...]


def read_rows(
    chunks: Iterable[bytes], *, file: str, columns: tuple[str, ...], optional: tuple[str, ...] = (), quoted: bool = True
) -> Iterator[Row | Quarantined]:
    """Yield one value for each row after the header; blank lines are skipped. Without ``quoted`` a quote is text as any other.

    Raises ``SourceError`` where the header lacks a column. ``optional`` columns follow, with empty values where it lacks them.
    """
    csv.field_size_limit(_MOST_CHARACTERS)
    lines = _Lines(chunks)
    delimiter = _delimiter(lines, columns)
    reader = csv.reader(
        lines, strict=True, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    )
    try:
        header = next(reader, None)
    except csv.Error as error:
        lost = sum(1 for _ in lines)
        is_mac = "\r" in lines.last.rstrip("\r\n")
        reason = "its lines end in CR alone; expected LF or CRLF" if is_mac else f"the header is no CSV ({error})"
        yield Quarantined(file, "line 1", reason, num_lost=lost)
        return
    if header is None:
        position, reason = lines.damage or ("line 1", "the file is empty, expected a CSV header")
        yield Quarantined(file, position, reason, unread_bytes=lines.unread_bytes)
        return
    header = [name.strip() for name in header]
    indexes = [header.index(name) for name in check_names(header, columns, file)]
    lower = [name.lower() for name in header]
    others = [lower.index(name) if name in lower else None for name in optional]
    number = 0
    for line, row in _table_rows(reader, lines, file=file, delimiter=delimiter, header=header):
        number += 1
        if isinstance(row, Quarantined):
            yield row
        elif len(row) != len(header):
            is_cut = len(row) < len(header) and lines.is_cut
            reason = (
                f"{len(row)} columns where the header has {len(header)}{'; the file ends in a row' if is_cut else ''}"
            )
            yield Quarantined(file, f"line {line}", reason, sha256=_row_hash(row), is_cut=is_cut)
        else:
            values = tuple([row[index] for index in indexes])
            if others:
                values += tuple("" if index is None else row[index] for index in others)
            bad = next((found[0] for found in map(_UNREADABLE.search, values) if found), None)
            if bad is not None:
                reason = NULLS_REASON if bad.startswith("\0") else "the row is not UTF-8"
                yield Quarantined(file, f"line {line}", reason, sha256=_row_hash(row))
            else:
                yield Row(number, line, values)
    if lines.damage:
        position, reason = lines.damage
        yield Quarantined(file, f"row {number + 1}, {position}", reason, unread_bytes=lines.unread_bytes)


def _table_rows(
    reader: Iterator[list[str]], lines: "_Lines", *, file: str, delimiter: str, header: list[str]
) -> Iterator[tuple[int, list[str] | Quarantined]]:
    """Yield (first line, row) for each row, and one record for the lines from a broken quote to a row.

    Blank lines are no rows, nor is the header again, as files that were joined have it.
    """
    num_columns = len(header)
    recent: deque[list[str]] = deque(maxlen=_COMPARED_ROWS)
    num_rows = num_lines = 0
    loss: Loss | None = None
    while True:
        line = lines.number + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            if lines.damage:  # the damage cut this row; it is reported once, by the caller
                break
            if loss is None:
                loss = Loss(
                    line, str(error), num_lines / num_rows if num_rows else 1.0, column_shapes(recent, num_columns)
                )
            skip_quoted(lines.last, iter(lines), inside=lines.number > line, delimiter=delimiter)
            continue
        if row is None:
            break
        if not row or row == _END_OF_DOS or (loss and not loss.ends_at(row)):
            continue
        if row[-1].strip() == header[-1] and [value.strip("\ufeff ") for value in row] == header:
            continue
        if loss:
            yield loss.first_line, loss.quarantined(file, line - 1)
            loss = None
        if len(row) == num_columns:
            recent.append(row)
            num_rows, num_lines = num_rows + 1, num_lines + lines.number - line + 1
        yield line, row
    if loss:
        yield loss.first_line, loss.quarantined(file, lines.number)


def check_columns(location: str | Path, *, file: str, columns: tuple[str, ...], quoted: bool = True) -> None:
    """Raise ``SourceError`` where the file's header lacks a column; a damaged file is left to ``read_rows``."""
    for _ in read_rows(read_chunks(location), file=file, columns=columns, quoted=quoted):
        return


def _delimiter(lines: "_Lines", columns: tuple[str, ...]) -> str:
    """Return the delimiter by which the first line has all columns, a comma where none does."""
    first = lines.peek().lower()
    for delimiter in DELIMITERS:
        names = {name.strip(' "\r\n') for name in first.split(delimiter)}
        if names.issuperset(column.lower() for column in columns):
            return delimiter
    return DELIMITERS[0]


def _row_hash(row: list[str]) -> str:
    return hashlib.sha256("\0".join(row).encode("utf-8", "surrogateescape")).hexdigest()


class _Lines:
    """Whole lines of text from chunks of bytes; where the bytes end early, ``damage`` is set and the torn line left out."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self.damage: tuple[str, str] | None = None
        self.unread_bytes = 0
        """What was given and belongs to no whole line."""
        self.number = 0
        self.last = ""
        """The line that was read last, and its number."""
        self._lines = self._read(chunks)

    @property
    def is_cut(self) -> bool:
        """Whether the last line that was read is the last of the file, and has no end."""
        return not self.last.endswith("\n")

    def __iter__(self) -> Iterator[str]:
        return self._lines

    def peek(self) -> str:
        """Return the next line, which stays the next one; empty at the end."""
        line = next(self._lines, None)
        if line is None:
            return ""
        self._lines = itertools.chain([line], self._lines)
        return line

    def _read(self, chunks: Iterable[bytes]) -> Iterator[str]:
        # Bytes that are not UTF-8 become lone surrogates, so that only their row is quarantined.
        decoder = codecs.getincrementaldecoder("utf-8-sig")(errors="surrogateescape")
        pending = ""
        try:
            for chunk in chunks:
                *whole, pending = (pending + decoder.decode(chunk)).split("\n")
                for line in whole:
                    self.number, self.last = self.number + 1, line + "\n"
                    yield self.last
                if len(pending) > _MOST_CHARACTERS:
                    self.damage = (f"after {_MOST_CHARACTERS} characters", "a line without end")
                    self.unread_bytes = len(pending.encode("utf-8", "surrogateescape"))
                    return
        except DamagedFileError as error:
            self.damage = (error.position, error.reason)
            return
        pending += decoder.decode(b"", final=True)
        if pending:
            self.number, self.last = self.number + 1, pending
            yield pending
