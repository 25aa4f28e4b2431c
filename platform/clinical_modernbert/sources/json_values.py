"""JSON values from a stream of bytes: one a line, or (an array, or values that span several lines) one after another.

In JSON lines a broken line costs that line. In the other forms the borders after a break are unknown: the remainder is lost, and
counted by the size of the values before it.
"""

import codecs
import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from clinical_modernbert.sources.document import Quarantined
from clinical_modernbert.sources.files import DamagedFileError, numbered_lines

_MOST_CHARACTERS = 1 << 26
_BETWEEN = " \t\r\n,"


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
    head, damage = [], None  # type: list[bytes], DamagedFileError | None
    stream = iter(chunks)
    try:
        # The form shows in the first line that is not blank.
        while not b"".join(head).lstrip().partition(b"\n")[1] and (chunk := next(stream, None)) is not None:
            head.append(chunk)
    except DamagedFileError as error:
        damage = error
    everything = itertools.chain(head, _raise(damage) if damage else stream)
    first = b"".join(head).removeprefix(codecs.BOM_UTF8).lstrip().partition(b"\n")[0]
    yield from (_read_lines if _is_line(first) else _read_stream)(everything, file)


def _is_line(first: bytes) -> bool:
    """Whether a file's first line is a value, or broken; an array and the first line of an indented object are neither."""
    if first.startswith(b"["):
        return False
    try:
        json.loads(first)
    except json.JSONDecodeError as error:
        return not (first.startswith(b"{") and error.pos >= len(first.decode("utf-8", errors="replace").rstrip()))
    except ValueError:  # not UTF-8
        return True
    return True


def _read_lines(chunks: Iterable[bytes], file: str) -> Iterator[Value | Quarantined]:
    number = line = 0
    try:
        for line, raw in numbered_lines(chunks):
            content = raw.removeprefix(codecs.BOM_UTF8) if line == 1 else raw
            if not content.strip():
                continue
            number += 1
            digest = hashlib.sha256(raw).hexdigest()
            try:
                value = json.loads(content)
            except ValueError:  # broken JSON, or bytes that are not UTF-8
                yield Quarantined(file, f"line {line}", "no JSON", sha256=digest)
            else:
                yield Value(number, f"line {line}", value, digest)
    except DamagedFileError as error:
        yield Quarantined(file, f"line {line + 1}, {error.position}", error.reason)


def _read_stream(chunks: Iterable[bytes], file: str) -> Iterator[Value | Quarantined]:
    decoder = json.JSONDecoder()
    texts = _texts(chunks)
    buffer, number, used, is_array = "", 0, 0, False
    wanted = 1  # characters in the buffer before the next attempt; doubled, so that a long value is not decoded for each chunk
    try:
        while True:
            # 1. Fill the buffer, and skip what separates two values.
            text: str | None = ""
            while len(buffer) < wanted and (text := next(texts, None)) is not None:
                buffer += text
            buffer = buffer.lstrip(_BETWEEN)
            if not number and buffer.startswith("["):
                buffer, is_array = buffer[1:].lstrip(_BETWEEN), True
            if (is_array and buffer.startswith("]")) or (not buffer and text is None):
                return
            # 2. Decode one value; where that fails, it may only be cut.
            try:
                value, end = decoder.raw_decode(buffer)
            except json.JSONDecodeError:
                if text is not None and len(buffer) < _MOST_CHARACTERS:
                    wanted = max(2 * len(buffer), 1 << 16)
                    continue
                remaining = len(buffer) + sum(map(len, texts))
                lost = round(remaining * number / used) - 1 if used else 0
                reason = "no JSON; the rest of the file is not read"
                yield Quarantined(file, f"value {number + 1}", reason, num_lost=max(lost, 0))
                return
            number, used, wanted = number + 1, used + end, 1
            buffer = buffer[end:]
            yield Value(number, f"value {number}", value, None)
    except DamagedFileError as error:
        yield Quarantined(file, f"value {number + 1}, {error.position}", error.reason)
    except UnicodeDecodeError:
        yield Quarantined(file, f"value {number + 1}", "not UTF-8; the rest of the file is not read")


def _texts(chunks: Iterable[bytes]) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    for chunk in chunks:
        yield decoder.decode(chunk)
    yield decoder.decode(b"", final=True)


def _raise(damage: DamagedFileError) -> Iterator[bytes]:
    yield from ()
    raise damage
