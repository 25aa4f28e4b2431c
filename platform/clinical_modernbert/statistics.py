"""Uncertainty over groups and seeds: bootstrap, t intervals and tests, and Holm's correction.

A group is what is independent: a patient, a document, a category of codes. Items of one group are drawn together, because an
interval over items would pretend to more observations than there are. A resample is a vector of weights [G]: how often each group
was drawn::

    low, high = percentiles(bootstrap(lambda weights_G: mean(weights_G[groups_N]), num_groups, num_resamples=1000))

There are two draws of the same distribution. ``multinomial_weights`` needs no memory for the drawn indices and is the faster one;
``index_weights`` draws indices and counts them. Published figures depend on which one a caller uses, so callers keep theirs.

Seeds are a second level: what a method gives differs between training runs, whatever the groups. ``spread`` adds up both levels.

Legend: B resamples of a block, R resamples, G groups, M figures, S seeds.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Weights = Callable[[np.random.Generator, int, int], Floats]

_BLOCK = 200  # resamples at a time: memory stays at 200 x groups


def resampled_indices(rng: np.random.Generator, num: int) -> NDArray[np.int64]:
    """Return ``num`` indices drawn from ``range(num)`` with replacement."""
    return rng.integers(num, size=num)


def index_weights(rng: np.random.Generator, num_groups: int, num_resamples: int) -> Floats:
    """Return weights [R, G] by counting drawn indices; the same draws whether asked for one by one or together."""
    drawn = (np.bincount(resampled_indices(rng, num_groups), minlength=num_groups) for _ in range(num_resamples))
    return np.stack(list(drawn)).astype(np.float64)


def multinomial_weights(rng: np.random.Generator, num_groups: int, num_resamples: int) -> Floats:
    """Return weights [R, G] from a multinomial distribution with equal chances."""
    return rng.multinomial(num_groups, np.full(num_groups, 1 / num_groups), size=num_resamples).astype(np.float64)


def bootstrap(
    statistic: Callable[[Floats], float | Sequence[float] | Floats],
    num_groups: int,
    *,
    num_resamples: int,
    seed: int = 0,
) -> Floats:
    """Return ``statistic`` of each resample's weights, stacked: [R] or [R, M]."""
    rng = np.random.default_rng(seed)
    return np.array([statistic(index_weights(rng, num_groups, 1)[0]) for _ in range(num_resamples)])


def resampled_means(
    sums_GM: Floats,
    counts_G: Floats,
    *,
    num_resamples: int,
    seed: int = 0,
    weights: Weights = multinomial_weights,
) -> Floats:
    """Return [R, M]: M means over the items of each resample.

    ``sums_GM`` are sums over the items of each group, ``counts_G`` their numbers.
    """
    rng = np.random.default_rng(seed)
    means: list[Floats] = []
    for start in range(0, num_resamples, _BLOCK):
        weights_BG = weights(rng, len(counts_G), min(_BLOCK, num_resamples - start))
        means.append((weights_BG @ sums_GM) / (weights_BG @ counts_G)[:, None])
    return np.concatenate(means)


def mean_intervals(sums_GM: Floats, counts_G: Floats, *, num_resamples: int, seed: int = 0) -> Floats:
    """Return [2, M]: 95 % bootstrap intervals of M means over items in groups; arguments as for ``resampled_means``."""
    return percentiles(resampled_means(sums_GM, counts_G, num_resamples=num_resamples, seed=seed))


def percentiles(figures_R: Floats) -> Floats:
    """Return the ends of the central 95 % over the first axis: [2] or [2, M]."""
    return np.percentile(figures_R, [2.5, 97.5], axis=0)


def usable_resamples(
    num: int, *, num_resamples: int, seed: int, usable: Callable[[NDArray[np.int64]], bool]
) -> Iterator[NDArray[np.int64]]:
    """Yield ``num_resamples`` arrays of indices drawn with replacement, without those that are not ``usable``."""
    rng = np.random.default_rng(seed)
    num_yielded = 0
    while num_yielded < num_resamples:
        indices = resampled_indices(rng, num)
        if usable(indices):
            num_yielded += 1
            yield indices


@dataclass(frozen=True, slots=True)
class Seeds:
    """One figure of several seeds, and what a bootstrap over groups makes of it; both sides of a comparison share resamples."""

    figures_S: Floats
    resampled_RS: Floats

    @property
    def mean(self) -> float:
        """The mean over seeds; NaN if the figure is not defined for one of them."""
        return float(self.figures_S.mean())


@dataclass(frozen=True, slots=True)
class Spread:
    """The standard error of a mean over seeds, or of the difference of two, with the degrees of freedom of its t distribution."""

    standard_error: float
    degrees: float
    num_groups: int

    @property
    def half_width(self) -> float:
        """Half the width of a 95 % interval on the figure's own scale."""
        return self._quantile(0.975) * self.standard_error

    @property
    def detectable(self) -> float:
        """The difference that a test at 5 % finds in four of five repetitions."""
        return (self._quantile(0.975) + self._quantile(0.8)) * self.standard_error

    def _quantile(self, share: float) -> float:
        from scipy.special import stdtrit

        return float(stdtrit(self.degrees, share))


def spread(ours: Seeds, other: Seeds | None = None, *, num_groups: int) -> Spread:
    """Return the spread of the mean over seeds and groups; with ``other``, of ours less the other's, whose seeds do not pair.

    Both levels are random: another training run, and other patients. The mean over seeds varies

    1. over seeds, by the variance of the seeds' figures divided by their number (Welch, for two sides);
    2. over groups, by the variance of the resampled means.

    Both contain what seeds and groups do together (a seed that is bad at some documents only), so that is subtracted once. The
    degrees of freedom are Satterthwaite's. With one seed the spread is that over groups alone.
    """
    sides = [ours] if other is None else [ours, other]
    # A resample without one of two classes has no AUROC.
    usable_R = np.all([np.isfinite(side.resampled_RS).all(axis=1) for side in sides], axis=0)
    resampled = [side.resampled_RS[usable_R] for side in sides]
    means_R = resampled[0].mean(1) - (resampled[1].mean(1) if other else 0.0)
    parts = [(float(means_R.var(ddof=1)) if len(means_R) > 1 else 0.0, max(num_groups - 1, 1))]
    together = 0.0
    for side, resampled_RS in zip(sides, resampled, strict=True):
        num = len(side.figures_S)
        if num > 1 and len(means_R):
            parts.append((float(side.figures_S.var(ddof=1)) / num, num - 1))
            residual_RS = resampled_RS - resampled_RS.mean(1, keepdims=True)
            together += float(residual_RS.var(axis=0).sum()) / (num * (num - 1))
    total = sum(variance for variance, _ in parts)
    over_seeds = total - parts[0][0]
    variance = max(total - together, over_seeds, parts[0][0])
    uncertain = sum(part**2 / degrees for part, degrees in parts)
    return Spread(math.sqrt(variance), total**2 / uncertain if uncertain else parts[0][1], num_groups)


def share_interval(share: float, of: Spread) -> tuple[float, float]:
    """Return the ends of a 95 % interval of a share, made on the logit scale: it stays in [0, 1], and covers with few groups.

    Where every group agrees on 0 or 1 the interval is that of ``num_groups`` equal draws (Clopper and Pearson, 1934).
    """
    if not 0 < share < 1:
        bound = 0.025 ** (1 / of.num_groups)
        return (bound, 1.0) if share >= 1 else (0.0, 1 - bound)
    logit, width = math.log(share / (1 - share)), of.half_width / (share * (1 - share))
    low, high = (1 / (1 + math.exp(-min(max(end, -700.0), 700.0))) for end in (logit - width, logit + width))
    return low, high


def t_test(difference: float, of: Spread) -> float:
    """Return the two-sided p of no difference. It is not below that of swapping all of ``num_groups`` groups: 2 of 2^groups."""
    from scipy.special import stdtr

    least = 2.0 ** (1 - of.num_groups)
    if not of.standard_error:
        return least if difference else 1.0
    return max(float(2 * stdtr(of.degrees, -abs(difference) / of.standard_error)), least)


def holm(p_values: Sequence[float], *, num_tests: int | None = None) -> list[float]:
    """Return p-values corrected for their number (Holm, 1979), in the order given.

    The smallest p is multiplied by the number of tests, the next one by one less, and so on; none is below a smaller one::

        holm([0.01, 0.04, 0.03, 0.005]) == [0.03, 0.06, 0.06, 0.02]

    ``num_tests`` is that number where only some of the tests that could have been made are given: those that the data suggested.
    """
    count = len(p_values) if num_tests is None else num_tests
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(p_values[index] * (count - rank), 1.0))
        corrected[index] = largest
    return corrected
