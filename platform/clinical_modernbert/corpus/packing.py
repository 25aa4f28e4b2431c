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

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.corpus.cut_points import SENTENCE_END, WORD_END

_SPECIALS = 2  # [CLS] and [SEP] of each segment
_SHORTEST_SEGMENT = 16
_SHORTEST_SHARE = 16  # of a row
# Texts in the buffer: enough that an exact sum exists, few enough that a search through them is fast.
_WAITING = 512
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
    waiting = _Waiting(lengths_D, np.repeat(np.arange(len(lengths_D)), copies_D), row_length, ends_N)
    rows: list[list[int]] = []
    number = 0
    while not waiting.is_empty:
        count = waiting.write_row()
        rows.append(list(range(number, number + count)))
        number += count
    document, start, length = np.array(waiting.written, dtype=np.int64).reshape(-1, 3).T
    return Segments(document=document, start=start, length=length), rows


class _Waiting:
    """The buffer: one slot a text, and for each number of places the number of slots that can give exactly that many.

    A text gives all of itself ("whole") or a beginning up to the end of a sentence ("cut"). Legend: K slots, L places from 0 to
    the row's length, [CLS] and [SEP] included. A slot that the current row took from is in no table.
    """

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
        self._stump = min(max(_SHORTEST_SEGMENT, row_length // _SHORTEST_SHARE), max((row_length - _SPECIALS) // 2, 1))
        self._slack = row_length // _SLACK
        self._ends_N = ends_N
        # Tokens before each cut point, over all documents.
        self._sentences = np.empty(0, dtype=np.int64) if ends_N is None else np.flatnonzero(ends_N >= SENTENCE_END) + 1
        # Seeded by the row length alone: the same documents give the same rows.
        self._rng = np.random.default_rng(row_length)
        self._queue = iter(self._rng.permutation(documents[lengths_D[documents] > 0]).tolist())
        self._last_D, self._lengths_D = np.cumsum(lengths_D), lengths_D
        size = max(_WAITING, row_length // 8)
        # By slot: the places of its whole text, and which numbers of places a cut can give. By number of places: how many slots.
        self._whole_K = np.zeros(size, dtype=np.int64)
        self._cut_KL = np.zeros((size, row_length + 1), dtype=bool)
        self._num_whole_L = np.zeros(row_length + 1, dtype=np.int64)
        self._num_cut_L = np.zeros(row_length + 1, dtype=np.int64)
        self._by_age: dict[int, _Text] = {}  # in the order in which the texts came
        self.written: list[tuple[int, int, int]] = []
        for slot in range(size):
            self._refill(slot)

    @property
    def is_empty(self) -> bool:
        """Whether every text is in a row."""
        return not self._by_age

    def write_row(self) -> int:
        """Fill one row as well as possible and return the number of its segments."""
        # Attempt 0 takes the texts by age; the others put texts in another order after the oldest. Nothing is taken yet: every
        # attempt puts its slots back into the tables.
        best: list[tuple[int, int]] = []
        best_space = self._row_length + 1
        for attempt in range(_TRIES):
            taken, space = self._fill(drawn=attempt > 0)
            for slot, _ in taken:
                self._enter(slot)
            if space < best_space:
                best, best_space = taken, space
            if space <= self._slack or len(taken) == len(self._by_age):
                break
        # Write the best attempt.
        for slot, places in best:
            self._leave(slot)
            text = self._by_age[slot]
            tokens = places - _SPECIALS
            self.written.append((text.document, text.start, tokens))
            text.start += tokens
        # A text that is used up makes room for the next one; what is left of a cut text keeps its age.
        for slot, _ in best:
            text = self._by_age[slot]
            if text.start == text.end:
                del self._by_age[slot]
                self._refill(slot)
            else:
                self._measure(text)
                self._enter(slot)
        return len(best)

    def _fill(self, *, drawn: bool) -> tuple[list[tuple[int, int]], int]:
        """Return (slot, places) of a row's segments and the places left; the slots are out of the tables."""
        taken: dict[int, int] = {}
        space = self._row_length
        order = list(self._by_age)
        if drawn:
            order[1:] = self._rng.permutation(order[1:]).tolist()
        skipped = 0
        for slot in order:
            if space <= self._slack or skipped > _ENDS_TRIED:
                break
            # Can this text and at most two others fill the row exactly? Then it is done.
            self._leave(slot)
            closing = self._close_after(slot, space)
            if closing:
                return [*taken.items(), *closing], 0
            # Otherwise it takes its places, and a later text may close the row.
            places = self._step(slot, space)
            if places:
                taken[slot] = places
                space -= places
            else:
                self._enter(slot)
                skipped += 1
        # No sum is exact: fill what is left with cuts at the ends of words.
        while space > self._slack and (segment := self._cut_at_word(space, order, taken)):
            slot, places = segment
            self._leave(slot)
            taken[slot] = places
            space -= places
        if not taken:
            # The oldest text by itself: whole, or cut within a word where no word ends within reach.
            text = self._by_age[order[0]]
            self._leave(order[0])
            taken[order[0]] = text.whole or min(space - _SPECIALS, text.end - text.start - self._stump) + _SPECIALS
            space -= taken[order[0]]
        return list(taken.items()), space

    def _close_after(self, slot: int, space: int) -> list[tuple[int, int]]:
        """Return segments that fill ``space`` exactly, the first from ``slot``, or none; whole texts rather than cut ones."""
        text = self._by_age[slot]
        # The longest cuts that fit, longest first.
        cuts = text.cuts[: np.searchsorted(text.cuts, space, "right")][: -_ENDS_TRIED - 1 : -1].tolist()
        if text.whole == space or (cuts and cuts[0] == space):
            return [(slot, space)]
        # Preference: whole + whole, whole + cut, cut + whole, cut + cut.
        whole = [[text.whole]] if 0 < text.whole < space else []
        for candidates in (*whole, cuts):
            for cut in (False, True):
                for places in candidates:
                    others = self._exact(space - places, cut=cut)
                    if others:
                        return [(slot, places), *others]
        return []

    def _exact(self, space: int, *, cut: bool) -> list[tuple[int, int]]:
        """Take one or two segments of exactly ``space`` places, or none; with ``cut`` at least one of them is cut."""
        whole, cuts = self._num_whole_L[: space + 1], self._num_cut_L[: space + 1]
        if not cut:
            return [self._take(space, cut=False)] if whole[space] else self._pair(whole, whole, (False, False))
        if cuts[space]:
            return [self._take(space, cut=True)]
        return self._pair(whole, cuts, (False, True)) or self._pair(cuts, cuts, (True, True))

    def _pair(
        self, ones: NDArray[np.int64], others: NDArray[np.int64], cut: tuple[bool, bool]
    ) -> list[tuple[int, int]]:
        """Take one segment from each table that together have exactly as many places as the tables go up to, or none."""
        # both[n]: how many pairs there are of n and space - n places.
        both = np.minimum(ones, others[::-1])
        space = len(both) - 1
        # Two of the same half need two slots.
        if space % 2 == 0 and cut[0] == cut[1]:
            both[space // 2] //= 2
        places = int(both.argmax())
        if not both[places]:
            return []
        first = self._take(places, cut=cut[0])
        if not others[space - places]:  # the only slot for the second was the first one
            self._enter(first[0])
            return []
        return [first, self._take(space - places, cut=cut[1])]

    def _take(self, places: int, *, cut: bool) -> tuple[int, int]:
        slot = int((self._cut_KL[:, places] if cut else self._whole_K == places).argmax())
        self._leave(slot)
        return slot, places

    def _step(self, slot: int, space: int) -> int:
        """Return how many places of this text to take in a row that stays open; 0 to try another text first."""
        text = self._by_age[slot]
        # A whole text that fits, unless no whole text could follow it.
        if 0 < text.whole <= space:
            left = space - text.whole
            return text.whole if left <= self._slack or self._num_whole_L[: left + 1].any() else 0
        # The longest cut that leaves room for one more segment.
        at = int(np.searchsorted(text.cuts, space - self._stump - _SPECIALS, "right"))
        return int(text.cuts[at - 1]) if at else 0

    def _cut_at_word(self, space: int, order: list[int], taken: dict[int, int]) -> tuple[int, int] | None:
        """Return the segment that fills ``space`` best, whole or cut at the end of a word."""
        best: tuple[int, int] | None = None
        for slot in [slot for slot in order if slot not in taken][:_WORDS_TRIED]:
            text = self._by_age[slot]
            places = text.whole if 0 < text.whole <= space else 0
            most = min(space - _SPECIALS, text.end - text.start - self._stump)
            if places < space and most >= self._stump:
                tokens = self._last_word(text.start, most)
                # What stays empty must have room for a segment; but a row that is not full is better than one without this text.
                if tokens and (space - tokens - _SPECIALS <= self._slack or not places):
                    places = tokens + _SPECIALS
            if places > (best[1] if best else 0):
                best = slot, places
            if best and space - best[1] <= self._slack:
                break
        return best

    def _last_word(self, start: int, most: int) -> int:
        """Return the tokens to the last end of a word within ``most``: 0 where there is none, ``most`` where the row has none."""
        if self._ends_N is None:
            return most
        ends = (
            np.flatnonzero(self._ends_N[start + self._stump - 1 : start + self._row_length] >= WORD_END) + self._stump
        )
        if not len(ends):
            return most
        at = int(np.searchsorted(ends, most, "right"))
        return int(ends[at - 1]) if at else 0

    def _refill(self, slot: int) -> None:
        """Give a slot the next text of the queue; it stays empty at the end."""
        document = next(self._queue, None)
        if document is not None:
            end = int(self._last_D[document])
            text = _Text(document, end - int(self._lengths_D[document]), end)
            self._measure(text)
            self._by_age[slot] = text
            self._enter(slot)

    def _measure(self, text: "_Text") -> None:
        """Set the places that a text can give: whole, and at each sentence end that leaves segments on both sides long enough."""
        left = text.end - text.start
        text.whole = left + _SPECIALS if left + _SPECIALS <= self._row_length else 0
        last = min(self._row_length - _SPECIALS, left - self._stump)
        between = np.searchsorted(self._sentences, (text.start + self._stump, text.start + last + 1))
        text.cuts = self._sentences[between[0] : between[1]] - text.start + _SPECIALS

    def _enter(self, slot: int) -> None:
        text = self._by_age[slot]
        self._whole_K[slot] = text.whole
        self._num_whole_L[text.whole] += text.whole > 0
        self._cut_KL[slot, text.cuts] = True
        self._num_cut_L[text.cuts] += 1

    def _leave(self, slot: int) -> None:
        text = self._by_age[slot]
        self._whole_K[slot] = 0
        self._num_whole_L[text.whole] -= text.whole > 0
        self._cut_KL[slot, text.cuts] = False
        self._num_cut_L[text.cuts] -= 1


@dataclass(slots=True)
class _Text:
    """The tokens of a document that are in no row yet, and the places that they can fill."""

    document: int
    start: int
    end: int
    whole: int = 0
    """Places of all that is left, 0 where that is more than a row."""
    cuts: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    """Places up to the end of a sentence or section, sorted."""
