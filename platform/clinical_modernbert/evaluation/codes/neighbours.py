"""Chapter purity of codes in the original space, because a 2-D map can invent clusters.

Legend: N points, D width, K neighbours.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.encoder.neighbours import nearest, purity
from clinical_modernbert.evaluation.report.schema import CodeFigures, Estimate
from clinical_modernbert.statistics import mean_intervals

_NUM_RESAMPLES = 1000
_MOST_SILHOUETTE = 5000
_NUM_PERMUTATIONS = 20
_FIGURES = ("purity", "neighbour_agreement", "silhouette")


def permuted_purity(neighbours_NK: NDArray[np.int32], groups_N: NDArray[np.int64], *, seed: int) -> float:
    """Return the purity when groups are dealt to the points at random."""
    return purity(neighbours_NK, np.random.default_rng(seed).permutation(groups_N))


def group_figures(
    vectors_ND: NDArray[np.float32],
    groups_N: NDArray[np.int64],
    categories: Sequence[str],
    *,
    k: int,
    seed: int,
    judged: NDArray[np.bool_] | None = None,
) -> CodeFigures:
    """Return purity@k, nearest-neighbour agreement and silhouette (cosine), with bootstrap intervals over categories.

    Points of one category are near-duplicates and are drawn together. ``purity_outside`` is the purity of the nearest points of
    other categories, which near-duplicates do not lift. Neighbours are among all points; with ``judged`` only those
    points count. ``permutations`` has the mean and the 95 % range of each figure when groups are dealt to the points at random.

    Groups are dealt to points, not to whole categories, so that chance depends on the sizes of the groups and is the same measure
    for every encoder. It is a low bar: near-duplicates of a category alone lift a figure above it. Dealt to whole categories, the
    purity of TF-IDF vectors of all ICD-9 codes is 0.40 instead of 0.08. So a figure above the permutation does not prove that
    chapters are known beyond categories.
    """
    index_NK, _ = nearest(vectors_ND, k=k)
    names = np.unique(np.array(categories), return_inverse=True)[1].astype(np.int64)
    outside_NK, _ = nearest(vectors_ND, k=k, apart_N=names)
    counted = np.ones(len(groups_N), dtype=bool) if judged is None else judged
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(len(groups_N))[:_MOST_SILHOUETTE])
    distances_CC = _cosine_distances(vectors_ND[chosen])
    by_point = _by_point(index_NK, groups_N, counted, chosen, distances_CC)
    outside_N = (groups_N[outside_NK[counted]] == groups_N[counted][:, None]).mean(1)
    clusters = (names[counted], names[counted], names[chosen][counted[chosen]])
    dealt_PM = np.array(
        [
            [
                values_N.mean()
                for values_N in _by_point(index_NK, rng.permutation(groups_N), counted, chosen, distances_CC)
            ]
            for _ in range(_NUM_PERMUTATIONS)
        ]
    )
    low_M, high_M = np.percentile(dealt_PM, [2.5, 97.5], axis=0).tolist()
    means_M = dealt_PM.mean(0).tolist()
    purity_, agreement, silhouette = (
        clustered_mean(values_N, clusters_N, seed=seed) for values_N, clusters_N in zip(by_point, clusters, strict=True)
    )
    return CodeFigures(
        codes=int(counted.sum()),
        purity=purity_,
        purity_outside=clustered_mean(outside_N, names[counted], seed=seed),
        neighbour_agreement=agreement,
        silhouette=silhouette,
        permutation=means_M[0],
        permutations={name: Estimate(mean=means_M[i], low=low_M[i], high=high_M[i]) for i, name in enumerate(_FIGURES)},
    )


def _by_point(
    index_NK: NDArray[np.int32],
    groups_N: NDArray[np.int64],
    counted_N: NDArray[np.bool_],
    chosen_C: NDArray[np.int64],
    distances_CC: NDArray[np.float32],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return purity and agreement of each counted point, and the silhouette of each counted point in the sample."""
    from sklearn.metrics import silhouette_samples

    is_same_NK = groups_N[index_NK[counted_N]] == groups_N[counted_N][:, None]
    # scikit-learn gives the only point of a group a silhouette of 0.
    silhouette_C = silhouette_samples(distances_CC, groups_N[chosen_C], metric="precomputed")
    return is_same_NK.mean(1), is_same_NK[:, 0].astype(float), silhouette_C[counted_N[chosen_C]]


def _cosine_distances(vectors_CD: NDArray[np.float32]) -> NDArray[np.float32]:
    from sklearn.metrics.pairwise import cosine_distances

    distances_CC: NDArray[np.float32] = cosine_distances(vectors_CD)
    np.fill_diagonal(distances_CC, 0.0)  # rounding leaves a trace of the distance to itself
    return distances_CC


def clustered_mean(values_N: NDArray[Any], clusters_N: NDArray[Any], *, seed: int) -> Estimate:
    """Return the mean and a 95 % bootstrap interval in which whole clusters (categories of codes) are drawn."""
    numbers = np.unique(clusters_N, return_inverse=True)[1]
    sums, counts = np.bincount(numbers, values_N).astype(np.float64), np.bincount(numbers).astype(np.float64)
    low, high = mean_intervals(sums[:, None], counts, num_resamples=_NUM_RESAMPLES, seed=seed)[:, 0].tolist()
    return Estimate(mean=float(values_N.mean()), low=low, high=high)
