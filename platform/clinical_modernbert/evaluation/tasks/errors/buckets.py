"""Buckets of the reported examples for error analyses, and the figures of a bucket.

Legend: N examples, G groups.
"""

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.evaluation.report.schema import LabelPair, Recall
from clinical_modernbert.statistics import mean_intervals

MOST_EXAMPLES = 5
MOST_CHARACTERS = 200
_MOST_PAIRS = 10


def quartiles(values_N: NDArray[Any]) -> list[tuple[float, float, NDArray[np.bool_]]]:
    """Return (least value, greatest value, which [N]) of each quarter that is not empty; equal values share a quarter."""
    edges = np.unique(np.quantile(values_N, [0, 0.25, 0.5, 0.75, 1]))
    # A value equal to an edge is in the next quarter; the greatest value has no next one.
    borders = [-np.inf, *edges[1:-1], np.inf]
    quarters = [(values_N >= low) & (values_N < high) for low, high in pairwise(borders)]
    return [(values_N[chosen_N].min(), values_N[chosen_N].max(), chosen_N) for chosen_N in quarters if chosen_N.any()]


def label_pairs(counts: Counter[tuple[str, str]], num_seeds: int) -> list[LabelPair]:
    """Return the most frequent (gold, predicted) pairs with their mean number of examples over seeds."""
    return [
        LabelPair(gold=gold, predicted=predicted, examples=count / num_seeds)
        for (gold, predicted), count in counts.most_common(_MOST_PAIRS)
    ]


def recall(groups: Iterable[Counter[str]], num_seeds: int, *, num_resamples: int) -> Recall:
    """Return recall with its 95 % bootstrap interval over groups, from each group's ``gold`` and ``right`` of all seeds.

    Only groups with such an entity are drawn: the others have no recall.
    """
    counts_G2 = np.array([[c["right"], c["gold"]] for c in groups], dtype=np.float64)
    right_G, gold_G = counts_G2.T
    low, high = mean_intervals(right_G[:, None], gold_G, num_resamples=num_resamples)[:, 0].tolist()
    gold = int(gold_G.sum())
    return Recall(recall=float(right_G.sum()) / gold, low=low, high=high, gold=gold // num_seeds)
