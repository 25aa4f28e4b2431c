"""Buckets of the reported examples for error analyses, and the figures of a bucket.

Legend: N examples, G groups, S seeds.
"""

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.evaluation.report.schema import LabelPair, Recall
from clinical_modernbert.statistics import Floats, Seeds, resampled_means, share_interval, spread

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


def recall(right_GS: Floats, gold_G: Floats, *, num_resamples: int) -> Recall:
    """Return recall as the mean over seeds with its 95 % interval over seeds and groups.

    ``right_GS`` counts the entities of each group that each seed finds, ``gold_G`` all of them. Only groups with such an entity
    are drawn: the others have no recall.
    """
    gold = int(gold_G.sum())
    seeds = Seeds(right_GS.sum(0) / gold, resampled_means(right_GS, gold_G, num_resamples=num_resamples))
    low, high = share_interval(seeds.mean, spread(seeds, num_groups=len(gold_G)))
    return Recall(recall=seeds.mean, low=low, high=high, gold=gold)
