"""Packing: token sequences become rows of one length, with no token lost and almost every place used.

Texts wait in a buffer, in an order drawn once. A row begins with the text that waits longest. One or two others close it, so
that the sum of the places is exact: whole texts where such wait; else texts cut at the end of a sentence or section that makes
the sum exact. What is left of a cut text waits again. Only where no sentence end gives the sum (the last rows, texts without
sentences) is a text cut at the end of a word. Each stretch is a segment with its own [CLS] and [SEP], 2 places.

Six texts in rows of 64 (tokens, and in brackets the tokens up to each end of a sentence):

    A 18   B 20   C 70 (24, 46, 52)   D 42 (16)   E 18   F 56 (16, 18)

    row 0   E 0-18   D 0-42             20 + 44 = 64        two whole texts
    row 1   C 0-24   A 0-18   F 0-16    26 + 20 + 18 = 64   C and F cut at sentence ends
    row 2   F 16-56  B 0-20             42 + 22 = 64        what is left of F
    row 3   C 24-70                     48                  nothing else waits

A segment of a cut text has at least 16 tokens, and a sixteenth of the row: texts shorter than twice that are never cut. Best fit
of whole texts would leave 1 to 13 % of the places empty, by their lengths. The order of the rows means nothing: training
draws them by a permutation.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.corpus.cut_points import SENTENCE_END, WORD_END
from clinical_modernbert.corpus.text_buffer import SPECIALS, TextBuffer

# Attempts at a row before places stay empty; ends of one text that are tried before the next text; texts that are tried for a
# cut at a word.
_TRIES = 12
_ENDS_TRIED = 8
_WORDS_TRIED = 32
# A row with a 256th of its places left counts as full.
_SLACK = 256


@dataclass(frozen=True, slots=True)
class Segments:
    """Stretches of documents that become segments; parallel arrays."""

    document: NDArray[np.int64]
    start: NDArray[np.int64]
    """First token within the flat token array."""
    length: NDArray[np.int64]
    """Tokens of text, without [CLS] and [SEP]."""


def pack_documents(
    lengths_D: NDArray[np.int64],
    *,
    row_length: int,
    ends_N: NDArray[np.uint8] | None = None,
    copies_D: NDArray[np.int64] | None = None,
) -> tuple[Segments, list[list[int]]]:
    """Return the segments of documents of ``lengths_D`` tokens, one after another in a flat array, and rows of segment numbers.

    ``ends_N`` states for each token what ends with it (``cut_points.NO_END`` to ``SECTION_END``); without it a document may be
    cut anywhere. ``copies_D`` states how often each document appears, once where None. A word or a term is cut only where it
    alone fills a row.
    """
    copies_D = np.ones(len(lengths_D), dtype=np.int64) if copies_D is None else copies_D
    packer = _Packer(lengths_D, np.repeat(np.arange(len(lengths_D)), copies_D), row_length, ends_N)
    rows: list[list[int]] = []
    written: list[tuple[int, int, int]] = []
    while row := packer.next_row():
        rows.append(list(range(len(written), len(written) + len(row))))
        written += row
    document, start, length = np.array(written, dtype=np.int64).reshape(-1, 3).T
    return Segments(document=document, start=start, length=length), rows


class _Packer:
    """Fills one row after another from the buffer."""

    def __init__(
        self,
        lengths_D: NDArray[np.int64],
        documents: NDArray[np.int64],
        row_length: int,
        ends_N: NDArray[np.uint8] | None,
    ) -> None:
        if ends_N is not None and len(ends_N) != lengths_D.sum():
            raise ValueError(f"ends_N has {len(ends_N)} tokens, the documents have {lengths_D.sum()}")
        self._row_length = row_length
        self._slack = row_length // _SLACK
        self._ends_N = ends_N
        # Seeded by the row length alone: the same documents give the same rows.
        self._rng = np.random.default_rng(row_length)
        queue = self._rng.permutation(documents[lengths_D[documents] > 0]).tolist()
        sentences = np.empty(0, dtype=np.int64) if ends_N is None else np.flatnonzero(ends_N >= SENTENCE_END) + 1
        self._buffer = TextBuffer(queue, lengths_D, sentences, row_length=row_length)

    def next_row(self) -> list[tuple[int, int, int]]:
        """Return the segments of the next row as (document, first token, tokens); none where every text is in a row."""
        if not self._buffer.texts:
            return []
        # Attempt 0 takes the texts by age; the others put texts in another order after the oldest. Nothing is taken yet: every
        # attempt puts its slots back into the tables.
        best: list[tuple[int, int]] = []
        best_space = self._row_length + 1
        for attempt in range(_TRIES):
            taken, space = self._fill(drawn=attempt > 0)
            for slot, _ in taken:
                self._buffer.enter(slot)
            if space < best_space:
                best, best_space = taken, space
            if space <= self._slack or len(taken) == len(self._buffer.texts):
                break
        row = [self._buffer.give(slot, places) for slot, places in best]
        for slot, _ in best:
            self._buffer.settle(slot)
        return row

    def _fill(self, *, drawn: bool) -> tuple[list[tuple[int, int]], int]:
        """Return (slot, places) of a row's segments and the places left; the slots are out of the tables."""
        taken: dict[int, int] = {}
        space = self._row_length
        order = list(self._buffer.texts)
        if drawn:
            order[1:] = self._rng.permutation(order[1:]).tolist()
        skipped = 0
        for slot in order:
            if space <= self._slack or skipped > _ENDS_TRIED:
                break
            # Can this text and at most two others fill the row exactly? Then it is done.
            self._buffer.leave(slot)
            closing = self._close_after(slot, space)
            if closing:
                return [*taken.items(), *closing], 0
            # Otherwise it takes its places, and a later text may close the row.
            places = self._step(slot, space)
            if places:
                taken[slot] = places
                space -= places
            else:
                self._buffer.enter(slot)
                skipped += 1
        # No sum is exact: fill what is left with cuts at the ends of words.
        while space > self._slack and (segment := self._cut_at_word(space, order, taken)):
            slot, places = segment
            self._buffer.leave(slot)
            taken[slot] = places
            space -= places
        if not taken:
            # The oldest text by itself: whole, or cut within a word where no word ends within reach.
            text = self._buffer.texts[order[0]]
            self._buffer.leave(order[0])
            taken[order[0]] = (
                text.whole or min(space - SPECIALS, text.end - text.start - self._buffer.shortest) + SPECIALS
            )
            space -= taken[order[0]]
        return list(taken.items()), space

    def _close_after(self, slot: int, space: int) -> list[tuple[int, int]]:
        """Return segments that fill ``space`` exactly, the first from ``slot``, or none; whole texts rather than cut ones."""
        text = self._buffer.texts[slot]
        # The longest cuts that fit, longest first.
        cuts = text.cuts[: np.searchsorted(text.cuts, space, "right")][: -_ENDS_TRIED - 1 : -1].tolist()
        if text.whole == space or (cuts and cuts[0] == space):
            return [(slot, space)]
        # Preference: whole + whole, whole + cut, cut + whole, cut + cut.
        whole = [[text.whole]] if 0 < text.whole < space else []
        for candidates in (*whole, cuts):
            for cut in (False, True):
                for places in candidates:
                    others = self._buffer.exact(space - places, cut=cut)
                    if others:
                        return [(slot, places), *others]
        return []

    def _step(self, slot: int, space: int) -> int:
        """Return how many places of this text to take in a row that stays open; 0 to try another text first."""
        text = self._buffer.texts[slot]
        # A whole text that fits, unless no whole text could follow it.
        if 0 < text.whole <= space:
            left = space - text.whole
            return text.whole if left <= self._slack or self._buffer.has_whole(left) else 0
        # The longest cut that leaves room for one more segment.
        at = int(np.searchsorted(text.cuts, space - self._buffer.shortest - SPECIALS, "right"))
        return int(text.cuts[at - 1]) if at else 0

    def _cut_at_word(self, space: int, order: list[int], taken: dict[int, int]) -> tuple[int, int] | None:
        """Return the segment that fills ``space`` best, whole or cut at the end of a word."""
        best: tuple[int, int] | None = None
        for slot in [slot for slot in order if slot not in taken][:_WORDS_TRIED]:
            text = self._buffer.texts[slot]
            places = text.whole if 0 < text.whole <= space else 0
            most = min(space - SPECIALS, text.end - text.start - self._buffer.shortest)
            if places < space and most >= self._buffer.shortest:
                tokens = self._last_word(text.start, most)
                # What stays empty must have room for a segment; but a row that is not full is better than one without this text.
                if tokens and (space - tokens - SPECIALS <= self._slack or not places):
                    places = tokens + SPECIALS
            if places > (best[1] if best else 0):
                best = slot, places
            if best and space - best[1] <= self._slack:
                break
        return best

    def _last_word(self, start: int, most: int) -> int:
        """Return the tokens to the last end of a word within ``most``: 0 where there is none, ``most`` where the row has none."""
        if self._ends_N is None:
            return most
        shortest = self._buffer.shortest
        ends = np.flatnonzero(self._ends_N[start + shortest - 1 : start + self._row_length] >= WORD_END) + shortest
        if not len(ends):
            return most
        at = int(np.searchsorted(ends, most, "right"))
        return int(ends[at - 1]) if at else 0
