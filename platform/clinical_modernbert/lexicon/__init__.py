"""Clinical terms and their positions in a text: they make a token salient for masking (paper, 3.3)."""

from clinical_modernbert.lexicon.matcher import Matcher
from clinical_modernbert.lexicon.terms import build_terms

__all__ = ["Matcher", "build_terms"]
