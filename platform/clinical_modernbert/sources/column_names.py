"""Whether a file has the columns that a recipe names, and an error that never quotes a patient's text.

The first line of a file without header is a record: its values must not reach a log. So the names of a file are quoted only where
all of them look like names. This is a rule about their form; it does not recognise a header of single words that are values.
"""

import re
from collections.abc import Sequence

from clinical_modernbert.errors import SourceError

# Letters with joints between them (`note_id`, `chart.time`): no digits, no blanks, no punctuation.
_NAME = re.compile(r"[^\W\d_]+(?:[_.-][^\W\d_]+)*_?")
_MOST_LETTERS = 32
_MOST_NAMES = 50
_ZIP = "PK\x03\x04"
# The first two bytes of UTF-16, which are not UTF-8; csv_rows keeps such bytes as lone surrogates.
_UTF16 = ("\udcff\udcfe", "\udcfe\udcff", "\ufeff")


def check_names(names: Sequence[str], columns: Sequence[str], file: str) -> list[str]:
    """Return ``columns`` as ``names``, the columns of ``file``, spells them: exactly, else whatever their case.

    Raises ``SourceError`` where a column is missing or there twice.
    """
    matches = [_matches(names, column) for column in columns]
    missing = [column for column, match in zip(columns, matches, strict=True) if not match]
    if missing:
        raise SourceError(f"{file} has no column {', '.join(map(repr, missing))}; {described(names)}")
    twice = [column for column, match in zip(columns, matches, strict=True) if len(match) > 1]
    if twice:
        raise SourceError(
            f"{file} has the column {twice[0]!r} {len(_matches(names, twice[0]))} times; rename all but one"
        )
    return [match[0] for match in matches]


def _matches(names: Sequence[str], column: str) -> list[str]:
    exact = [name for name in names if name == column]
    return exact or [name for name in names if name.lower() == column.lower()]


def described(names: Sequence[str]) -> str:
    """Return the columns of a file for a message: their names where all look like names, else their number and a hint."""
    if names and len(names) <= _MOST_NAMES and all(map(_is_name, names)):
        return f"its columns are {', '.join(map(repr, names))}"
    return f"it has {len(names)} column{'s' * (len(names) != 1)}, whose names are not shown: {_hint(names)}"


def _is_name(name: str) -> bool:
    return len(name) <= _MOST_LETTERS and _NAME.fullmatch(name) is not None


def _hint(names: Sequence[str]) -> str:
    first = names[0] if names else ""
    if first.startswith(_ZIP):
        return "the file is a zip archive or an Excel workbook (.xlsx); export it as CSV"
    if first.startswith(_UTF16) or any("\0" in name for name in names):
        return "the file seems to be UTF-16 or binary; convert it to UTF-8"
    if any(not name.isprintable() for name in names):
        return "the file seems to be binary or in another encoding; expected UTF-8 text"
    return "the file seems to have no header, because not all values of its first line look like names"
