"""The two frozen evaluation masks: the same for every arm, every step and every model on one corpus.

``uniform`` hides 15 % of the ordinary and clinical tokens alike, ``entity`` 15 % of the clinical ones as whole terms. Selected
tokens all become [MASK]: a score then means "what stood here", with no share of positions that show the answer.
Arms trained under different masks are compared on these and never on their own training masks.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.masking.masker import row_draws
from clinical_modernbert.masking.selection import select

EVALUATION_RATE = 0.15
_SEEDS = {"uniform": 15_001, "entity": 15_002}


def evaluation_mask(
    kind: Literal["uniform", "entity"],
    *,
    salient_RL: NDArray[np.bool_],
    maskable_RL: NDArray[np.bool_],
    rows_R: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Return the hidden positions; ``rows_R`` are row numbers in the corpus's held-out split."""
    drawn = row_draws(rows_R, salient_RL.shape[1], seed=_SEEDS[kind], step=0)[0]
    clinical = salient_RL & maskable_RL
    if kind == "entity":
        return select(
            drawn, maskable_RL=clinical, salient_RL=clinical, rate=EVALUATION_RATE, odds=1.0, whole_terms=True
        )
    return select(
        drawn, maskable_RL=maskable_RL, salient_RL=clinical, rate=EVALUATION_RATE, odds=1.0, whole_terms=False
    )
