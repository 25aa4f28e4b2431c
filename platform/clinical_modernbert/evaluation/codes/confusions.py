"""What a look-up of codes confuses: the first candidate of each query, next to what would have been right.

Codes of one category often differ by a single word. A wrong answer is counted under the first kind that fits it and one of the
right answers:

    side            the descriptions differ in words of laterality alone (left, right, bilateral, unspecified)
    encounter       in the encounter or the kind of its healing
    rest of a group in "other", "unspecified", "not elsewhere classified" and the like
    category        the codes are of one category
    chapter         of one chapter
    elsewhere       of different chapters

Legend: B queries of a block, D candidates.
"""

import re
from collections.abc import Callable

import numpy as np

from clinical_modernbert.evaluation.codes.lookup import Embed, LookUp
from clinical_modernbert.evaluation.tasks.ranking import cosines
from clinical_modernbert.sources import CodeEntry

RIGHT, ELSEWHERE = "right", "elsewhere"

_REST = "other|specified|unspecified|nos|nec|not|elsewhere|classified|classifiable|type"
_SIDE = "left|right|bilateral|unilateral|sides?|unspecified"
_ENCOUNTER = (
    "initial|subsequent|encounter|sequela|for|closed|open|fracture|with|routine|delayed|healing|nonunion|malunion"
)


def confusions(of: LookUp, embed: Embed) -> dict[str, float]:
    """Return the share of queries by kind of their first answer, ``right`` among them; the shares add up to 1."""
    counts = dict.fromkeys((RIGHT, *_KINDS, ELSEWHERE), 0)
    answers = iter(of.answers)
    for scores_BD in cosines(embed(of.queries), embed(of.candidates)):
        for first in np.argmax(scores_BD, axis=1).tolist():
            right = next(answers)
            counts[RIGHT if first in right else _kind(of.entries[first], [of.entries[n] for n in right])] += 1
    return {kind: count / len(of.queries) for kind, count in counts.items()}


def _kind(found: CodeEntry, right: list[CodeEntry]) -> str:
    return next((kind for kind, fits in _KINDS.items() if any(fits(found, entry) for entry in right)), ELSEWHERE)


def _differ_in(words: str) -> Callable[[CodeEntry, CodeEntry], bool]:
    return lambda one, other: all(re.fullmatch(words, word) for word in _words(one) ^ _words(other))


def _words(entry: CodeEntry) -> set[str]:
    return set(re.findall(r"[a-z0-9]+", entry.description.lower()))


_KINDS: dict[str, Callable[[CodeEntry, CodeEntry], bool]] = {
    "side": _differ_in(_SIDE),
    "encounter": _differ_in(_ENCOUNTER),
    "rest of a group": _differ_in(_REST),
    "category": lambda one, other: one.code.partition(".")[0] == other.code.partition(".")[0],
    "chapter": lambda one, other: one.chapter_id == other.chapter_id,
}
