"""Where runs go wrong on entities: by type, length and rarity of the entity, and by length of its document.

Entities are shown only where the task says that its data is public, from the first seed; everything else is counts.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.evaluation.tasks.errors.buckets import (
    MOST_CHARACTERS,
    MOST_EXAMPLES,
    label_pairs,
    quartiles,
    recall,
)
from clinical_modernbert.evaluation.tasks.examples import Splits, WordExample
from clinical_modernbert.evaluation.tasks.spans import entity_spans, f1

# How often the training part has an entity's words: (at least, name).
_RARITY = ((6, "6 and more times in training"), (2, "2 to 5 times"), (1, "once"), (0, "never"))

# Part of the entities -> group -> counts of all seeds.
_ByPart = dict[str, dict[str, Counter[str]]]


def entity_errors(
    splits: Splits[WordExample], predicted: Sequence[Sequence[str]], *, num_resamples: int, shown: bool
) -> dict[str, Any]:
    """Return F1 by type and by length of the document, recall by length and rarity of the entity, and confused types.

    ``predicted`` has for each seed one tag a word, example after example; ``gold`` counts entities once, whatever the seeds.
    Recall has a 95 % bootstrap interval over groups.
    """
    known = Counter(_words(e, first, last) for e in splits.train for _, first, last in entity_spans(e.tags))
    by_type: dict[str, Counter[str]] = {}
    by_words: _ByPart = {}
    by_rarity: _ByPart = {}
    documents = [Counter[str]() for _ in splits.test]
    confused: Counter[tuple[str, str]] = Counter()
    missed: list[dict[str, str]] = []
    for seed, tags in enumerate(predicted):
        at = 0
        for e, document in zip(splits.test, documents, strict=True):
            guess, at = entity_spans(tags[at : at + len(e.tags)]), at + len(e.tags)
            places = {(first, last): kind for kind, first, last in guess}
            document.update(predicted=len(guess))
            for kind, _, _ in guess:
                by_type.setdefault(kind, Counter())["predicted"] += 1
            for span in sorted(entity_spans(e.tags), key=lambda s: s[1]):
                kind, first, last = span
                right = int(span in guess)
                text = _words(e, first, last)
                rarity = next(name for least, name in _RARITY if known[text] >= least)
                length = f"{min(last - first + 1, 5)}{'+' if last - first >= 4 else ''}"
                by_type.setdefault(kind, Counter()).update(gold=1, right=right)
                for table, key in ((by_words, length), (by_rarity, rarity)):
                    table.setdefault(key, {}).setdefault(e.group, Counter()).update(gold=1, right=right)
                document.update(gold=1, right=right)
                other = places.get((first, last))
                if other and other != kind:
                    confused[kind, other] += 1
                if not right and not seed:
                    missed.append(
                        {
                            "entity": text[:MOST_CHARACTERS],
                            "gold": kind,
                            "predicted": other or "other borders, or none",
                        }
                    )
    seeds = len(predicted)

    def recalls(table: _ByPart, keys: Sequence[str]) -> dict[str, dict[str, float]]:
        return {key: recall(table[key].values(), seeds, num_resamples=num_resamples) for key in keys if key in table}

    analysis: dict[str, Any] = {
        "by_type": {
            kind: {"f1": f1(c["right"], c["predicted"], c["gold"]), "gold": c["gold"] // seeds}
            for kind, c in sorted(by_type.items())
        },
        "by_document_words": [
            {"words": [int(low), int(high)], "documents": int(here.sum()), "f1": _joint_f1(documents, here)}
            for low, high, here in quartiles(np.array([len(e.words) for e in splits.test]))
        ],
        "recall_by_words": recalls(by_words, sorted(by_words)),
        "recall_by_rarity": recalls(by_rarity, [name for _, name in _RARITY]),
        "label_pairs": label_pairs(confused, seeds),
    }
    if shown:
        analysis["examples"] = missed[:MOST_EXAMPLES]
    return analysis


def _joint_f1(documents: Sequence[Counter[str]], chosen_N: NDArray[np.bool_]) -> float:
    total = sum((documents[number] for number in np.flatnonzero(chosen_N).tolist()), Counter[str]())
    return f1(total["right"], total["predicted"], total["gold"])


def _words(example: WordExample, first: int, last: int) -> str:
    return example.text[example.words[first][0] : example.words[last][1]].lower()
