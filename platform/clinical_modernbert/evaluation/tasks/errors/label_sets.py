"""Where runs on texts with any number of labels go wrong: by label, by a label's number in training, and by length.

Legend: N reported examples, S seeds, G groups, P pairs of an example and a label that it has.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.evaluation.report.schema import DocumentBucket, ErrorAnalysis, Recall, TypeErrors
from clinical_modernbert.evaluation.scores import group_numbers
from clinical_modernbert.evaluation.tasks.errors.buckets import quartiles, recall
from clinical_modernbert.evaluation.tasks.examples import LabelSetExample, Splits
from clinical_modernbert.evaluation.tasks.spans import f1

_MOST_LABELS = 20
# How many training texts have a label: (at least, name).
_RARITY = (
    (1000, "1,000 and more training texts"),
    (100, "100 to 999"),
    (10, "10 to 99"),
    (1, "1 to 9"),
    (0, "none"),
)

Pair = tuple[int, str]
"""(number of a reported example, label)."""


def label_set_errors(
    splits: Splits[LabelSetExample],
    labels: Sequence[str],
    predicted: Sequence[NDArray[np.int64]],
    *,
    num_resamples: int,
) -> ErrorAnalysis:
    """Return the analysis; ``predicted`` has for each seed rows of (example, number of the label). F1 are over all seeds."""
    gold = [(n, label) for n, example in enumerate(splits.test) for label in example.labels]
    guesses = [{(int(n), labels[int(label)]) for n, label in of_seed} for of_seed in predicted]
    return ErrorAnalysis(
        by_type=_by_label(gold, guesses),
        recall_by_rarity=_by_rarity(splits, gold, guesses, num_resamples=num_resamples),
        by_document_words=_by_words(splits.test, gold, guesses),
    )


def _by_label(gold: Sequence[Pair], guesses: Sequence[set[Pair]]) -> dict[str, TypeErrors]:
    of_gold = Counter(label for _, label in gold)
    right = Counter(label for n, label in gold for of_seed in guesses if (n, label) in of_seed)
    of_guesses = Counter(label for of_seed in guesses for _, label in of_seed)
    return {
        label: TypeErrors(f1=f1(right[label], of_guesses[label], count * len(guesses)), gold=count)
        for label, count in of_gold.most_common(_MOST_LABELS)
    }


def _by_rarity(
    splits: Splits[LabelSetExample], gold: Sequence[Pair], guesses: Sequence[set[Pair]], *, num_resamples: int
) -> dict[str, Recall]:
    in_training = Counter(label for example in splits.train for label in example.labels)
    groups = [example.group for example in splits.test]
    found = {}
    for place, (least, name) in enumerate(_RARITY):
        most = _RARITY[place - 1][0] if place else np.inf
        pairs = [pair for pair in gold if least <= in_training[pair[1]] < most]
        if not pairs:
            continue
        numbers = group_numbers([groups[n] for n, _ in pairs])
        gold_G = np.bincount(numbers).astype(np.float64)
        right_SP = np.array([[pair in of_seed for pair in pairs] for of_seed in guesses], dtype=np.float64)
        by_seed = [np.bincount(numbers, right_P, minlength=len(gold_G)) for right_P in right_SP]
        right_GS = np.stack(by_seed, axis=1).astype(np.float64)
        found[name] = recall(right_GS, gold_G, num_resamples=num_resamples)
    return found


def _by_words(
    examples: Sequence[LabelSetExample], gold: Sequence[Pair], guesses: Sequence[set[Pair]]
) -> list[DocumentBucket]:
    num, all_gold = len(examples), set(gold)
    gold_N = len(guesses) * np.bincount([n for n, _ in gold], minlength=num)
    predicted_N = np.bincount([n for of_seed in guesses for n, _ in of_seed], minlength=num)
    right_N = np.bincount([n for of_seed in guesses for n, _ in of_seed & all_gold], minlength=num)
    return [
        DocumentBucket(
            words=(int(low), int(high)),
            documents=int(chosen_N.sum()),
            f1=f1(right_N[chosen_N].sum(), predicted_N[chosen_N].sum(), gold_N[chosen_N].sum()),
        )
        for low, high, chosen_N in quartiles(np.array([len(example.text.split()) for example in examples]))
    ]
