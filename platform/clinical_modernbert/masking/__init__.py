"""Token-aware masking as pure functions on arrays (paper, 3.3), and the two frozen masks of every evaluation."""

from clinical_modernbert.masking.masker import Masker, MaskSpan
from clinical_modernbert.masking.masks import (
    EVALUATION_RATE,
    TokenRanges,
    corrupt,
    evaluation_mask,
    linear,
    mask_probabilities,
    row_draws,
    select,
    term_starts,
    token_ranges,
)
from clinical_modernbert.recipe.vocabulary import MASK_KINDS, TOP_K, MaskKind

__all__ = [
    "EVALUATION_RATE",
    "MASK_KINDS",
    "TOP_K",
    "MaskKind",
    "MaskSpan",
    "Masker",
    "TokenRanges",
    "corrupt",
    "evaluation_mask",
    "linear",
    "mask_probabilities",
    "row_draws",
    "select",
    "term_starts",
    "token_ranges",
]
