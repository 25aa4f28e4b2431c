"""The positions of terms in a text: whole words only, leftmost and longest, in singular or plural, whatever the case.

Both sides are mapped character by character: letters and digits to lower case, everything else to a space. So "beta-blocker"
finds "beta blocker", and several blanks and hyphens in a row count as one. Terms in the automaton (pyahocorasick) begin with a
space, so it reports only starts of words; this module checks the ends. A term with capitals ("COPD") is found in this spelling
only. If a text defines an abbreviation in brackets after a term, "myotonic dystrophy (DM)", it is a term in this text. Codes of
three characters count only in a text that cites codes (``codes.py``).
"""

import re
from collections.abc import Iterable, Iterator, Sequence

import ahocorasick
import numpy as np

from clinical_modernbert.lexicon.codes import CITED_ONLY, cited, is_dotted

# Endings that may follow a term and belong to its word.
_PLURALS = ("s ", "es ")
_JOINING = " \t\n\r\u00a0-\u2010\u2011'\u2019"
_PUNCTUATION = "\x1f"  # a blank that never counts as one with its neighbours
_DEFINED = re.compile(r"\s?\(\s?([A-Z](?:[A-Za-z0-9]|-(?=[A-Z0-9])){1,9}?)s?\s?[);,]")
_LEAST_CAPITALS = 2


class _CharacterMap(dict[int, int]):
    """Table for ``str.translate``, filled as characters are met."""

    def __missing__(self, code: int) -> int:
        character = chr(code)
        # lower() of U+0130 has two characters, of every other one.
        mapped = (
            ord(character.lower()[0]) if character.isalnum() else ord(" " if character in _JOINING else _PUNCTUATION)
        )
        self[code] = mapped
        return mapped


class Matcher:
    """Finds terms; built once in a process, and again from its terms after unpickling."""

    def __init__(self, terms: Iterable[str]) -> None:
        self._terms = tuple(terms)
        self._characters = _CharacterMap()
        self._automaton = ahocorasick.Automaton()
        for term in self._terms:
            spelling = term.removeprefix(CITED_ONLY)
            mapped = self._mapped(spelling)[0].strip()
            if mapped:
                self._add(mapped, spelling if spelling != spelling.lower() else "")
        self._automaton.make_automaton()
        # Codes that need a citation, and those that are one.
        self._short_codes = {term.removeprefix(CITED_ONLY) for term in self._terms if term.startswith(CITED_ONLY)}
        self._codes = {term for term in self._terms if is_dotted(term)}

    def __reduce__(self) -> tuple[type["Matcher"], tuple[tuple[str, ...]]]:
        return Matcher, (self._terms,)

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Return the non-overlapping [start, end) character spans of the terms in ``text``, in order.

        Of terms that begin at the same position, the longest counts; a plural's ending is part of the span.
        """
        if not len(self._automaton):
            return []
        spans = _leftmost(self._longest(text))
        defined = set(_defined(text, spans))
        if not defined:
            return spans
        longest = dict(spans)
        for abbreviation in defined:
            for match in re.finditer(rf"(?<!\w){re.escape(abbreviation)}s?(?!\w)", text):
                longest[match.start()] = max(match.end(), longest.get(match.start(), 0))
        return _leftmost(longest)

    def _longest(self, text: str) -> dict[int, int]:
        """Return start -> end of the longest term at each start."""
        mapped, positions = self._mapped(text)
        # One space before shifts indexes by one: a match that ends at index i of `mapped` ends before index i of `text`.
        mapped = f" {mapped}   "
        longest: dict[int, int] = {}
        short: dict[int, int] = {}
        cites = False
        for index, (length, cased) in self._automaton.iter(mapped):
            if mapped[index + 1] == " ":
                end = index
            elif mapped[index + 1 : index + 3] == _PLURALS[0]:
                end = index + 1
            elif mapped[index + 1 : index + 4] == _PLURALS[1]:
                end = index + 2
            else:
                continue
            start, end = index - length, end - 1  # of the first and the last character
            if positions is not None:
                start, end = positions[start], positions[end]
            if cased and not text.startswith(cased, start):
                continue
            found = short if cased in self._short_codes else longest
            found[start] = max(end + 1, found.get(start, 0))
            cites = cites or cased in self._codes
        if self._codes:
            of_citations = dict(cited(text))
            if cites or of_citations:
                longest = short | of_citations | longest
        return longest

    def _add(self, mapped: str, cased: str) -> None:
        self._automaton.add_word(f" {mapped}", (len(mapped), cased))
        if cased:
            return
        for ending, plural in (("y", "ies"), ("sis", "ses")):  # biopsies, metastases
            if mapped.endswith(ending) and len(mapped) > len(ending) + 1:
                form = mapped.removesuffix(ending) + plural
                self._automaton.add_word(f" {form}", (len(form), ""))

    def _mapped(self, text: str) -> tuple[str, Sequence[int] | None]:
        """Return the mapped text and, where blanks were left out, the position of each of its characters in ``text``."""
        mapped = text.translate(self._characters)
        positions = None
        if "  " in mapped:
            codes = np.frombuffer(mapped.encode("utf-32-le"), dtype="<u4")
            is_blank = codes == ord(" ")
            kept = np.append(True, ~(is_blank[1:] & is_blank[:-1]))
            mapped, positions = codes[kept].tobytes().decode("utf-32-le"), np.flatnonzero(kept).tolist()
        return mapped.replace(_PUNCTUATION, " "), positions


def _leftmost(longest: dict[int, int]) -> list[tuple[int, int]]:
    spans = []
    reached = 0
    for start in sorted(longest):
        if start >= reached:
            reached = longest[start]
            spans.append((start, reached))
    return spans


def _defined(text: str, spans: list[tuple[int, int]]) -> Iterator[str]:
    """Yield the abbreviations that follow a term in brackets and begin with a letter that one of its words begins with."""
    for start, end in spans:
        # A plain look first: most terms have no bracket after them.
        if "(" in text[end : end + 3] and (match := _DEFINED.match(text, end)):
            initials = {word[0].lower() for word in re.findall(r"\w+", text[start:end])}
            capitals = sum(character.isupper() or character.isdigit() for character in match[1])
            if capitals >= _LEAST_CAPITALS and match[1][0].lower() in initials:
                yield match[1]
