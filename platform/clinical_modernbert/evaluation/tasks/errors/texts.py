"""Where runs on texts with one label go wrong: by label pair, length, and share of unknown words.

Legend: N reported examples.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from clinical_modernbert.evaluation.report.schema import (
    ErrorAnalysis,
    LengthBucket,
    TextExampleError,
    UnknownWordsBucket,
)
from clinical_modernbert.evaluation.tasks.errors.buckets import MOST_CHARACTERS, MOST_EXAMPLES, label_pairs, quartiles
from clinical_modernbert.evaluation.tasks.examples import Splits, TextExample


def text_errors(splits: Splits[TextExample], predicted: Sequence[Sequence[str]], *, shown: bool) -> ErrorAnalysis:
    """Return the most frequent confusions, and accuracy by length and by the share of words that the training split lacks.

    ``predicted`` has the labels of the reported examples for each seed; counts of pairs are means over seeds.
    """
    gold = [e.label for e in splits.test]
    pairs = Counter((a, b) for labels in predicted for a, b in zip(gold, labels, strict=True) if a != b)
    right_N = np.mean([[a == b for a, b in zip(gold, labels, strict=True)] for labels in predicted], axis=0)
    vocabulary = {word for e in splits.train for word in e.text.lower().split()}
    texts = [e.text.lower().split() for e in splits.test]
    num_words_N = np.array([len(words) for words in texts])
    unknown_N = np.array([sum(word not in vocabulary for word in words) / max(len(words), 1) for words in texts])
    wrong = [(e, label) for e, label in zip(splits.test, predicted[0], strict=True) if e.label != label]
    return ErrorAnalysis(
        label_pairs=label_pairs(pairs, len(predicted)),
        by_length=[
            LengthBucket(
                words=(int(low), int(high)), examples=int(chosen_N.sum()), accuracy=float(right_N[chosen_N].mean())
            )
            for low, high, chosen_N in quartiles(num_words_N)
        ],
        by_unknown_words=[
            UnknownWordsBucket(
                share=(float(low), float(high)), examples=int(chosen_N.sum()), accuracy=float(right_N[chosen_N].mean())
            )
            for low, high, chosen_N in quartiles(unknown_N)
        ],
        examples=[
            TextExampleError(text=e.text[:MOST_CHARACTERS], gold=e.label, predicted=label)
            for e, label in wrong[:MOST_EXAMPLES]
        ]
        if shown
        else None,
    )
