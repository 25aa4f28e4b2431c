"""Arms against the baseline: differences within a seed, with bootstrap intervals over the held-out documents.

Both models of a pair are scored on the same hidden tokens of the same documents. A resample draws documents, not tokens, because
the tokens of one note are not independent. What differs between seeds (initial weights, order, training masks) is shown seed by
seed and never mixed into an interval.
"""

import numpy as np

from clinical_modernbert.errors import ModelError
from clinical_modernbert.statistics import index_weights, resampled_means
from clinical_modernbert.sweeps.results import Difference
from clinical_modernbert.sweeps.scores import METRICS, DocumentScores

INTERVAL = 0.95
# Two seeds agree by chance in half of the cases, and an interval over documents does not cover seeds.
MIN_SEEDS = 3


def paired_differences(
    arm: DocumentScores, baseline: DocumentScores, *, resamples: int, seed: int = 0
) -> dict[str, Difference]:
    """Return metric -> difference with its percentile interval."""
    if arm.mask != baseline.mask:
        raise ModelError("the two models were not scored on the same hidden tokens of the same documents")
    tokens_D = arm.tokens_D.astype(np.float64)
    deltas_DM = np.stack([arm.sums[metric] - baseline.sums[metric] for metric in METRICS], axis=1)
    values_M = deltas_DM.sum(0) / tokens_D.sum()
    resampled_RM = resampled_means(deltas_DM, tokens_D, num_resamples=resamples, seed=seed, weights=index_weights)
    tail = (1 - INTERVAL) / 2
    low_M, high_M = np.quantile(resampled_RM, [tail, 1 - tail], axis=0)
    return {
        metric: Difference(float(values_M[n]), float(low_M[n]), float(high_M[n])) for n, metric in enumerate(METRICS)
    }


def verdict(differences: list[Difference], *, higher_is_better: bool) -> str:
    """Return ``better`` or ``worse`` if three or more seeds all say so clearly, else ``undecided``."""
    if (
        len(differences) >= MIN_SEEDS
        and all(d.clear for d in differences)
        and len({d.value > 0 for d in differences}) == 1
    ):
        return "better" if (differences[0].value > 0) == higher_is_better else "worse"
    return "undecided"
