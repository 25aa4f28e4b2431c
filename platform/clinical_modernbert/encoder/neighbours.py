"""Nearest vectors by cosine, and how pure the neighbourhoods of groups are.

Legend: N points, D width, K neighbours.
"""

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.errors import ModelError

_BLOCK = 1024


def nearest(
    vectors_ND: NDArray[np.float32], *, k: int, apart_N: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return (row numbers, cosine similarities) [N, K] of the nearest other points, nearest first; exact.

    With ``apart_N`` points with an equal value are not neighbours of each other.
    """
    broken = int((~np.isfinite(vectors_ND).all(axis=1)).sum())
    if broken:
        raise ModelError(f"{broken} of {len(vectors_ND)} vectors are not finite: they have no neighbours")
    norms = np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    unit = vectors_ND / np.maximum(norms, 1e-12)
    index = np.empty((len(unit), k), dtype=np.int32)
    similarity = np.empty((len(unit), k), dtype=np.float32)
    for start in range(0, len(unit), _BLOCK):
        block = unit[start : start + _BLOCK] @ unit.T
        block[np.arange(len(block)), np.arange(start, start + len(block))] = -np.inf
        if apart_N is not None:
            block[apart_N[start : start + len(block), None] == apart_N[None, :]] = -np.inf
        chosen = np.argpartition(-block, k - 1, axis=1)[:, :k]
        similarities = np.take_along_axis(block, chosen, axis=1)
        # Equal similarities are ordered by row number: argpartition leaves their order open.
        order = np.lexsort((chosen, -similarities), axis=1)
        index[start : start + len(block)] = np.take_along_axis(chosen, order, axis=1)
        similarity[start : start + len(block)] = np.take_along_axis(similarities, order, axis=1)
    return index, similarity


def purity(neighbours_NK: NDArray[np.int32], groups_N: NDArray[np.int64]) -> float:
    """Return the mean share of a point's neighbours that are of its own group."""
    return float((groups_N[neighbours_NK] == groups_N[:, None]).mean())
