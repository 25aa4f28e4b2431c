"""Neighbours and chapter purity in the original space, where figures mean something; a 2-D map can invent clusters.

Legend: N points, D width, K neighbours.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BLOCK = 1024
_NUM_RESAMPLES = 1000
_MOST_SILHOUETTE = 5000


def nearest(vectors_ND: NDArray[np.float32], *, k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return (row numbers, cosine similarities) [N, K] of the nearest other points, nearest first; exact."""
    norms = np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    unit = vectors_ND / np.maximum(norms, 1e-12)
    index = np.empty((len(unit), k), dtype=np.int32)
    similarity = np.empty((len(unit), k), dtype=np.float32)
    for start in range(0, len(unit), _BLOCK):
        block = unit[start : start + _BLOCK] @ unit.T
        block[np.arange(len(block)), np.arange(start, start + len(block))] = -np.inf
        chosen = np.argpartition(-block, k - 1, axis=1)[:, :k]
        found = np.take_along_axis(block, chosen, axis=1)
        # Equal similarities are ordered by row number, so that the result does not hang on argpartition's mood.
        order = np.lexsort((chosen, -found), axis=1)
        index[start : start + len(block)] = np.take_along_axis(chosen, order, axis=1)
        similarity[start : start + len(block)] = np.take_along_axis(found, order, axis=1)
    return index, similarity


def purity(neighbours_NK: NDArray[np.int32], groups_N: NDArray[np.int64]) -> float:
    """Return the mean share of a point's neighbours that are of its own group."""
    return float((groups_N[neighbours_NK] == groups_N[:, None]).mean())


def permuted_purity(neighbours_NK: NDArray[np.int32], groups_N: NDArray[np.int64], *, seed: int) -> float:
    """Return the purity when groups are dealt to the points at random: what chance gives for these group sizes."""
    return purity(neighbours_NK, np.random.default_rng(seed).permutation(groups_N))


def text_vectors(texts: list[str]) -> NDArray[np.float32]:
    """Return TF-IDF vectors reduced to 256 dimensions: what shared words alone give."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    matrix = TfidfVectorizer(sublinear_tf=True).fit_transform(texts)
    components = min(256, min(matrix.shape) - 1)
    reduced: NDArray[np.float32] = TruncatedSVD(components, random_state=0).fit_transform(matrix).astype(np.float32)
    return reduced


def group_figures(
    vectors_ND: NDArray[np.float32],
    groups_N: NDArray[np.int64],
    categories: Sequence[str],
    *,
    k: int,
    seed: int,
    judged: NDArray[np.bool_] | None = None,
) -> dict[str, Any]:
    """Return purity@k, nearest-neighbour agreement and silhouette (cosine), with bootstrap intervals over categories.

    Points of one category are near-duplicates of each other: they are drawn together. Neighbours are looked for among all points;
    with ``judged`` only those points are counted.
    """
    from sklearn.metrics import silhouette_samples

    index_NK, _ = nearest(vectors_ND, k=k)
    counted = np.ones(len(groups_N), dtype=bool) if judged is None else judged
    own_NK = groups_N[index_NK] == groups_N[:, None]
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(len(groups_N))[:_MOST_SILHOUETTE])
    # A group with one point in the sample has no silhouette of its own: scikit-learn gives it 0.
    silhouette_C = silhouette_samples(vectors_ND[chosen], groups_N[chosen], metric="cosine")
    permuted = groups_N[np.random.default_rng(seed).permutation(len(groups_N))]
    names = np.unique(np.array(categories), return_inverse=True)[1]
    seen = counted[chosen]
    return {
        "codes": int(counted.sum()),
        "purity": _with_interval(own_NK[counted].mean(1), names[counted], seed=seed),
        "neighbour_agreement": _with_interval(own_NK[counted, 0].astype(float), names[counted], seed=seed),
        "silhouette": _with_interval(silhouette_C[seen], names[chosen][seen], seed=seed),
        "permutation": float((permuted[index_NK[counted]] == permuted[counted][:, None]).mean()),
    }


def _with_interval(values_N: NDArray[Any], clusters_N: NDArray[Any], *, seed: int) -> dict[str, float]:
    """Return the mean and a 95 % bootstrap interval in which whole categories are drawn."""
    numbers = np.unique(clusters_N, return_inverse=True)[1]
    sums, counts = np.bincount(numbers, values_N), np.bincount(numbers)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=_NUM_RESAMPLES)
    low, high = np.percentile(drawn @ sums / (drawn @ counts), [2.5, 97.5])
    return {"mean": float(values_N.mean()), "low": float(low), "high": float(high)}
