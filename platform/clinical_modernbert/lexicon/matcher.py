"""The positions of terms in a text: whole words only, leftmost and longest, case-insensitive, singular or plural.

Both sides are mapped character by character: letters and digits to lower case, everything else to a space, so that offsets stay
and "beta-blocker" finds "beta blocker". Terms in the automaton (pyahocorasick) begin with a space, so it reports only
starts of words; this module checks the ends.
"""

from collections.abc import Iterable

import ahocorasick

# Endings that may follow a term and belong to its word.
_PLURALS = ("s ", "es ")


class _CharacterMap(dict[int, int]):
    """Table for ``str.translate``, filled as characters are met."""

    def __missing__(self, code: int) -> int:
        character = chr(code)
        # lower() of U+0130 has two characters, of every other one.
        mapped = ord(character.lower()[0]) if character.isalnum() else ord(" ")
        self[code] = mapped
        return mapped


class Matcher:
    """Finds terms; built once in a process, and again from its terms after unpickling."""

    def __init__(self, terms: Iterable[str]) -> None:
        self._terms = tuple(terms)
        self._characters = _CharacterMap()
        self._automaton = ahocorasick.Automaton()
        for term in self._terms:
            mapped = term.translate(self._characters).strip()
            if mapped:
                self._automaton.add_word(f" {mapped}", len(mapped))
        self._automaton.make_automaton()

    def __reduce__(self) -> tuple[type["Matcher"], tuple[tuple[str, ...]]]:
        return Matcher, (self._terms,)

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Return the non-overlapping [start, end) character spans of the terms in ``text``, in order.

        Of terms that begin at the same position, the longest counts; a plural's -s or -es is part of the span.
        """
        if not len(self._automaton):
            return []
        # One space before shifts indexes by one: a match that ends at index i of `mapped` ends before index i of `text`.
        mapped = f" {text.translate(self._characters)}   "
        longest: dict[int, int] = {}
        for index, length in self._automaton.iter(mapped):
            start = index - length
            if mapped[index + 1] == " ":
                longest[start] = index
            elif mapped[index + 1 : index + 3] == _PLURALS[0]:
                longest[start] = max(index + 1, longest.get(start, 0))
            elif mapped[index + 1 : index + 4] == _PLURALS[1]:
                longest[start] = max(index + 2, longest.get(start, 0))
        spans = []
        reached = 0
        for start in sorted(longest):
            if start >= reached:
                reached = longest[start]
                spans.append((start, reached))
        return spans
