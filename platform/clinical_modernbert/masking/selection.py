"""Which tokens are masked: whole clinical terms by odds, ordinary tokens by what then keeps the rate.

Shapes: R rows, L tokens a row. ``maskable_RL`` is False at special tokens and padding; ``salient_RL`` marks clinical tokens and
is a subset of it. A term is a maximal run of salient tokens: it is masked as a whole or not at all.

The chance of a salient token is set by odds, p_s / (1 - p_s) = odds * p_o / (1 - p_o), with the row's expected count
n_s p_s + n_o p_o = rate * (n_s + n_o). In odds form nothing saturates: p_s < 1 for every rate < 1, a row without clinical
tokens gets p_o = rate, one made of nothing else p_s = rate. So the schedule's rate holds for each row in expectation,
whatever its share of clinical tokens.
"""

import numpy as np
from numpy.typing import NDArray

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]


def mask_probabilities(
    num_salient_R: NDArray[np.int64], num_ordinary_R: NDArray[np.int64], *, rate: float, odds: float
) -> tuple[FloatArray, FloatArray]:
    """Return ``(p_salient_R, p_ordinary_R)`` with the expected masked share of each row equal to ``rate``.

    p_o is the positive root of (w-1) n_o p^2 + (n_o + n_s w - (w-1) r n) p - r n = 0, for odds w, rate r and n = n_s + n_o.
    """
    salient, ordinary = num_salient_R.astype(np.float64), num_ordinary_R.astype(np.float64)
    total = salient + ordinary
    a = (odds - 1.0) * ordinary
    b = ordinary + salient * odds - (odds - 1.0) * rate * total
    c = rate * total
    # 2c / (b + sqrt(b^2 + 4ac)) is the stable form of the root: it has no cancellation and no division by a = 0. Where b < 0
    # the sum stays positive unless a = 0, which needs odds 1 (then b = total) or a row of salient tokens only (b > 0).
    denominator = b + np.sqrt(b * b + 4.0 * a * c)
    ordinary_p = np.divide(2.0 * c, denominator, out=np.zeros_like(total), where=denominator > 0)
    salient_p = odds * ordinary_p / (1.0 + (odds - 1.0) * ordinary_p)
    return salient_p, ordinary_p


def term_starts(salient_RL: BoolArray) -> NDArray[np.intp]:
    """Return for each position the column where its term starts; meaningful at salient positions only."""
    first = salient_RL.copy()
    first[:, 1:] &= ~salient_RL[:, :-1]
    columns = np.where(first, np.arange(salient_RL.shape[1])[None, :], 0)
    return np.maximum.accumulate(columns, axis=1)


def select(
    uniform_RL: FloatArray,
    *,
    maskable_RL: BoolArray,
    salient_RL: BoolArray,
    rate: float,
    odds: float,
    whole_terms: bool,
) -> BoolArray:
    """Return the selected positions, given one uniform number in [0, 1) for each token.

    A term is selected by the number drawn at its first token; with ``whole_terms`` False each token decides for itself.
    """
    salient = salient_RL & maskable_RL
    ordinary = maskable_RL & ~salient
    p_salient, p_ordinary = mask_probabilities(salient.sum(axis=1), ordinary.sum(axis=1), rate=rate, odds=odds)
    drawn = np.take_along_axis(uniform_RL, term_starts(salient), axis=1) if whole_terms else uniform_RL
    return (salient & (drawn < p_salient[:, None])) | (ordinary & (uniform_RL < p_ordinary[:, None]))
