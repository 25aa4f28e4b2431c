"""Packing: token sequences become rows of one length, with no token lost and hardly a place empty.

A document longer than a row is split into pieces; each piece is a segment with its own [CLS] and [SEP]. Rows are planned by
lengths: pieces are drawn in proportion to what is left, so that no length runs out early, and the last one or two are those
that make the sum exact, where such are left. Longest-first best fit leaves 1.8 % of the places empty where all pieces are
short (20 to 40 tokens). The plan depends on the counts of lengths only: its cost hardly grows with the corpus. The order of
the rows means nothing: training draws them by a permutation.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SPECIALS = 2  # [CLS] and [SEP] of each segment
_SHORTEST_REMAINDER = 16
# A gap of so many places takes no piece of the shortest length.
_UNFILLABLE = _SHORTEST_REMAINDER + _SPECIALS
_GOLDEN = 0.6180339887498949
# Share of the places that have to be used before other cuts are tried.
_FULL = 0.995
# Rows drawn anew where the first leaves places empty.
_TRIES = 12
# Rows are planned in about so many choices, however many there are.
_CHOICES = 400

# Where a token sequence may be cut, from worst to best: the values of ``ends_N``.
NO_END, WORD_END, SENTENCE_END, SECTION_END = range(4)


@dataclass(frozen=True, slots=True)
class Pieces:
    """Stretches of documents that become segments; parallel arrays."""

    document: NDArray[np.int64]
    start: NDArray[np.int64]
    """First token within the flat token array."""
    length: NDArray[np.int64]
    """Tokens of text, without [CLS] and [SEP]."""


def split_documents(
    lengths_D: NDArray[np.int64], *, row_length: int, ends_N: NDArray[np.uint8] | None = None, spread: bool = False
) -> Pieces:
    """Cut documents of ``lengths_D`` tokens, which follow each other in a flat array, into pieces that fit a row.

    ``ends_N`` says of each token what ends with it (``NO_END`` to ``SECTION_END``); a piece then ends at a section's or a
    sentence's end, where none is in reach at a word's, and inside a word or a term only where that alone fills more than a row.
    With ``spread`` cut pieces get all lengths up to a row's, so that they complete each other; else they are as long as can be.
    Without ``ends_N`` pieces are as long as a row allows and the last takes what is left; the last but one gives of its own
    where the last would be a stump of fewer than 16 tokens, too short to learn from.
    """
    longest = row_length - _SPECIALS
    stump = min(_SHORTEST_REMAINDER, longest // 2)
    if ends_N is not None:
        return _split_at_ends(lengths_D, ends_N, longest=longest, stump=stump, spread=spread)
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


def _split_at_ends(
    lengths_D: NDArray[np.int64], ends_N: NDArray[np.uint8], *, longest: int, stump: int, spread: bool
) -> Pieces:
    document: list[int] = []
    length: list[int] = []
    first_D = np.cumsum(lengths_D) - lengths_D
    number_cut = 0
    spread = spread and longest > 4 * _UNFILLABLE
    for number, (first, size) in enumerate(zip(first_D.tolist(), lengths_D.tolist(), strict=True)):
        if size == 0:
            continue
        left = size
        if size > longest:
            ends = ends_N[first : first + size]
            sentences = np.flatnonzero(ends >= SENTENCE_END) + 1
            sections = np.flatnonzero(ends == SECTION_END) + 1
        while left > longest or (size > longest and spread and 0 < longest - left < _UNFILLABLE):
            done = size - left
            reach = furthest = min(longest, left - stump)
            if spread:
                number_cut += 1
                # Multiples of the golden section spread evenly over (0, 1), whatever their number.
                reach = max(2 * stump, int(reach * (number_cut * _GOLDEN % 1.0)))
                if 0 < longest - reach < _UNFILLABLE:
                    reach = longest - _UNFILLABLE
            cut = _cut(sections, sentences, ends, done, reach, furthest=furthest, stump=stump)
            document.append(number)
            length.append(cut - done)
            left = size - cut
        document.append(number)
        length.append(left)
    length_P = np.array(length, dtype=np.int64)
    # Pieces follow each other without gaps, so that starts are sums.
    return Pieces(document=np.array(document, dtype=np.int64), start=np.cumsum(length_P) - length_P, length=length_P)


def _cut(
    sections: NDArray[np.int64],
    sentences: NDArray[np.int64],
    ends: NDArray[np.uint8],
    done: int,
    reach: int,
    *,
    furthest: int,
    stump: int,
) -> int:
    """Return where the piece that begins at ``done`` ends: a section's end in the last eighth, else the last good end."""
    cut = _last_between(sections, done + reach - reach // 8, done + reach)
    cut = cut or _last_between(sentences, done + stump, done + reach)
    if cut:
        return cut
    # Where a shorter piece was asked for than the first sentence is long, the sentence's end is waited for.
    at = int(np.searchsorted(sentences, done + stump))
    if at < len(sentences) and sentences[at] <= done + furthest:
        return int(sentences[at])
    words = np.flatnonzero(ends[done + stump : done + reach] >= WORD_END)
    return done + stump + int(words[-1]) + 1 if len(words) else done + reach


def _last_between(places: NDArray[np.int64], low: int, high: int) -> int:
    """Return the last of the sorted ``places`` in [low, high], or 0."""
    at = int(np.searchsorted(places, high, "right"))
    return int(places[at - 1]) if at and places[at - 1] >= low else 0


def repeat_documents(pieces: Pieces, copies_D: NDArray[np.int64]) -> Pieces:
    """Return the pieces of each document as often as ``copies_D`` says; no token is copied, pieces only point at them."""
    copies_P = copies_D[pieces.document]
    return Pieces(
        document=np.repeat(pieces.document, copies_P),
        start=np.repeat(pieces.start, copies_P),
        length=np.repeat(pieces.length, copies_P),
    )


def pack(lengths_P: NDArray[np.int64], *, row_length: int) -> list[list[int]]:
    """Return rows as lists of piece numbers; each row's pieces and their [CLS] and [SEP] fit ``row_length`` places.

    Two orders are tried, pieces above half a row first and all in proportion; the one that needs fewer rows is returned.
    """
    places_P = lengths_P + _SPECIALS
    if len(places_P) and places_P.max() > row_length:
        piece = int(np.argmax(places_P > row_length))
        raise ValueError(f"piece {piece} needs {places_P[piece]} places, a row has {row_length}")
    counts = np.bincount(places_P, minlength=row_length + 1)
    plans = [_patterns(counts, row_length, long_first=long_first) for long_first in (True, False)]
    order = np.argsort(places_P, kind="stable")
    ends = np.cumsum(counts)
    waiting = {int(n): order[ends[n] - counts[n] : ends[n]].tolist() for n in np.flatnonzero(counts)}
    best = min(plans, key=lambda plan: sum(times for _, times in plan))
    return [[waiting[length].pop() for length in pattern] for pattern, times in best for _ in range(times)]


def split_and_pack(
    lengths_D: NDArray[np.int64], copies_D: NDArray[np.int64], *, row_length: int, ends_N: NDArray[np.uint8]
) -> tuple[Pieces, list[list[int]]]:
    """Return the pieces of documents that appear ``copies_D`` times, and their rows.

    A cut at a sentence's end leaves about half a sentence of a row empty, too little for any other piece. So two ways are tried,
    the longest pieces and pieces of all lengths, and the longest are kept unless the others leave fewer places empty.
    """
    found = []
    for spread in (False, True):
        pieces = split_documents(lengths_D, row_length=row_length, ends_N=ends_N, spread=spread)
        pieces = repeat_documents(pieces, copies_D)
        rows = pack(pieces.length, row_length=row_length)
        if int(pieces.length.sum()) + _SPECIALS * len(pieces.length) >= _FULL * row_length * len(rows):
            return pieces, rows
        found.append((pieces, rows))
    return min(found, key=lambda pair: len(pair[1]))


def _patterns(counts: NDArray[np.int64], row_length: int, *, long_first: bool) -> list[tuple[list[int], int]]:
    """Return lengths of rows and how often each such row is filled, until no piece of ``counts`` is left."""
    counts = counts.copy()
    lengths = np.arange(row_length + 1)
    rng = np.random.default_rng(
        row_length
    )  # part of the algorithm, not of the data: the same pieces give the same rows
    plan = []
    while left := int(counts @ lengths):
        longest = int(np.flatnonzero(counts)[-1])
        first = longest if (long_first and longest > row_length // 2) else None
        pattern = _fill(counts, row_length, first=first, rng=rng)
        for _ in range(_TRIES):
            if sum(pattern) == row_length or (left < row_length and sum(pattern) == left):
                break
            other = _fill(counts, row_length, first=first, rng=rng)
            pattern = max(pattern, other, key=sum)
        # The same choice is repeated, for speed, but only so often that the lengths stay in proportion.
        times = min(
            [int(counts[length]) // pattern.count(length) for length in set(pattern)]
            + [1 + left // row_length // _CHOICES]
        )
        for length in pattern:
            counts[length] -= times
        plan.append((pattern, times))
    return plan


def _fill(counts: NDArray[np.int64], row_length: int, *, first: int | None, rng: np.random.Generator) -> list[int]:
    """Return lengths of one row: drawn in proportion to ``counts`` until one or two more make the sum exact."""
    pattern: list[int] = []
    space = row_length
    left = counts.copy()
    while True:
        if first is not None and not pattern:
            length = first
        elif pattern and (rest := _exact(left, space)):
            return pattern + rest
        else:
            sums = np.cumsum(left[: space + 1])
            if not sums[-1]:
                return pattern
            length = int(np.searchsorted(sums, rng.integers(sums[-1]), "right"))
        pattern.append(length)
        left[length] -= 1
        space -= length


def _exact(left: NDArray[np.int64], space: int) -> list[int]:
    """Return the one or two lengths that sum to ``space``, the most plentiful where there is a choice, else nothing."""
    if left[space]:
        return [space]
    pairs = np.minimum(left[: space + 1], left[space::-1])
    if space % 2 == 0:
        pairs[space // 2] //= 2
    length = int(pairs.argmax())
    return [length, space - length] if pairs[length] else []
