"""Where a token sequence may be cut: at the ends of sections, sentences and words, never inside a clinical term.

Ends are found as positions in the text and moved to tokens: what ends at a position ends with the last token that begins before
it. For ``"No chest pain. Given aspirin."`` with the term ``chest pain``:

    token      No     chest   pain    .          Given   aspirin   .
    position   0-2    2-8     8-13    13-14      14-20   20-28     28-29
    ends with  word   -       -       sentence   word    -         section

``chest`` ends a word too, but the term continues; no space follows ``pain`` or ``aspirin``; the end of the text ends a section.
"""

import re

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.corpus.encoding import Encoded

# What ends with a token, from worst to best place for a cut.
NO_END, WORD_END, SENTENCE_END, SECTION_END = range(4)

_SECTION = re.compile(r"\n\s*\n")
# A line's end, or a full stop, but not of an initial, an abbreviation that a name or a number follows, or a decimal. The
# characters come first and the exceptions after them: only so the search is fast.
_SENTENCE = re.compile(
    r"[\n.!?](?:(?<=\n)|(?<!\b[A-Z].)(?<!\b[Dd]r.)(?<!\b[Mm]r.)(?<!\b[Mm]s.)(?<!\bMrs.)(?<!\bvs.)(?<!\bNo.)(?<!\bFig.)"
    r"(?<!\bet al.)(?<!e\.g.)(?<!i\.e.)[\"')\]]*(?=\s+[\"'(\[]?[A-Z0-9]))"
)
_IS_SPACE = np.array([chr(code).isspace() for code in range(1 << 16)])


def token_ends(texts: list[str], encoded: Encoded, spans_M2: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return what ends with each token of a batch (``NO_END`` to ``SECTION_END``).

    ``spans_M2`` are the clinical terms, with offsets into the joined texts.
    """
    starts_N = encoded.starts_N
    ends = np.full(len(starts_N), NO_END, dtype=np.uint8)
    # Positions in the joined texts. A word ends before its space, which most tokenizers put into the next token; a line ends
    # after its newline.
    sentences, sections = [], []
    base = 0
    for text in texts:
        sentences += [base + match.end() for match in _SENTENCE.finditer(text)]
        sections += [base + match.end() for match in _SECTION.finditer(text)]
        base += len(text)
    # From the worst kind to the best, so that a better end replaces a worse one of the same token.
    for places, value in ((_word_ends(texts), WORD_END), (sentences, SENTENCE_END), (sections, SECTION_END)):
        # The first token that begins there or later opens the next segment; the token before it is the last one.
        last = np.searchsorted(starts_N, np.asarray(places, dtype=np.int64), "left") - 1
        ends[last[last >= 0]] = value
    # Inside a clinical term nothing ends: every token of a term but its last one.
    if len(spans_M2):
        first = np.maximum(np.searchsorted(starts_N, spans_M2[:, 0], "right") - 1, 0)
        ends[covered(first, np.searchsorted(starts_N, spans_M2[:, 1], "left") - 1, size=len(ends))] = NO_END
    # A text's last token always ends something, whatever the characters say.
    ends[np.cumsum(encoded.lengths_D)[encoded.lengths_D > 0] - 1] = SECTION_END
    return ends


def covered(first_M: NDArray[np.int64], end_M: NDArray[np.int64], *, size: int) -> NDArray[np.bool_]:
    """Return which of ``size`` places are in any of the ranges [first, end)."""
    # +1 where a range begins, -1 where it ends: the running sum is the number of ranges around a place.
    steps = np.zeros(size + 1, dtype=np.int64)
    real = first_M < end_M
    np.add.at(steps, first_M[real], 1)
    np.add.at(steps, end_M[real], -1)
    return np.cumsum(steps[:-1]) > 0


def _word_ends(texts: list[str]) -> NDArray[np.int64]:
    # One code point a character; a blank after a character that is not blank is the end of a word.
    codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    space = _IS_SPACE[np.minimum(codes, len(_IS_SPACE) - 1)]
    space[1:] &= ~space[:-1]
    return np.flatnonzero(space)
