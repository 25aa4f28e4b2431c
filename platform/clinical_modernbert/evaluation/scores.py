"""Outcomes of a run by example, and intervals and tests over them.

A metric is a function of weights on the examples, and a bootstrap resample is such a weight vector. So one formula gives the
figure, its interval and the paired test. Both count seeds and groups as random (``statistics.spread``).

Legend: N examples, G groups, S seeds, R resamples, M metrics.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.statistics import Floats, Seeds, bootstrap, share_interval, spread, t_test

Measure = Callable[[dict[str, Floats], Floats], dict[str, float]]
"""(values, weights [N]) -> every metric."""


@dataclass(frozen=True, slots=True)
class Scored:
    """What happened at each reported example."""

    groups_N: NDArray[np.int64]
    """Number of each example's patient, abstract or document: what is resampled."""
    values: dict[str, Floats]
    """What ``measure`` reads, as arrays [N, ...]."""
    measure: Measure
    """The metrics of the task kind."""

    @property
    def num_groups(self) -> int:
        """Number of groups."""
        return int(self.groups_N.max()) + 1

    def defined(self) -> dict[str, float]:
        """Return every metric that is defined for these examples."""
        return {name: value for name, value in self.figures().items() if np.isfinite(value)}

    def figures(self, weights_N: Floats | None = None) -> dict[str, float]:
        """Return every metric; ``weights_N`` says how often each example counts, by default once."""
        return self.measure(self.values, np.ones(len(self.groups_N)) if weights_N is None else weights_N)


def group_numbers(groups: list[str]) -> NDArray[np.int64]:
    """Return 0 ... G-1 for group names."""
    return np.unique(np.array(groups), return_inverse=True)[1].astype(np.int64)


@dataclass(frozen=True, slots=True)
class Resampled:
    """Every metric of the runs of one encoder: by seed, and by seed in each resample of the groups."""

    groups_N: NDArray[np.int64]
    metrics: dict[str, Seeds]

    @property
    def num_groups(self) -> int:
        """Number of groups."""
        return int(self.groups_N.max()) + 1

    def defined(self) -> list[str]:
        """Return the metrics that every seed has; AUROC is not defined where the reported part has one class."""
        return [name for name, seeds in self.metrics.items() if np.isfinite(seeds.mean)]


def resample(runs: Sequence[Scored], *, num_resamples: int, seed: int = 0) -> Resampled:
    """Measure the runs and their resamples. Equal ``seed`` and groups give the same resamples, so two encoders are paired."""
    names = list(runs[0].figures())

    def by_metric(weights_G: Floats) -> Floats:
        return np.array([list(run.figures(weights_G[run.groups_N]).values()) for run in runs])

    num_groups = runs[0].num_groups
    figures_SM = by_metric(np.ones(num_groups))
    resampled_RSM = bootstrap(by_metric, num_groups, num_resamples=num_resamples, seed=seed)
    metrics = {name: Seeds(figures_SM[:, m], resampled_RSM[:, :, m]) for m, name in enumerate(names)}
    return Resampled(runs[0].groups_N, metrics)


CORRELATIONS = ("spearman", "pearson")
"""Metrics between -1 and 1; all others are between 0 and 1."""


def interval(found: Resampled, metric: str) -> tuple[float, float, float]:
    """Return (mean over seeds, lower, upper): a 95 % interval of the figure expected of another seed on other groups.

    The interval of a correlation r is made on Fisher's z scale, which is half the logit of (1 + r) / 2.
    """
    seeds = found.metrics[metric]
    of = spread(seeds, num_groups=found.num_groups)
    if metric not in CORRELATIONS:
        return (seeds.mean, *share_interval(seeds.mean, of))
    low, high = share_interval((1 + seeds.mean) / 2, replace(of, standard_error=of.standard_error / 2))
    return seeds.mean, 2 * low - 1, 2 * high - 1


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference of two means over seeds, with its 95 % interval and the p of no difference."""

    value: float
    low: float
    high: float
    p: float
    detectable: float
    """The difference that this test would find in four of five repetitions."""


def paired_test(ours: Resampled, other: Resampled, metric: str) -> Difference:
    """Test ours less the other's over seeds and groups: pairs by group, because both were scored on the same examples.

    Seeds do not pair: equal numbers do not give two encoders equal heads. ``ValueError`` if the groups differ.
    """
    if not np.array_equal(ours.groups_N, other.groups_N):
        raise ValueError("a paired test needs the same examples on both sides")
    a, b = ours.metrics[metric], other.metrics[metric]
    of, value = spread(a, b, num_groups=ours.num_groups), a.mean - b.mean
    return Difference(value, value - of.half_width, value + of.half_width, t_test(value, of), of.detectable)


def ratio(part: float, whole: float) -> float:
    """Return the share, 0 of nothing."""
    return float(part / whole) if whole else 0.0
