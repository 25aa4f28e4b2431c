"""What a selected token becomes: [MASK] in 80 %, a random ordinary token in 10 %, itself in 10 % (Devlin et al., 2019)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MASK_SHARE = 0.8
RANDOM_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class TokenRanges:
    """What masking must know of a vocabulary."""

    mask_id: int
    ordinary_ids: NDArray[np.int64]
    """Ids that may stand for a random token: no special token, no padding of the vocabulary."""
    special_ids: NDArray[np.int64]
    """Ids that are never masked."""


def corrupt(
    ids: NDArray[np.int64],
    selected: NDArray[np.bool_],
    *,
    uniform: NDArray[np.float64],
    choice: NDArray[np.float64],
    tokens: TokenRanges,
) -> NDArray[np.int64]:
    """Return ``ids`` with the selected positions corrupted; all arrays have one shape, both draws lie in [0, 1)."""
    random_ids = tokens.ordinary_ids[(choice * len(tokens.ordinary_ids)).astype(np.int64)]
    result = np.where(selected & (uniform < MASK_SHARE), tokens.mask_id, ids)
    to_random = selected & (uniform >= MASK_SHARE) & (uniform < MASK_SHARE + RANDOM_SHARE)
    return np.where(to_random, random_ids, result)
