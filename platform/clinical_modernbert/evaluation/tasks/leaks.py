"""Texts that contain their own label, such as a column that only one outcome fills: refused."""

import re
from collections import Counter

from clinical_modernbert.errors import SourceError

_WORD = re.compile(r"[\w/]+")
# If one word predicts the label in this share of the texts, the label has leaked into them.
_TELLING = 0.97
# Of fewer texts of a label some word tells them apart by chance.
_FEWEST = 10


def refuse_telling_words(name: str, texts: list[str], labels: list[str]) -> None:
    """Raise ``SourceError`` about the file or folder ``name`` if the presence of one word tells two labels apart."""
    telling = telling_words(texts, labels)
    if telling:
        first, second = sorted(set(labels))
        raise SourceError(
            f"{name}: the texts contain their own label: the presence of {', '.join(map(repr, telling[:3]))} alone tells "
            f"{first} from {second} in at least {_TELLING:.0%} of both"
        )


def telling_words(texts: list[str], labels: list[str]) -> list[str]:
    """Return words whose presence or absence alone tells two labels apart in nearly all texts of each.

    This finds column names and codes that are written for one outcome only, in any table.
    """
    names = sorted(set(labels))
    if len(names) < 2 or min(map(labels.count, names)) < _FEWEST:
        return []
    num_first, num_second = labels.count(names[0]), labels.count(names[1])
    counts: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    for text, label in zip(texts, labels, strict=True):
        words = set(_WORD.findall(text.lower()))
        # Also the shape of its digits: the number of an admission differs from stay to stay, but only one label has it.
        counts[label == names[1]].update(words | {re.sub(r"\d", "0", word) for word in words})
    telling = []
    for word in sorted(counts[0].keys() | counts[1].keys()):
        shares = counts[0][word] / num_first, counts[1][word] / num_second
        if max(shares) >= _TELLING and min(shares) <= 1 - _TELLING:
            telling.append(word)
    return telling
