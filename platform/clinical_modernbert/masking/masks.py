"""Pure functions of masking: the schedule, the choice of tokens, their corruption, and the frozen evaluation masks.

Shapes: R rows, L tokens a row. ``maskable_RL`` is False at special tokens and padding; ``salient_RL`` marks clinical tokens.
A term is a maximal run of salient tokens: training masks it as a whole or not at all.

The chance of a salient token is set by odds, p_s / (1 - p_s) = odds * p_o / (1 - p_o), and the row's expected count is
n_s p_s + n_o p_o = rate * (n_s + n_o). Odds never saturate: p_s < 1 for every rate < 1. A row without clinical tokens has
p_o = rate, a row of clinical tokens only has p_s = rate. The schedule's rate therefore holds for each row in expectation,
whatever its share of clinical tokens.

Example: 100 tokens, 20 of them clinical, rate 0.15, odds 3. Then p_s = 0.284 and p_o = 0.117: 20 * 0.284 + 80 * 0.117 = 15.

The two evaluation masks are the same for every sweep arm, step and model on one corpus. ``uniform`` hides 15 % of all
tokens, clinical or not; ``entity`` hides 15 % of the clinical tokens, as whole terms. Every hidden token becomes [MASK], so
that no score contains positions that show the answer. Compare runs with different training masks only on these two.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.recipe.vocabulary import MaskKind

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]

MASK_SHARE = 0.8
RANDOM_SHARE = 0.1
EVALUATION_RATE = 0.15
_SEEDS: dict[MaskKind, int] = {"uniform": 15_001, "entity": 15_002}


@dataclass(frozen=True, slots=True)
class TokenRanges:
    """The ids of a vocabulary by their role in masking."""

    mask_id: int
    ordinary_ids: NDArray[np.int64]
    """Ids that a random replacement is drawn from: no special tokens, no padding of the vocabulary."""
    special_ids: NDArray[np.int64]
    """Ids that are never masked."""


def token_ranges(tokenizer: Any) -> TokenRanges:
    """Return the ranges of a Hugging Face tokenizer; added tokens (special, unused) are the special ones."""
    added = set(tokenizer.get_added_vocab().values())
    return TokenRanges(
        mask_id=int(tokenizer.mask_token_id),
        ordinary_ids=np.array(sorted(set(tokenizer.get_vocab().values()) - added), dtype=np.int64),
        special_ids=np.array(sorted(added), dtype=np.int64),
    )


def linear(step: int, *, num_steps: int, start: float, end: float) -> float:
    """Return ``start`` at step 0, ``end`` at the last step ``num_steps - 1``, and the straight line between."""
    if num_steps == 1:
        return start
    share = min(max(step / (num_steps - 1), 0.0), 1.0)
    return start + (end - start) * share


def row_draws(rows_R: NDArray[np.int64], length: int, *, seed: int, step: int) -> FloatArray:
    """Return uniform numbers [3, R, L]; a row's numbers depend on (seed, step, row) and on nothing else."""
    draws = np.empty((len(rows_R), 3, length))
    for index, row in enumerate(rows_R):
        # Philox is counter-based: key and counter name the stream, so that nothing needs to be drawn and thrown away.
        bits = np.random.Philox(
            key=np.array([seed, step], dtype=np.uint64), counter=np.array([0, 0, 0, row], dtype=np.uint64)
        )
        np.random.Generator(bits).random(out=draws[index])
    return draws.transpose(1, 0, 2)


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


def corrupt(
    ids: NDArray[np.int64], selected: BoolArray, *, uniform: FloatArray, choice: FloatArray, tokens: TokenRanges
) -> NDArray[np.int64]:
    """Return ``ids`` with the selected positions corrupted; all arrays have one shape, both draws are in [0, 1).

    A selected token becomes [MASK] in 80 %, a random ordinary token in 10 %, itself in 10 % (Devlin et al., 2019).
    """
    random_ids = tokens.ordinary_ids[(choice * len(tokens.ordinary_ids)).astype(np.int64)]
    result = np.where(selected & (uniform < MASK_SHARE), tokens.mask_id, ids)
    to_random = selected & (uniform >= MASK_SHARE) & (uniform < MASK_SHARE + RANDOM_SHARE)
    return np.where(to_random, random_ids, result)


def evaluation_mask(
    kind: MaskKind, *, salient_RL: BoolArray, maskable_RL: BoolArray, rows_R: NDArray[np.int64]
) -> BoolArray:
    """Return the positions that the frozen mask hides; ``rows_R`` are row numbers in the corpus's held-out split."""
    drawn = row_draws(rows_R, salient_RL.shape[1], seed=_SEEDS[kind], step=0)[0]
    clinical = salient_RL & maskable_RL
    entity = kind == "entity"
    return select(
        drawn,
        maskable_RL=clinical if entity else maskable_RL,
        salient_RL=clinical,
        rate=EVALUATION_RATE,
        odds=1.0,
        whole_terms=entity,
    )
