"""Trivial methods for texts with any number of labels: frequencies, the labels of similar texts, and logistic regression.

Legend: N examples, P training examples, L labels, K labels that are trained.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from clinical_modernbert.evaluation.tasks.examples import LabelSetExample, Splits
from clinical_modernbert.evaluation.tasks.label_set_metrics import Bools, Scores

_NEIGHBOURS = 10
_MOST_TERMS = 200_000
_MOST_REGRESSIONS = 100
_BLOCK = 256  # texts at a time


@dataclass(frozen=True, slots=True)
class PartScores:
    """Scores of a method between 0 and 1."""

    development: Scores
    test: Scores


def methods(splits: Splits[LabelSetExample], train_PL: Bools) -> Iterator[tuple[str, str, PartScores]]:
    """Yield (name, how it was made, scores)."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    frequency_L = train_PL.mean(axis=0).astype(np.float32)
    sizes = len(splits.development), len(splits.test)
    yield (
        "most frequent",
        "every text gets the frequencies of the training labels",
        PartScores(*(np.tile(frequency_L, (size, 1)) for size in sizes)),
    )
    vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=_MOST_TERMS, dtype=np.float32)
    train = vectors.fit_transform([example.text for example in splits.train])
    parts = [vectors.transform([e.text for e in part]) for part in (splits.development, splits.test)]
    yield (
        "similar texts",
        f"labels of the {_NEIGHBOURS} most similar training texts by TF-IDF of words and word pairs",
        PartScores(*(_of_neighbours(part, train, train_PL) for part in parts)),
    )
    if train_PL.shape[1] <= _MOST_REGRESSIONS:
        yield (
            "TF-IDF + logistic regression",
            "words and word pairs, one regression a label, C = 10",
            PartScores(*_by_regressions(train, train_PL, parts)),
        )


def _of_neighbours(part: Any, train: Any, train_PL: Bools) -> Scores:
    """Return [N, L]: the labels of the most similar training texts, weighted by their cosines."""
    scores_NL = np.zeros((part.shape[0], train_PL.shape[1]), dtype=np.float32)
    count = min(_NEIGHBOURS, train.shape[0])
    for start in range(0, part.shape[0], _BLOCK):
        cosines_NP = (part[start : start + _BLOCK] @ train.T).toarray()
        best_NK = np.argpartition(-cosines_NP, count - 1, axis=1)[:, :count]
        for row, best_K in enumerate(best_NK):
            weights_K = np.maximum(cosines_NP[row, best_K], 1e-6)
            scores_NL[start + row] = weights_K @ train_PL[best_K] / weights_K.sum()
    return np.minimum(scores_NL, 1)


def _by_regressions(train: Any, train_PL: Bools, parts: list[Any]) -> list[Scores]:
    from sklearn.linear_model import LogisticRegression

    found = [np.tile(train_PL.mean(axis=0).astype(np.float32), (part.shape[0], 1)) for part in parts]
    for label in range(train_PL.shape[1]):
        # A label that all training texts have, or none, keeps its frequency.
        if train_PL[:, label].all() or not train_PL[:, label].any():
            continue
        regression = LogisticRegression(C=10.0, max_iter=1000).fit(train, train_PL[:, label])
        for scores_NL, part in zip(found, parts, strict=True):
            scores_NL[:, label] = regression.predict_proba(part)[:, 1]
    return found
