"""Packing: token sequences become rows of one length, with no token lost and hardly a place empty.

Texts wait in a buffer, in an order drawn once. A row begins with the one that waits longest; it is closed by one or two others
that make the sum of the places exact. Whole texts close it where such wait; else a text is cut at the end of a sentence or
section that makes the sum exact, and what is left of it waits on; only where no such end waits either (the last rows, texts
without sentences) a text is cut at the end of a word. Each piece is a segment with its own [CLS] and [SEP].

A piece of a cut text has at least 16 tokens, and a sixteenth of the row: texts shorter than twice that are never cut. Best fit
of whole texts leaves 1 to 13 % of the places empty, by their lengths. The order of the rows means nothing: training
draws them by a permutation.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.corpus.cut_points import SENTENCE_END, WORD_END

_SPECIALS = 2  # [CLS] and [SEP] of each segment
_SHORTEST_PIECE = 16
_SHORTEST_SHARE = 16  # of a row
# Texts that wait: enough that a sum can be made, few enough that looking through them is fast.
_WAITING = 512
# Beginnings of a row that are tried before places stay empty, and ends of one text that are tried before the next is drawn.
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
    """Return the pieces of documents of ``lengths_D`` tokens, which follow each other in a flat array, and rows of piece numbers.

    ``ends_N`` says of each token what ends with it (``ends.NO_END`` to ``SECTION_END``); without it a document may be cut
    anywhere. ``copies_D`` says how often each document appears, once where None. A word or a term is cut only where it
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
    """The buffer: one slot a text, and for each count of places how many slots can give exactly so many.

    All tables count places, [CLS] and [SEP] included. A slot that the row in hand has taken from is in no table.
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
        self._stump = min(max(_SHORTEST_PIECE, row_length // _SHORTEST_SHARE), max((row_length - _SPECIALS) // 2, 1))
        self._slack = row_length // _SLACK
        self._ends_N = ends_N
        self._sentences = np.empty(0, dtype=np.int64) if ends_N is None else np.flatnonzero(ends_N >= SENTENCE_END) + 1
        # Part of the algorithm, not of the data: the same documents give the same rows.
        self._rng = np.random.default_rng(row_length)
        self._queue = iter(self._rng.permutation(documents[lengths_D[documents] > 0]).tolist())
        self._last_D, self._lengths_D = np.cumsum(lengths_D), lengths_D
        size = max(_WAITING, row_length // 8)
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
        """Fill one row as well as can be and return how many pieces it took from the buffer."""
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
        for slot, places in best:
            self._leave(slot)
            text = self._by_age[slot]
            tokens = places - _SPECIALS
            self.written.append((text.document, text.start, tokens))
            text.start += tokens
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
        """Return (slot, places) of a row's pieces and the places left; the slots are out of the tables."""
        taken: dict[int, int] = {}
        space = self._row_length
        order = list(self._by_age)
        if drawn:
            order[1:] = self._rng.permutation(order[1:]).tolist()
        skipped = 0
        for slot in order:
            if space <= self._slack or skipped > _ENDS_TRIED:
                break
            self._leave(slot)
            rest = self._close_behind(slot, space)
            if rest:
                return [*taken.items(), *rest], 0
            places = self._step(slot, space)
            if places:
                taken[slot] = places
                space -= places
            else:
                self._enter(slot)
                skipped += 1
        while space > self._slack and (found := self._cut_at_word(space, order, taken)):
            self._leave(found[0])
            taken[found[0]] = found[1]
            space -= found[1]
        if not taken:
            # The oldest by itself: whole, or cut within a word where none ends in reach.
            text = self._by_age[order[0]]
            self._leave(order[0])
            taken[order[0]] = text.whole or min(space - _SPECIALS, text.end - text.start - self._stump) + _SPECIALS
            space -= taken[order[0]]
        return list(taken.items()), space

    def _close_behind(self, slot: int, space: int) -> list[tuple[int, int]]:
        """Return pieces that fill ``space`` exactly, the first from ``slot``, or none; whole texts are preferred to cut ones."""
        text = self._by_age[slot]
        cuts = text.cuts[: np.searchsorted(text.cuts, space, "right")][: -_ENDS_TRIED - 1 : -1].tolist()
        if text.whole == space or (cuts and cuts[0] == space):
            return [(slot, space)]
        own = [[text.whole]] if 0 < text.whole < space else []
        for candidates in (*own, cuts):
            for cut in (False, True):
                for places in candidates:
                    rest = self._exact(space - places, cut=cut)
                    if rest:
                        return [(slot, places), *rest]
        return []

    def _exact(self, space: int, *, cut: bool) -> list[tuple[int, int]]:
        """Take one or two pieces of exactly ``space`` places, or none; with ``cut`` at least one of them is cut."""
        whole, cuts = self._num_whole_L[: space + 1], self._num_cut_L[: space + 1]
        if not cut:
            return [self._take(space, cut=False)] if whole[space] else self._pair(whole, whole, (False, False))
        if cuts[space]:
            return [self._take(space, cut=True)]
        return self._pair(whole, cuts, (False, True)) or self._pair(cuts, cuts, (True, True))

    def _pair(
        self, ones: NDArray[np.int64], others: NDArray[np.int64], cut: tuple[bool, bool]
    ) -> list[tuple[int, int]]:
        both = np.minimum(ones, others[::-1])
        space = len(both) - 1
        if space % 2 == 0 and cut[0] == cut[1]:
            both[space // 2] //= 2
        places = int(both.argmax())
        if not both[places]:
            return []
        first = self._take(places, cut=cut[0])
        if not others[space - places]:  # the same text gave both
            self._enter(first[0])
            return []
        return [first, self._take(space - places, cut=cut[1])]

    def _take(self, places: int, *, cut: bool) -> tuple[int, int]:
        slot = int((self._cut_KL[:, places] if cut else self._whole_K == places).argmax())
        self._leave(slot)
        return slot, places

    def _step(self, slot: int, space: int) -> int:
        """Return the places of a text in a row that stays open, 0 where another text had better come first."""
        text = self._by_age[slot]
        if 0 < text.whole <= space:
            left = space - text.whole
            return text.whole if left <= self._slack or self._num_whole_L[: left + 1].any() else 0
        at = int(np.searchsorted(text.cuts, space - self._stump - _SPECIALS, "right"))
        return int(text.cuts[at - 1]) if at else 0

    def _cut_at_word(self, space: int, order: list[int], taken: dict[int, int]) -> tuple[int, int] | None:
        """Return the piece that fills ``space`` best where words may end it; a text's rest that fits whole is one too."""
        best: tuple[int, int] | None = None
        for slot in [slot for slot in order if slot not in taken][:_WORDS_TRIED]:
            text = self._by_age[slot]
            places = text.whole if 0 < text.whole <= space else 0
            most = min(space - _SPECIALS, text.end - text.start - self._stump)
            if places < space and most >= self._stump:
                tokens = self._last_word(text.start, most)
                # What stays open must take another piece; better a row that is not full than one without this text.
                if tokens and (space - tokens - _SPECIALS <= self._slack or not places):
                    places = tokens + _SPECIALS
            if places > (best[1] if best else 0):
                best = slot, places
            if best and space - best[1] <= self._slack:
                break
        return best

    def _last_word(self, start: int, most: int) -> int:
        """Return the tokens to the last end of a word within ``most``, 0 where there is none, ``most`` in a row without one."""
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
        document = next(self._queue, None)
        if document is not None:
            end = int(self._last_D[document])
            text = _Text(document, end - int(self._lengths_D[document]), end)
            self._measure(text)
            self._by_age[slot] = text
            self._enter(slot)

    def _measure(self, text: "_Text") -> None:
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
    """What is left of a document, and the places that it can give a row."""

    document: int
    start: int
    end: int
    whole: int = 0
    """Places of all that is left, 0 where that is more than a row."""
    cuts: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    """Places up to the end of a sentence or section, sorted."""
