"""Arms against the baseline: differences within a seed over held-out documents or pairs, and a verdict over seeds.

Both models are scored on the same hidden tokens, or on the same pairs. A resample draws groups (documents, or categories of
codes), not tokens or pairs, because those of one group are not independent. An interval over groups says nothing about another
seed (initial weights, order, training masks), and seeds of one arm differ by far more than groups do. So the verdict is a paired
t test over seeds, whose spread counts groups too, with Holm's correction over the arms.

Legend: G groups, R resamples, M metrics, S seeds.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from clinical_modernbert.errors import ModelError
from clinical_modernbert.statistics import (
    Floats,
    Seeds,
    holm,
    index_weights,
    percentiles,
    resampled_means,
    spread,
    t_test,
)
from clinical_modernbert.sweeps.results import Difference, MetricComparison
from clinical_modernbert.sweeps.scores import GroupScores

# With two seeds the t test has one degree of freedom: it could not see any difference of a usual size.
MIN_SEEDS = 3
_LEVEL = 0.05

Pair = tuple[GroupScores, GroupScores]
"""An arm and the baseline with one seed."""


def paired_differences(arm: GroupScores, baseline: GroupScores, *, resamples: int) -> dict[str, Difference]:
    """Return metric -> difference of one seed, with its percentile interval over groups."""
    values_M, resampled_RM = _resampled(arm, baseline, resamples)
    low_M, high_M = percentiles(resampled_RM)
    return {
        metric: Difference(float(values_M[n]), float(low_M[n]), float(high_M[n])) for n, metric in enumerate(arm.sums)
    }


def compare_seeds(pairs: Mapping[str, Pair], *, resamples: int) -> dict[str, MetricComparison]:
    """Return metric -> the differences of every seed, their mean with an interval over seeds and groups, and its p.

    The verdict is still ``undecided``: ``with_verdicts`` gives it, when all arms are known.
    """
    found = [_resampled(*pair, resamples) for pair in pairs.values()]
    by_seed = {seed: paired_differences(*pair, resamples=resamples) for seed, pair in pairs.items()}
    arms = [arm for arm, _ in pairs.values()]
    num_groups = min(len(arm.counts_G) for arm in arms)
    compared = {}
    for n, metric in enumerate(arms[0].sums):
        seeds = Seeds(
            np.array([values_M[n] for values_M, _ in found]),
            np.stack([resampled_RM[:, n] for _, resampled_RM in found], axis=1),
        )
        of, value = spread(seeds, num_groups=num_groups), seeds.mean
        compared[metric] = MetricComparison(
            verdict="undecided",
            mean=Difference(value, value - of.half_width, value + of.half_width),
            p=t_test(value, of) if len(pairs) >= MIN_SEEDS and np.isfinite(value) else None,
            p_holm=None,
            seeds={seed: differences[metric] for seed, differences in by_seed.items()},
        )
    return compared


def with_verdicts(arms: Mapping[str, MetricComparison], *, higher_is_better: bool) -> dict[str, MetricComparison]:
    """Return one metric of all arms in one part with Holm's correction over the arms: better, worse or undecided."""
    tested = {arm: compared.p for arm, compared in arms.items() if compared.p is not None}
    corrected = dict(zip(tested, holm(list(tested.values())), strict=True))
    decided = {}
    for arm, compared in arms.items():
        p_holm, verdict = corrected.get(arm), "undecided"
        if p_holm is not None and p_holm < _LEVEL:
            verdict = "better" if (compared.mean.value > 0) == higher_is_better else "worse"
        decided[arm] = replace(compared, p_holm=p_holm, verdict=verdict)
    return decided


def _resampled(arm: GroupScores, baseline: GroupScores, resamples: int) -> tuple[Floats, Floats]:
    """Return the differences [M] of one seed, and those of each resample [R, M]; seeds share the resamples."""
    if arm.scored != baseline.scored:
        raise ModelError("the two models were not scored on the same hidden tokens or pairs")
    counts_G = arm.counts_G.astype(np.float64)
    deltas_GM = np.stack([arm.sums[metric] - baseline.sums[metric] for metric in arm.sums], axis=1)
    values_M: Floats = deltas_GM.sum(0) / counts_G.sum()
    return values_M, resampled_means(deltas_GM, counts_G, num_resamples=resamples, weights=index_weights)
