"""Where a token sequence may be cut: at the ends of sections, sentences and words, never inside a clinical term."""

import re

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.corpus.packing import NO_END, SECTION_END, SENTENCE_END, WORD_END

_SECTION = re.compile(r"\n\s*\n")
# A full stop, but not of an initial, an abbreviation that a name or a number follows, or a decimal.
_SENTENCE = re.compile(
    r"(?<!\b[A-Z])(?<!\b[Dd]r)(?<!\b[Mm]r)(?<!\b[Mm]s)(?<!\bMrs)(?<!\bvs)(?<!\bNo)(?<!\bFig)(?<!\bet al)(?<!e\.g)(?<!i\.e)"
    r"[.!?][\"')\]]*(?=\s+[\"'(\[]?[A-Z0-9])|\n"
)
_SPACE = re.compile(r"\s+")


def token_ends(text: str, offsets: list[tuple[int, int]], spans: list[tuple[int, int]]) -> NDArray[np.uint8]:
    """Return what ends with each token (``packing.NO_END`` to ``SECTION_END``); ``spans`` are the text's clinical terms."""
    ends = np.full(len(offsets), NO_END, dtype=np.uint8)
    if not offsets:
        return ends
    starts = np.array(offsets)[:, 0]
    for pattern, value in ((_SPACE, WORD_END), (_SENTENCE, SENTENCE_END), (_SECTION, SECTION_END)):
        # A word ends before its space, which most tokenizers hold in the next token; a line after its newline.
        places = [found.start() if value == WORD_END else found.end() for found in pattern.finditer(text)]
        # The first token that begins there or later opens the next piece.
        last = np.searchsorted(starts, np.array(places, dtype=np.int64), "left") - 1
        ends[last[last >= 0]] = value
    for start, end in spans:
        ends[max(int(np.searchsorted(starts, start, "right")) - 1, 0) : np.searchsorted(starts, end, "left") - 1] = (
            NO_END
        )
    ends[-1] = SECTION_END
    return ends
