"""Packing: token sequences become rows of one length, with no token lost and hardly a place empty.

A document longer than a row is split into pieces; each piece is a segment with its own [CLS] and [SEP]. Rows are filled
best fit, longest piece first: the longest piece that still fits goes in until none does. With pieces of all lengths at
hand that fills more than 99 % of the places. The order of the rows means nothing: training draws them by a permutation.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SPECIALS = 2  # [CLS] and [SEP] of each segment
_SHORTEST_REMAINDER = 16


@dataclass(frozen=True, slots=True)
class Pieces:
    """Stretches of documents that become segments; parallel arrays."""

    document: NDArray[np.int64]
    start: NDArray[np.int64]
    """First token within the flat token array."""
    length: NDArray[np.int64]
    """Tokens of text, without [CLS] and [SEP]."""


def split_documents(lengths_D: NDArray[np.int64], *, row_length: int) -> Pieces:
    """Cut documents of ``lengths_D`` tokens, which follow each other in a flat array, into pieces that fit a row.

    Pieces are as long as a row allows and the last takes what is left: remainders of all lengths are what fills rows up. The
    last but one gives of its own where the last would be a stump of fewer than 16 tokens, too short to learn from.
    """
    longest = row_length - _SPECIALS
    stump = min(_SHORTEST_REMAINDER, longest // 2)
    num_D = -(-lengths_D // longest)
    remainder_D = lengths_D - (num_D - 1) * longest
    given_D = np.where(num_D > 1, np.maximum(stump - remainder_D, 0), 0)
    document = np.repeat(np.arange(len(lengths_D)), num_D)
    last_D = np.cumsum(num_D) - 1
    length = np.full(len(document), longest, dtype=np.int64)
    full = num_D > 0
    length[last_D[full]] = (remainder_D + given_D)[full]
    split = num_D > 1
    length[last_D[split] - 1] -= given_D[split]
    start = np.cumsum(length) - length
    return Pieces(document=document, start=start, length=length)


def repeat_documents(pieces: Pieces, copies_D: NDArray[np.int64]) -> Pieces:
    """Return the pieces of each document as often as ``copies_D`` says; no token is copied, pieces only point at them."""
    copies_P = copies_D[pieces.document]
    return Pieces(
        document=np.repeat(pieces.document, copies_P),
        start=np.repeat(pieces.start, copies_P),
        length=np.repeat(pieces.length, copies_P),
    )


def pack(lengths_P: NDArray[np.int64], *, row_length: int) -> list[list[int]]:
    """Return rows as lists of piece numbers; each row's pieces and their [CLS] and [SEP] fit ``row_length`` places."""
    waiting: dict[int, list[int]] = {}
    for piece, length in enumerate((lengths_P + _SPECIALS).tolist()):
        if length > row_length:
            raise ValueError(f"piece {piece} needs {length} places, a row has {row_length}")
        waiting.setdefault(length, []).append(piece)
    # One bit for each length that still has pieces: the longest that fits is the highest bit below the space left.
    present = sum(1 << length for length in waiting)
    rows = []
    while present:
        row: list[int] = []
        space = row_length
        while fitting := present & ((1 << (space + 1)) - 1):
            length = fitting.bit_length() - 1
            row.append(waiting[length].pop())
            space -= length
            if not waiting[length]:
                present ^= 1 << length
        rows.append(row)
    return rows
