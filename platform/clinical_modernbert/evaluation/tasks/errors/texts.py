"""Where runs on texts with one label go wrong: by label pair, length, and share of unknown words.

Legend: N reported examples.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from clinical_modernbert.evaluation.tasks.errors.buckets import MOST_CHARACTERS, MOST_EXAMPLES, label_pairs, quartiles
from clinical_modernbert.evaluation.tasks.examples import Splits, TextExample


def text_errors(splits: Splits[TextExample], predicted: Sequence[Sequence[str]], *, shown: bool) -> dict[str, Any]:
    """Return the most frequent wrong label pairs, and accuracy by length and by how many words training lacks.

    ``predicted`` has the labels of the reported part for each seed; counts of pairs are means over seeds.
    """
    gold = [e.label for e in splits.test]
    pairs = Counter((a, b) for guesses in predicted for a, b in zip(gold, guesses, strict=True) if a != b)
    right_N = np.mean([[a == b for a, b in zip(gold, guesses, strict=True)] for guesses in predicted], axis=0)
    known = {word for e in splits.train for word in e.text.lower().split()}
    words = [e.text.lower().split() for e in splits.test]
    unknown_N = np.array([sum(word not in known for word in own) / max(len(own), 1) for own in words])
    analysis: dict[str, Any] = {
        "label_pairs": label_pairs(pairs, len(predicted)),
        "by_length": [
            {"words": [int(low), int(high)], "examples": int(here.sum()), "accuracy": float(right_N[here].mean())}
            for low, high, here in quartiles(np.array([len(own) for own in words]))
        ],
        "by_unknown_words": [
            {"share": [float(low), float(high)], "examples": int(here.sum()), "accuracy": float(right_N[here].mean())}
            for low, high, here in quartiles(unknown_N)
        ],
    }
    if shown:
        wrong = [(e, guess) for e, guess in zip(splits.test, predicted[0], strict=True) if e.label != guess]
        analysis["examples"] = [
            {"text": e.text[:MOST_CHARACTERS], "gold": e.label, "predicted": guess}
            for e, guess in wrong[:MOST_EXAMPLES]
        ]
    return analysis
