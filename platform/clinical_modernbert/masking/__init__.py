"""Token-aware masking as pure functions on arrays (paper, 3.3): rate by step, whole clinical terms first, 80/10/10."""

from clinical_modernbert.masking.corruption import TokenRanges, corrupt
from clinical_modernbert.masking.evaluation import EVALUATION_RATE, evaluation_mask
from clinical_modernbert.masking.masker import Masker, MaskSpan
from clinical_modernbert.masking.schedule import linear
from clinical_modernbert.masking.selection import mask_probabilities, select, term_starts

__all__ = [
    "EVALUATION_RATE",
    "MaskSpan",
    "Masker",
    "TokenRanges",
    "corrupt",
    "evaluation_mask",
    "linear",
    "mask_probabilities",
    "select",
    "term_starts",
]
