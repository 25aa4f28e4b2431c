"""JSON values from a stream of bytes: one a line, or (an array, or values that span several lines) one after another.

In JSON lines a broken line costs that line. In the other forms the borders after a break are unknown: the remainder is lost, and
counted by its size.
"""

import codecs
import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from clinical_modernbert.sources.document import Quarantined
from clinical_modernbert.sources.files import numbered_lines
from clinical_modernbert.sources.inflate import DamagedFileError

_MOST_BYTES = _MOST_CHARACTERS = 1 << 26
_START = re.compile(rb"(?:\xef\xbb\xbf)?\s*+(\S)")
_BETWEEN = re.compile(r"[ \t\r\n,]*+")
_LONGEST_LITERAL = 9
_BLANKS = b" \t\r\n\x1a"  # the last one ends files of DOS
_NOT_UTF8 = re.compile("[\udc80-\udcff]")
_TOO_DEEP = "JSON that is nested too deeply"


@dataclass(frozen=True, slots=True)
class Value:
    """One JSON value."""

    number: int
    """From 1."""
    position: str
    """``line 3`` or ``value 3``."""
    value: object
    sha256: str | None
    """Of its line; None in the other forms."""


def read_values(chunks: Iterable[bytes], *, file: str) -> Iterator[Value | Quarantined]:
    """Yield one value, or quarantined record, for each JSON value of a file."""
    head, damage = bytearray(), None  # type: bytearray, DamagedFileError | None
    stream = iter(chunks)
    try:
        while not _shows_form(head) and (chunk := next(stream, None)) is not None:
            head += chunk
    except DamagedFileError as error:
        damage = error
    first = bytes(head).removeprefix(codecs.BOM_UTF8).lstrip().partition(b"\n")[0]
    everything = itertools.chain([bytes(head)], _raise(damage) if damage else stream)
    yield from (_read_lines if _is_line(first) else _read_stream)(everything, file)


def _shows_form(head: bytearray) -> bool:
    """Whether the beginning of a file tells its form: an array by its first character, any other by its first line."""
    start = _START.match(head)
    return start is not None and (start[1] == b"[" or head.find(b"\n", start.end()) >= 0 or len(head) > _MOST_BYTES)


def _is_line(first: bytes) -> bool:
    """Whether a file's first line is a value, or broken; an array and the first line of an indented object are neither."""
    if first.startswith(b"["):
        return False
    try:
        json.loads(first)
    except json.JSONDecodeError as error:
        return not (first.startswith(b"{") and error.pos >= len(first.decode("utf-8", errors="replace").rstrip()))
    except (ValueError, RecursionError):  # not UTF-8, a number of thousands of digits, or too deep
        return True
    return True


def _read_lines(chunks: Iterable[bytes], file: str) -> Iterator[Value | Quarantined]:
    number = line = 0
    ended = _Ended(chunks)
    broken: Quarantined | None = None  # is not yielded before it is known whether it is the last line
    try:
        for line, raw in numbered_lines(ended):
            if broken:
                yield broken
                broken = None
            content = raw.removeprefix(codecs.BOM_UTF8) if line == 1 else raw
            if not content.strip(_BLANKS):
                continue
            number += 1
            digest = hashlib.sha256(raw).hexdigest()
            try:
                value = json.loads(content)
            except ValueError:  # broken JSON, or bytes that are not UTF-8
                broken = Quarantined(file, f"line {line}", "no JSON", sha256=digest)
                is_begun = content.lstrip().startswith(b"{")
            except RecursionError:
                yield Quarantined(file, f"line {line}", _TOO_DEEP, sha256=digest)
            else:
                yield Value(number, f"line {line}", value, digest)
        if broken:
            is_cut = is_begun and not ended.with_newline
            yield replace(broken, reason="no JSON; the file ends in a value", is_cut=True) if is_cut else broken
    except DamagedFileError as error:
        if broken:
            yield broken
        position = f"line {line + 1}, {error.position}"
        yield Quarantined(file, position, error.reason, unread_bytes=error.unread_bytes)


class _Ended:
    """Chunks, and whether the last one ends a line."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks
        self.with_newline = False

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self.with_newline = chunk.endswith(b"\n") if chunk else self.with_newline
            yield chunk


def _read_stream(chunks: Iterable[bytes], file: str) -> Iterator[Value | Quarantined]:
    values = _Values(chunks)
    number = 0
    try:
        for number, value in enumerate(values, start=1):
            if isinstance(value, _NotUtf8):
                yield Quarantined(file, f"value {number}", "not UTF-8")
            else:
                yield Value(number, f"value {number}", value, None)
    except _BrokenValueError as error:
        reason = f"{error}; the rest of the file is not read"
        yield Quarantined(file, f"value {number + 1}", reason, unread_bytes=values.unused_bytes, is_cut=error.is_cut)
    except DamagedFileError as error:
        yield Quarantined(file, f"value {number + 1}, {error.position}", error.reason, unread_bytes=values.unused_bytes)


class _NotUtf8:
    """Stands for a value with bytes that are not UTF-8."""


class _BrokenValueError(Exception):
    """No value can be read at the place that was reached."""

    def __init__(self, reason: str, *, is_cut: bool = False) -> None:
        super().__init__(reason)
        self.is_cut = is_cut


class _Values:
    """JSON values one after another, with an array's brackets and commas left out."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._texts = _texts(chunks)
        self._buffer, self._used = "", 0
        self._is_ended = False

    @property
    def unused_bytes(self) -> int:
        """Size of what was read and is not part of a value."""
        return len(self._buffer[self._used :].encode("utf-8", "surrogateescape"))

    def __iter__(self) -> Iterator[object]:
        decoder = json.JSONDecoder()
        is_array = self._next() == "["
        self._used += is_array
        while (character := self._next()) and not (is_array and character == "]"):
            wanted = (
                1 << 16
            )  # characters before the next attempt; doubled, so that a long value is not decoded for each chunk
            while True:
                try:
                    value, end = decoder.raw_decode(self._buffer, self._used)
                    break
                except json.JSONDecodeError as error:
                    if not _may_be_cut(error):
                        raise _BrokenValueError("no JSON") from None
                    if not self._fill(wanted):
                        raise _BrokenValueError("no JSON", is_cut=self._is_ended) from None
                    wanted *= 2
                except RecursionError:
                    raise _BrokenValueError(_TOO_DEEP) from None
                except ValueError:  # a number of thousands of digits
                    raise _BrokenValueError("no JSON") from None
            yield _NotUtf8() if _NOT_UTF8.search(self._buffer, self._used, end) else value
            self._used = end
        if is_array and not character:
            raise _BrokenValueError("the array has no end", is_cut=True)
        self._used += is_array
        if self._next():
            raise _BrokenValueError("text after the end of the array")

    def _next(self) -> str:
        """Return the next character that separates no values, which stays the next one; empty at the end."""
        while True:
            self._used = _BETWEEN.match(self._buffer, self._used).end()  # type: ignore[union-attr]  # it matches nothing, too
            if self._used < len(self._buffer):
                return self._buffer[self._used]
            if not self._fill(1):
                return ""

    def _fill(self, wanted: int) -> bool:
        """Read on until ``wanted`` characters are unused; return whether there were more, and may be."""
        text, parts = self._buffer[self._used :], list[str]()
        size = before = len(text)
        try:
            while size < wanted and (part := next(self._texts, None)) is not None:
                parts.append(part)
                size += len(part)
        finally:  # an archive may end here
            self._buffer, self._used = "".join((text, *parts)), 0
        self._is_ended = size < wanted
        return before < size <= _MOST_CHARACTERS


def _may_be_cut(error: json.JSONDecodeError) -> bool:
    """Whether more text may make the value whole; a literal such as ``-Infinity`` may be cut after its first characters."""
    return error.msg.startswith("Unterminated string") or error.pos >= len(error.doc) - _LONGEST_LITERAL


def _texts(chunks: Iterable[bytes]) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8-sig")(
        errors="surrogateescape"
    )  # so that only their value is quarantined
    for chunk in chunks:
        yield decoder.decode(chunk)
    yield decoder.decode(b"", final=True)


def _raise(damage: DamagedFileError) -> Iterator[bytes]:
    yield from ()
    raise damage
