"""Texts longer than the model reads: cut them, or read them in windows and average the windows' vectors by tokens.

One implementation for all callers, so that a text has one vector.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray


def cut(ids: Sequence[int], max_tokens: int, *, left: bool = False) -> list[int]:
    """Return at most ``max_tokens`` ids: [CLS] and [SEP] stay, the end is cut (with ``left``, the beginning)."""
    if len(ids) <= max_tokens:
        return list(ids)
    inner, room = ids[1:-1], max_tokens - 2
    return [ids[0], *(inner[-room:] if left else inner[:room]), ids[-1]]


def windows(ids: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Return the text in the fewest windows of at most ``max_tokens`` ids, each with [CLS] and [SEP], without overlap.

    Windows have equal lengths, give or take a token: a last window of three tokens would carry little meaning. Example: 10
    tokens between [CLS] and [SEP] with ``max_tokens=6`` make windows of 3, 3 and 4 of them.
    """
    if len(ids) <= max_tokens:
        return [list(ids)]
    inner, room = ids[1:-1], max_tokens - 2
    number = -(-len(inner) // room)
    bounds = [len(inner) * i // number for i in range(number + 1)]
    return [[ids[0], *inner[a:b], ids[-1]] for a, b in pairwise(bounds)]


def average(vectors_WD: Sequence[NDArray[np.float32]], lengths: Sequence[int]) -> NDArray[np.float32]:
    """Return the mean [D] of a text's windows, each weighted by its tokens without [CLS] and [SEP].

    ``lengths`` count both; a window of these two alone counts as one token.
    """
    if len(vectors_WD) == 1:
        return vectors_WD[0]
    weights = [max(length - 2, 1) for length in lengths]
    return np.average(np.stack(vectors_WD), axis=0, weights=weights).astype(np.float32)
