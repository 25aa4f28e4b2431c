"""Neighbours and chapter purity in the original space, where figures mean something; a 2-D map can invent clusters.

Legend: N points, D width, K neighbours.
"""

import numpy as np
from numpy.typing import NDArray

_BLOCK = 1024


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
