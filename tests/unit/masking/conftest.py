"""Rows of tokens with a chosen share of clinical ones, and a vocabulary to mask them with."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from clinical_modernbert.masking import TokenRanges
from numpy.typing import NDArray

PAD_ID, CLS_ID, SEP_ID, MASK_ID = 0, 1, 2, 4
SPECIAL = np.arange(5)


@dataclass(frozen=True, slots=True)
class Rows:
    """Shapes [R, L]."""

    ids: NDArray[np.int64]
    salient: NDArray[np.bool_]
    valid: NDArray[np.bool_]

    @property
    def maskable(self) -> NDArray[np.bool_]:
        """Neither special nor padding."""
        return self.valid & ~np.isin(self.ids, SPECIAL)


@pytest.fixture
def vocabulary() -> TokenRanges:
    """Five special ids, then ordinary ones; ids from 500 on pad the embedding matrix."""
    return TokenRanges(mask_id=MASK_ID, ordinary_ids=np.arange(5, 500), special_ids=SPECIAL)


@pytest.fixture
def make_rows() -> Callable[..., Rows]:
    """Return ``make(num_rows, length, salient_share=, seed=)``."""
    return _make_rows


def _make_rows(num_rows: int, length: int, *, salient_share: float, seed: int) -> Rows:
    """Rows of two segments, padded at the end; clinical terms of 1 to 4 tokens with ordinary words between them."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(5, 500, (num_rows, length))
    valid = np.ones_like(ids, dtype=bool)
    middle = length // 2
    ids[:, [0, middle]], ids[:, [middle - 1, -5]] = CLS_ID, SEP_ID
    ids[:, -4:], valid[:, -4:] = PAD_ID, False
    salient = np.full_like(valid, salient_share == 1.0)
    if 0.0 < salient_share < 1.0:
        for row in salient:
            column = int(rng.integers(1, 5))
            while column < length:
                term = int(rng.integers(1, 5))
                row[column : column + term] = True
                column += term + max(1, round(term * (1 - salient_share) / salient_share))
    return Rows(ids=ids, salient=salient & valid & ~np.isin(ids, SPECIAL), valid=valid)
