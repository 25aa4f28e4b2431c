"""The texts that wait to be packed, with tables of which of them can give an exact number of places.

A text gives all of itself ("whole") or a beginning up to the end of a sentence or section ("cut"). Both counts of places include
[CLS] and [SEP]. The tables make one question fast: which one or two texts give exactly so many places?
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

SPECIALS = 2  # [CLS] and [SEP] of each segment
_SHORTEST_SEGMENT = 16
_SHORTEST_SHARE = 16  # of a row
# Texts in the buffer: enough that an exact sum exists, few enough that a search through them is fast.
_WAITING = 512


@dataclass(slots=True)
class WaitingText:
    """The tokens of a document that are in no row yet, and the places that they can fill."""

    document: int
    start: int
    end: int
    whole: int = 0
    """Places of all that is left, 0 where that is more than a row."""
    cuts: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    """Places up to the end of a sentence or section, sorted."""


class TextBuffer:
    """One slot a text, and for each number of places the number of slots that can give exactly that many.

    Legend: K slots, L places from 0 to the row's length. A slot that the current row took from is in no table.
    """

    def __init__(
        self, queue: Iterable[int], lengths_D: NDArray[np.int64], cut_points: NDArray[np.int64], *, row_length: int
    ) -> None:
        """Fill the buffer from ``queue``, documents of ``lengths_D`` tokens; ``cut_points`` are positions over all documents."""
        self.row_length = row_length
        self.shortest = min(max(_SHORTEST_SEGMENT, row_length // _SHORTEST_SHARE), max((row_length - SPECIALS) // 2, 1))
        """Fewest tokens of a segment of a cut text."""
        self.texts: dict[int, WaitingText] = {}
        """Slot -> text, in the order in which the texts came."""
        self._queue = iter(queue)
        self._cut_points = cut_points
        self._last_D, self._lengths_D = np.cumsum(lengths_D), lengths_D
        size = max(_WAITING, row_length // 8)
        # By slot: the places of its whole text, and which numbers of places a cut can give. By number of places: how many slots.
        self._whole_K = np.zeros(size, dtype=np.int64)
        self._cut_KL = np.zeros((size, row_length + 1), dtype=bool)
        self._num_whole_L = np.zeros(row_length + 1, dtype=np.int64)
        self._num_cut_L = np.zeros(row_length + 1, dtype=np.int64)
        for slot in range(size):
            self._refill(slot)

    def enter(self, slot: int) -> None:
        """Put a slot into the tables."""
        text = self.texts[slot]
        self._whole_K[slot] = text.whole
        self._num_whole_L[text.whole] += text.whole > 0
        self._cut_KL[slot, text.cuts] = True
        self._num_cut_L[text.cuts] += 1

    def leave(self, slot: int) -> None:
        """Take a slot out of the tables."""
        text = self.texts[slot]
        self._whole_K[slot] = 0
        self._num_whole_L[text.whole] -= text.whole > 0
        self._cut_KL[slot, text.cuts] = False
        self._num_cut_L[text.cuts] -= 1

    def has_whole(self, most: int) -> bool:
        """Return whether any whole text has at most ``most`` places."""
        return bool(self._num_whole_L[: most + 1].any())

    def exact(self, space: int, *, cut: bool) -> list[tuple[int, int]]:
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
            self.enter(first[0])
            return []
        return [first, self._take(space - places, cut=cut[1])]

    def _take(self, places: int, *, cut: bool) -> tuple[int, int]:
        slot = int((self._cut_KL[:, places] if cut else self._whole_K == places).argmax())
        self.leave(slot)
        return slot, places

    def give(self, slot: int, places: int) -> tuple[int, int, int]:
        """Take the first tokens of a text for a segment of ``places``; return (document, first token, tokens)."""
        self.leave(slot)
        text = self.texts[slot]
        start, tokens = text.start, places - SPECIALS
        text.start += tokens
        return text.document, start, tokens

    def settle(self, slot: int) -> None:
        """Refill the slot of a text that is used up, and put what is left of another back into the tables; it keeps its age."""
        text = self.texts[slot]
        if text.start == text.end:
            del self.texts[slot]
            self._refill(slot)
        else:
            self._measure(text)
            self.enter(slot)

    def _refill(self, slot: int) -> None:
        """Give a slot the next text of the queue; it stays empty at the end."""
        document = next(self._queue, None)
        if document is not None:
            end = int(self._last_D[document])
            text = WaitingText(document, end - int(self._lengths_D[document]), end)
            self._measure(text)
            self.texts[slot] = text
            self.enter(slot)

    def _measure(self, text: WaitingText) -> None:
        """Set the places that a text can give: whole, and at each sentence end that leaves segments on both sides long enough."""
        left = text.end - text.start
        text.whole = left + SPECIALS if left + SPECIALS <= self.row_length else 0
        last = min(self.row_length - SPECIALS, left - self.shortest)
        between = np.searchsorted(self._cut_points, (text.start + self.shortest, text.start + last + 1))
        text.cuts = self._cut_points[between[0] : between[1]] - text.start + SPECIALS
