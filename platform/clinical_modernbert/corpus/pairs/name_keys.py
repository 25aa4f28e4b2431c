"""When two names are one name for the split: the order of words, plurals, British spelling, possessives and hyphens do not count.

It is stricter than ``text_key``, by which equal pairs are dropped: "edema" and "oedema" are a pair to learn from, but when one of
them is held out, so is the other. Words that change the meaning ("other", "unspecified", "of") count.
"""

import re

from clinical_modernbert.lexicon.spellings import british

_POSSESSIVE = re.compile(r"['\u2019]s\b")
_WORD = re.compile(r"[^\W_]+")
# ``abscess``, ``virus``: no plurals. ``-is`` and ``-es`` are one ending ("metastasis", "metastases").
_NO_PLURAL = ("ss", "us")
_ENDINGS = ("es", "is", "s", "e")
_LEAST_LETTERS = 4
"""Of a word that is cut."""


def name_keys(text: str) -> frozenset[str]:
    """Return two keys, of which equal names share one: the words sorted, and all letters in a row ("non-union", "nonunion").

    A text without a word has none.
    """
    words = [_singular(british(word)) for word in _WORD.findall(_POSSESSIVE.sub("", text.casefold()))]
    return frozenset((" ".join(sorted(words)), "".join(words))) if words else frozenset()


def _singular(word: str) -> str:
    """Return what singular and plural have in common ("diseas" of disease and diseases); it need not be a word."""
    if len(word) < _LEAST_LETTERS or word.endswith(_NO_PLURAL):
        return word
    if word.endswith("ies"):
        return f"{word[:-3]}y"
    ending = next((ending for ending in _ENDINGS if word.endswith(ending)), "")
    return word.removesuffix(ending)
