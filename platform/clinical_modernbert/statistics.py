"""Uncertainty by resampling: bootstrap over groups, paired permutation tests, and Holm's correction.

A group is what is independent: a patient, a document, a category of codes. Items of one group are drawn together, because an
interval over items would pretend to more observations than there are. A resample is a vector of weights [G]: how often each group
was drawn::

    low, high = percentiles(bootstrap(lambda weights_G: mean(weights_G[groups_N]), num_groups, num_resamples=1000))

There are two draws of the same distribution. ``multinomial_weights`` needs no memory for the drawn indices and is the faster one;
``index_weights`` draws indices and counts them. Published figures depend on which one a caller uses, so callers keep theirs.

Legend: B resamples of a block, R resamples, G groups, M figures.
"""

from collections.abc import Callable, Iterator, Sequence

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


def paired_permutation(
    difference: Callable[[NDArray[np.bool_]], float], num_groups: int, *, num_resamples: int, seed: int = 0
) -> tuple[float, float]:
    """Return (difference, two-sided p) of a test that swaps the two sides group by group.

    ``difference`` takes which groups [G] are swapped. The observed labelling counts as one of the permutations, so that p is
    never 0.
    """
    observed = difference(np.zeros(num_groups, dtype=bool))
    rng = np.random.default_rng(seed)
    # Sums in another order differ in the last bits: an equal difference must count as equal.
    as_far = sum(abs(difference(rng.random(num_groups) < 0.5)) >= abs(observed) - 1e-12 for _ in range(num_resamples))
    return observed, (as_far + 1) / (num_resamples + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number (Holm, 1979), in the order given.

    The smallest p is multiplied by the number of tests, the next one by one less, and so on; none is below a smaller one::

        holm([0.01, 0.04, 0.03, 0.005]) == [0.03, 0.06, 0.06, 0.02]
    """
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(p_values[index] * (len(p_values) - rank), 1.0))
        corrected[index] = largest
    return corrected
