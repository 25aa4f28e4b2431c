"""Codes of ICD tables as terms, and codes that a text cites as such ("ICD-9 410.0").

A complete code with a dot ("E11.9") is a term wherever it is. Three characters ("N12", "L45", "P53") are mostly something else:
near vision, lumbar level 4/5, a protein. They are terms only where the text cites ICD or has a code with a dot, but for "I10",
which names nothing else. What the table does not have is no term: "T12", "B12", "T36.8" (a heading is no complete code, and this
one is a temperature). Numbers of ICD-9 look like measurements: they count after "ICD-9" only.

Not covered: codes without dots ("K562" is a cell line), LOINC and ATC.
"""

import re
from collections.abc import Iterable, Iterator

CITED_ONLY = "ICD "
"""Begins a term that counts only in a text that cites codes: ``ICD N12``."""

# Of ICD-10-CM: E11, C4A, QA0.
_CATEGORY = r"[A-Z](?:\d[0-9A-Z]|[A-Z]\d)"
_DOTTED = re.compile(rf"{_CATEGORY}\.[0-9A-Z]{{1,4}}")
# Three characters that name nothing else in notes and abstracts.
_UNAMBIGUOUS = frozenset({"I10"})
_CITATION = re.compile(
    r"\bICD[- ]?(?:9|10)(?:[- ]?(?:CM|PCS))?(?: codes?)?(?: for)?[ :(\[]{1,3}|\bICD codes?[ :(\[]{1,3}"
)
_CODE = re.compile(
    rf"(?:{_CATEGORY}(?:\.[0-9A-Z]{{1,4}})?|"
    r"E\d{3}(?:\.\d)?|\d{3}(?:\.\d{1,2})?|\d{2}\.\d{1,2}|(?=\w*\d)[0-9A-HJ-NP-Z]{7})(?!\w|\.\d)"
)
_NEXT = re.compile(r"\s?(?:[,;/]|\bor\b|\band\b|\bto\b|-)\s?")


def code_names(codes: Iterable[str]) -> set[str]:
    """Return the terms of a table's complete codes, which it writes without dots; the dot follows the third character."""
    return {_term(code) for code in codes}


def _term(code: str) -> str:
    if len(code) > 3:
        return f"{code[:3]}.{code[3:]}"
    return code if code in _UNAMBIGUOUS else f"{CITED_ONLY}{code}"


def is_dotted(term: str) -> bool:
    """Return whether a term is a code with a dot."""
    return _DOTTED.fullmatch(term) is not None


def cited(text: str) -> Iterator[tuple[int, int]]:
    """Yield the spans of what follows "ICD-9", "ICD-10" or "ICD code" and has the form of a code, in lists too."""
    if "ICD" not in text:
        return
    for citation in _CITATION.finditer(text):
        place = citation.end()
        while code := _CODE.match(text, place):
            yield code.span()
            following = _NEXT.match(text, code.end())
            if following is None:
                break
            place = following.end()
