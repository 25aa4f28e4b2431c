"""Events of a patient as text, whatever format they come from: one line a moment, in time order, static events first.

A line begins with the time as the source states it: a date alone is not given an hour. ``CONDITION//Asthma`` is written
``CONDITION Asthma``, a value follows its unit as in MEDS (``LAB 220045 bpm 88``).
"""

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

_PARTIAL = re.compile(r"(\d{4})(?:-(0[1-9]|1[0-2]))?")
_BEFORE_ZONE = re.compile(r" UTC$| (?=[+-]\d{2}:?\d{2}$)")
_DATE = re.compile(r"\d{4}-?\d\d-?\d\d")


class Entry(NamedTuple):
    """One event."""

    at: Any
    """Comparable within a source; None for a static event."""
    shown: str
    """The time as a line shows it."""
    words: str


def event_text(entries: Sequence[Entry]) -> str:
    """Return the text; events of one moment keep their order and share a line."""
    lines: list[str] = []
    last: object = object()
    for at, shown, words in sorted(entries, key=lambda entry: (False,) if entry.at is None else (True, entry.at)):
        if (at, shown) == last:
            lines[-1] += f"; {words}"
        else:
            lines.append(words if at is None else f"{shown}: {words}")
            last = (at, shown)
    return "\n".join(lines)


def event_words(code: str, number: float | None, text: str | None) -> str:
    """``LAB//220045//bpm`` with 88.0 -> ``LAB 220045 bpm 88``."""
    parts = [part for part in code.split("//") if part]
    if number is not None and math.isfinite(number):
        parts.append(number_text(number))
    if text:
        parts.append(" ".join(text.split()))
    return " ".join(parts)


def number_text(number: float) -> str:
    """Return all digits of a measurement and no more: MEDS keeps 32-bit numbers, whose 88.1 is 88.0999984741211 in 64 bits."""
    if number == int(number) and abs(number) < 1e15:
        return f"{number:.0f}"
    short = f"{number:.7g}"
    return short if abs(float(short) - number) <= abs(number) * 2**-24 else repr(number)


def decimal_text(value: str) -> str | None:
    """Return a decimal number as written, without zeros that say nothing: ``7.50`` -> ``7.5``; None for what is no number."""
    try:
        number = float(value)
    except ValueError:
        return None
    if not math.isfinite(number):
        return None
    if "e" in value.lower():
        return repr(number).removesuffix(".0")
    plain = value.strip()
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


def iso_time(text: str) -> datetime | None:
    """Return an ISO 8601 date or time; None for anything else.

    BigQuery writes ``2180-01-02 08:00:00 UTC``, Snowflake ``2180-01-02 08:00:00.000 -0500``.
    """
    try:
        return datetime.fromisoformat(_BEFORE_ZONE.sub("", text))
    except ValueError:
        return None


def moment(text: str) -> tuple[int, str] | None:
    """Return (microseconds for sorting, the time as a line shows it) of an ISO 8601 date or time; None for anything else.

    Clocks are those of the source: an offset orders events and is not shown. A year or a month alone sorts at its beginning.
    """
    partial = _PARTIAL.fullmatch(text)
    try:
        value = datetime(int(partial[1]), int(partial[2] or 1), 1) if partial else iso_time(text)
    except ValueError:
        return None
    if value is None:
        return None
    at = round((value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp() * 1_000_000)
    if partial:
        return at, text
    return at, f"{value:%Y-%m-%d}" if _DATE.fullmatch(text) else f"{value:%Y-%m-%d %H:%M}"
