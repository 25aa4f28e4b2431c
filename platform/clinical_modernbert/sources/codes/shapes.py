"""The forms of codes, and their one spelling: upper case and no dot.

A spreadsheet takes codes for numbers: it cuts leading zeros and adds ``.0``. Where a code shows that, the table is refused: its
other codes are wrong too, and many of them look right (``1000`` for ``01000``).
"""

import re

from clinical_modernbert.errors import SourceError

_SHAPES = {
    "icd9cm": re.compile(r"\d{3,5}|V\d{2,4}|E\d{3,4}"),
    # The second character is a digit, but in QA0 (from October 2025 on).
    "icd10cm": re.compile(r"[A-Z](?:\d[0-9A-Z]|[A-Z]\d)[0-9A-Z]{0,4}"),
    # MIMIC lists categories of procedures too: two digits, and tables of three characters.
    "icd9pcs": re.compile(r"\d{2,4}"),
    "icd10pcs": re.compile(r"[0-9A-HJ-NP-Z]{3,7}"),
    # Modifiers of HCPCS have two characters.
    "hcpcs": re.compile(r"[0-9A-Z]{5}|[0-9A-Z]{2}"),
}
_BEFORE_DOT = {"icd9pcs": 2}
_CUT = {"icd9cm": re.compile(r"\d{1,2}"), "icd9pcs": re.compile(r"\d"), "hcpcs": re.compile(r"\d|\d{3,4}")}


def shape(system: str) -> str:
    """Return the expression of the codes of ``system`` in their one spelling."""
    return _SHAPES[system].pattern


def has_shape(system: str, code: str) -> bool:
    """Whether ``code``, in its one spelling, can be a code of ``system``."""
    return _SHAPES[system].fullmatch(code) is not None


def plain_code(system: str, code: str, *, place: str) -> str | None:
    """Return a code of ``system`` in its one spelling, or None for what is not one; ``place`` is for the error.

    Raises ``SourceError`` where leading zeros were cut.
    """
    before, dot, after = code.strip().upper().partition(".")
    if dot:
        length = 4 if system == "icd9cm" and before.startswith("E") else _BEFORE_DOT.get(system, 3)
        if len(before) != length or not after:
            return None
    plain = before + after
    if not dot and system in _CUT and _CUT[system].fullmatch(plain):
        raise SourceError(
            f"{place}: a code of {len(plain)} digit{'s' * (len(plain) > 1)}; leading zeros seem to be lost: "
            "export the codes as text"
        )
    return plain if has_shape(system, plain) else None
