"""Where the rows of a phase come from: its corpora, each with its share of the rows. A function of the place in the phase.

Places come in blocks of 1,000. In every block each corpus has its share of the places, in an order that (seed, block) selects. So
the corpus of a place, and the number of its rows before that place, need none of the steps before.

Example: shares 0.7 and 0.3 give every block 700 and 300 rows. Before place 2,500 the first corpus had 1,400 rows of two whole
blocks, and as many more as the first 500 places of the third block gave it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.training.row_order import permute

BLOCK = 1000


@dataclass(frozen=True, slots=True)
class Mixture:
    """The corpora of a phase and how many rows of a block each has."""

    corpora: tuple[str, ...]
    """Names or ids."""
    block_rows: tuple[int, ...]
    """Parallel to ``corpora``; ``BLOCK`` in all."""
    first_rows: tuple[int, ...]
    """Place in each corpus's row order at the phase's start: after the rows that earlier phases of this length took."""

    @property
    def shares(self) -> dict[str, float]:
        """Each corpus's share of the rows."""
        return {corpus: rows / BLOCK for corpus, rows in zip(self.corpora, self.block_rows, strict=True)}

    def numbers(self, place: int, count: int, *, seed: int) -> NDArray[np.int64]:
        """Return the number of the corpus of each of ``count`` places from ``place`` on."""
        if len(self.corpora) == 1:
            return np.zeros(count, dtype=np.int64)
        blocks, within = np.divmod(np.arange(place, place + count, dtype=np.int64), BLOCK)
        ends_C = np.cumsum(self.block_rows)
        found = np.empty(count, dtype=np.int64)
        for block in np.unique(blocks):
            chosen = blocks == block
            permuted = permute(within[chosen], BLOCK, seed=seed, epoch=int(block))
            found[chosen] = np.searchsorted(ends_C, permuted, side="right")
        return found

    def taken(self, place: int, *, seed: int) -> NDArray[np.int64]:
        """Return the place in each corpus's row order after the first ``place`` rows of the phase."""
        if len(self.corpora) == 1:
            return np.array(self.first_rows) + place
        blocks, within = divmod(place, BLOCK)
        of_last = np.bincount(self.numbers(blocks * BLOCK, within, seed=seed), minlength=len(self.corpora))
        taken: NDArray[np.int64] = np.array(self.first_rows) + blocks * np.array(self.block_rows) + of_last
        return taken


def block_rows(weights: Sequence[float]) -> tuple[int, ...]:
    """Return how many of a block's rows each weight gets: its share rounded down, and the rest to the largest remainders."""
    exact = np.array(weights) * BLOCK / sum(weights)
    rows = np.floor(exact).astype(np.int64)
    largest = np.argsort(rows - exact, kind="stable")[: BLOCK - int(rows.sum())]
    rows[largest] += 1
    return tuple(rows.tolist())
