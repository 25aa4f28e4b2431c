"""Superscripts, subscripts and MathML in flat text: their values stay (``10<sup>9</sup>/L`` is ``10^9/L``, not ``109/L``).

A reader writes ``SUPER`` or ``SUB`` where such an element begins and ``END`` where it ends; ``write_scripts`` replaces these in
flat text. A sign is written only between two numbers, which would be joined; elsewhere plain text has none (``CO2``, ``Ca2+``).
Of several marks between two numbers the last one that opens counts: ``SO<sub>4</sub><sup>2-</sup>`` is ``SO4^2-``.
"""

import re
from typing import Any

from clinical_modernbert.sources.xml_document import local_name

SUPER, SUB, END = "\x01", "\x02", "\x03"
"""Characters that XML cannot hold."""
MARKS = {"sup": SUPER, "sub": SUB}
# MathML: what is before each child but the first; the last one counts for all that follow.
_CHILDREN = {
    "msup": (SUPER,),
    "msub": (SUB,),
    "msubsup": (SUB, SUPER),
    "munder": (SUB,),
    "mover": (SUPER,),
    "munderover": (SUB, SUPER),
    "mmultiscripts": (SUB,),
    "mfrac": ("/",),
    "mroot": (" ",),
    "mtable": (" ",),
    "mtr": (" ",),
    "mlabeledtr": (" ",),
}
# What is around an element. An ``END`` alone becomes a blank between two digits: 2 before a fraction of 1 and 2 is no 21/2.
_AROUND = {
    "sup": (SUPER, END),
    "sub": (SUB, END),
    "mfrac": (END, END),
    "msqrt": ("\u221a", END),
    "mroot": ("\u221a", END),
    "mspace": (" ", ""),
}
NOT_SHOWN = frozenset({"annotation", "annotation-xml"})
"""Elements of MathML that say the formula again, in TeX or in an editor's own code."""
_NUMBER = r"[+\-\u2212\u2013]?\.?\d"
_FRACTION = re.compile(f"(?<=\\d){SUPER}\\s*(\\d+)\\s*{END}\\s*([/\u2044])\\s*{SUB}\\s*(\\d+)\\s*{END}")
_BETWEEN_NUMBERS = re.compile(f"(?<=\\d)([{SUPER}{SUB}{END}]*[{SUPER}{SUB}])\\s*(?={_NUMBER})")
_END_BETWEEN_DIGITS = re.compile(f"(?<=\\d){END}+(?=\\d)")
_LEFT = re.compile(f"[{SUPER}{SUB}{END}]")


def around(parent: Any, child: Any, index: int) -> tuple[str, str]:
    """Return what is before and after child ``index`` of ``parent``; an ``END`` closes ``SUPER`` and ``SUB``."""
    outer, inner = local_name(parent) or "", local_name(child) or ""
    before, after = _AROUND.get(inner, ("", ""))
    if inner == "mfenced":
        before, after = child.get("open", "(") or END, child.get("close", ")") or END
    if outer == "mfenced":
        signs: tuple[str, ...] = tuple("".join(parent.get("separators", ",").split())) or (END,)
    else:
        signs = _CHILDREN.get(outer, ())
    if not (index and signs):
        return before, after
    sign = signs[min(index, len(signs)) - 1]
    return sign + before, after + (END if sign in MARKS.values() else "")


def write_scripts(text: str) -> str:
    """Return flat text with ``^`` and ``_`` where marks are between numbers, and without the other marks."""
    if END in text:
        text = _FRACTION.sub(r" \1\2\3", text)  # "1 1/2", of which "1^1/2" would be another value
        text = _BETWEEN_NUMBERS.sub(lambda marks: "^" if marks[1][-1] == SUPER else "_", text)
        text = _LEFT.sub("", _END_BETWEEN_DIGITS.sub(" ", text))
    return text
