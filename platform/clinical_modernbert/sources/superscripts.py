"""Superscripts, subscripts and fractions in flat text: their values stay (``10<sup>9</sup>/L`` is ``10^9/L``, not ``109/L``).

A reader writes ``SUPER`` or ``SUB`` where such an element begins and ``END`` where it ends; ``write_scripts`` replaces these in
flat text. A sign is written only between two digits, where the numbers would be joined; elsewhere plain text has none (``CO2``,
``Ca2+``).
"""

import re

SUPER, SUB, END = "\x01", "\x02", "\x03"
"""Characters that XML cannot hold."""
MARKS = {"sup": SUPER, "sub": SUB}
# MathML: the mark before each child but the first.
_MATH = {"msup": (SUPER,), "msub": (SUB,), "msubsup": (SUB, SUPER), "mfrac": ("/",)}
_SUPER_AFTER_DIGIT = re.compile(f"(?<=\\d){SUPER}\\s*(?=[+\\-\u2212\u2013]?\\d)")
_SUB_AFTER_DIGIT = re.compile(f"(?<=\\d){SUB}\\s*(?=\\d)")
_END_BETWEEN_DIGITS = re.compile(f"(?<=\\d){END}(?=\\d)")
_LEFT = re.compile(f"[{SUPER}{SUB}{END}]")


def mark_before(parent: str, child: str, index: int) -> str:
    """Return the mark before child ``index`` of ``parent``, both local names; an ``END`` closes ``SUPER`` and ``SUB``."""
    marks = _MATH.get(parent, ())
    return marks[index - 1] if 0 < index <= len(marks) else MARKS.get(child, "")


def write_scripts(text: str) -> str:
    """Return flat text with ``^`` and ``_`` where marks are between digits, and without the other marks."""
    if END in text:
        text = _SUB_AFTER_DIGIT.sub("_", _SUPER_AFTER_DIGIT.sub("^", text))
        text = _LEFT.sub("", _END_BETWEEN_DIGITS.sub(" ", text))
    return text
