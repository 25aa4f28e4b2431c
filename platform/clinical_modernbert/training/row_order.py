"""The order of the rows: a pure function of (seed, step), the same for every number of workers.

Batches follow each other in an endless sequence of epochs: step s of batches of B rows takes places s*B ... s*B+B-1. Each epoch
is a permutation of all rows. The permutation is computed, not stored: a Feistel network permutes the next larger power of four,
and is applied again to a result that is not a row number. So 100 million rows need no memory, and the rows of a step need none of
the steps before it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.hashing import splitmix64

_ROUNDS = 6


@dataclass(frozen=True, slots=True)
class RowOrder:
    """The rows of each step."""

    num_rows: int
    batch_rows: int
    seed: int
    run_rows: int = 1
    """Neighbouring rows that stay together: runs are permuted, not rows. The last run of an epoch ends with the first rows."""

    def rows(self, step: int) -> NDArray[np.int64]:
        """Return the row numbers of the global batch of ``step`` where all batches have one size, int64 [batch_rows]."""
        return self.rows_from(step * self.batch_rows)

    def rows_from(self, place: int) -> NDArray[np.int64]:
        """Return the row numbers of a batch that begins at this place of the endless sequence, int64 [batch_rows]."""
        places = np.arange(place, place + self.batch_rows, dtype=np.int64)
        runs, within_run = np.divmod(places, self.run_rows)
        num_runs = -(-self.num_rows // self.run_rows)
        epochs, within = np.divmod(runs, num_runs)
        first = np.empty(self.batch_rows, dtype=np.int64)
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            first[chosen] = permute(within[chosen], num_runs, seed=self.seed, epoch=int(epoch))
        rows: NDArray[np.int64] = (first * self.run_rows + within_run) % self.num_rows
        return rows


def permute(index: NDArray[np.int64], size: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the images of ``index`` under a permutation of ``range(size)`` that (seed, epoch) selects."""
    half_bits = max((max(size - 1, 1)).bit_length() + 1, 2) // 2
    keys = np.random.Generator(np.random.Philox(key=np.array([seed, epoch], dtype=np.uint64))).integers(
        0, 2**63, size=_ROUNDS, dtype=np.uint64
    )
    mask = np.uint64((1 << half_bits) - 1)
    value = index.astype(np.uint64)
    outside = np.ones(len(value), dtype=bool)
    while outside.any():
        value[outside] = _feistel(value[outside], keys, half_bits, mask)
        outside = value >= size
    return value.astype(np.int64)


def _feistel(
    value: NDArray[np.uint64], keys: NDArray[np.uint64], half_bits: int, mask: np.uint64
) -> NDArray[np.uint64]:
    left, right = value >> np.uint64(half_bits), value & mask
    for key in keys:
        # Any round function gives a permutation; a good one gives a well mixed one.
        left, right = right, left ^ (splitmix64(right + key) & mask)
    return (left << np.uint64(half_bits)) | right
