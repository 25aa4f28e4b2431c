"""Outcomes of a run by example, and intervals and tests over them.

A metric is a function of weights on the examples, and a bootstrap resample is such a weight vector. So one formula gives the
figure, its interval and the paired test.

Legend: N examples, G groups.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.statistics import Floats, bootstrap, paired_permutation

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

    def figures(self, weights_N: Floats | None = None) -> dict[str, float]:
        """Return every metric; ``weights_N`` says how often each example counts, by default once."""
        return self.measure(self.values, np.ones(len(self.groups_N)) if weights_N is None else weights_N)


def group_numbers(groups: list[str]) -> NDArray[np.int64]:
    """Return 0 ... G-1 for group names."""
    return np.unique(np.array(groups), return_inverse=True)[1].astype(np.int64)


def interval(runs: list[Scored], metric: str, *, num_resamples: int, seed: int = 0) -> tuple[float, float, float]:
    """Return (mean over seeds, lower, upper) of a 95 % bootstrap interval over groups; all seeds share the resample."""

    def figure(weights_G: Floats) -> float:
        return float(np.mean([run.figures(weights_G[run.groups_N])[metric] for run in runs]))

    figures_R = bootstrap(figure, runs[0].num_groups, num_resamples=num_resamples, seed=seed)
    # A resample without one of two classes has no AUROC.
    low, high = np.nanpercentile(figures_R, [2.5, 97.5])
    return float(np.mean([run.figures()[metric] for run in runs])), float(low), float(high)


def paired_test(
    ours: list[Scored], other: list[Scored], metric: str, *, num_resamples: int, seed: int = 0
) -> tuple[float, float]:
    """Return (difference of the means over seeds, two-sided p) of a permutation test that swaps the sides group by group.

    Both must have been scored on the same examples with the same seeds in the same order; else ``ValueError``.
    """
    if len(ours) != len(other) or any(
        not np.array_equal(a.groups_N, b.groups_N) for a, b in zip(ours, other, strict=True)
    ):
        raise ValueError("a paired test needs the same examples and seeds on both sides")

    def difference(swapped_G: NDArray[np.bool_]) -> float:
        pairs = zip(ours, other, strict=True)
        mixed = [(_mixed(a, b, swapped_G), _mixed(b, a, swapped_G)) for a, b in pairs]
        return float(np.mean([a.figures()[metric] - b.figures()[metric] for a, b in mixed]))

    return paired_permutation(difference, ours[0].num_groups, num_resamples=num_resamples, seed=seed)


def _mixed(keep: Scored, take: Scored, swapped_G: NDArray[np.bool_]) -> Scored:
    swapped_N = swapped_G[keep.groups_N]
    values = {
        name: np.where(swapped_N.reshape(-1, *[1] * (array.ndim - 1)), take.values[name], array)
        for name, array in keep.values.items()
    }
    return replace(keep, values=values)


def ratio(part: float, whole: float) -> float:
    """Return the share, 0 of nothing."""
    return float(part / whole) if whole else 0.0
