"""Near duplicates by MinHash (rensa) and banded LSH, in bounded memory: records are partitioned by the hash of their band.

160 min-hashes of 5-word shingles in 20 bands of 8: a pair of Jaccard 0.8 meets in a band with probability 0.975, one of 0.5 with
0.07. Each record carries one bit of every min-hash, so that a pair that met is verified without another pass. A document
is dropped where it resembles an earlier one, kept or not: no two kept documents resemble each other, on either side of the
held-out split.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash

from clinical_modernbert.corpus.dedup.shingles import ngram_hashes, word_hashes
from clinical_modernbert.hashing import combined

NUM_BANDS, BAND_ROWS = 20, 8
_NUM_HASHES = NUM_BANDS * BAND_ROWS
_SHINGLE_WORDS = 5
_SEED = 1
# One-bit estimate of Jaccard 0.8 from 152 bits has a standard deviation of 0.05; 0.71 keeps 96 % of pairs at 0.8 exactly.
_MIN_ESTIMATE = 0.71
BAND = np.dtype([("hash", "<u8"), ("piece", "<u4"), ("row", "<u4"), ("bits", "u1", (_NUM_HASHES // 8,))])


def band_records(texts: list[str], rows: NDArray[np.int64], *, piece: int, min_words: int) -> NDArray[np.void]:
    """Return 20 records for each text of at least ``min_words`` words; ``rows`` are the texts' numbers in their piece."""
    words = word_hashes(texts)
    long = [n for n, hashes in enumerate(words) if len(hashes) >= max(min_words, _SHINGLE_WORDS)]
    if not long:
        return np.empty(0, dtype=BAND)
    shingles = [ngram_hashes(words[n], num_words=_SHINGLE_WORDS) for n in long]
    offsets = np.cumsum([0, *map(len, shingles)]).astype(np.uint64)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(np.concatenate(shingles), offsets, _NUM_HASHES, _SEED)
    digests = np.array(matrix.to_rows(), dtype=np.uint64)
    bands = digests.reshape(len(long), NUM_BANDS, BAND_ROWS)
    numbers = np.broadcast_to(np.arange(NUM_BANDS, dtype=np.uint64), (len(long), NUM_BANDS))
    records = np.empty((len(long), NUM_BANDS), dtype=BAND)
    records["hash"] = combined((bands[:, :, n] for n in range(BAND_ROWS)), start=numbers)
    records["piece"] = piece
    records["row"] = rows[long][:, None]
    # The lowest bit: the top bit of a minimum is mostly 0.
    records["bits"] = np.packbits((digests & np.uint64(1)).astype(bool), axis=1)[:, None, :]
    return records.ravel()


MOST_ALIKE = 10_000
"""Records of one bucket that are compared with each other: 1.7 seconds, quadratic in their number."""


def resembling(records: NDArray[np.void], *, most: int = MOST_ALIKE) -> tuple[NDArray[np.void], int]:
    """Return the records, one of each document, that resemble an earlier document's in their band, and how many were not compared
    with all.

    A bucket of more than ``most`` records is compared in parts of that size: templates of a million reports would take hours.
    """
    records = records[np.lexsort((records["row"], records["piece"], records["hash"]))]
    same = records["hash"][1:] == records["hash"][:-1]
    starts = np.flatnonzero(np.concatenate(([True], ~same))) if len(records) else np.empty(0, dtype=np.int64)
    sizes = np.diff(np.append(starts, len(records)))
    alike_records = []
    unchecked = int(np.maximum(sizes - most, 0).sum())
    for start, size in _parts(starts, sizes, most):
        bucket = records[start : start + size]
        left = np.arange(1, size)
        # A dropped document still drops later ones: a chain is dropped up to its first, whatever the bands in which links meet.
        for n in range(size - 1):
            left = left[left > n]
            if not len(left):
                break
            alike = _estimates(bucket["bits"][n], bucket["bits"][left]) >= _MIN_ESTIMATE
            alike_records.append(bucket[left[alike]])
            left = left[~alike]
    if not alike_records:
        return np.empty(0, dtype=BAND), unchecked
    dropped = np.concatenate(alike_records)
    _, first = np.unique(dropped[["piece", "row"]], return_index=True)
    return dropped[first], unchecked


def _parts(starts: NDArray[np.int64], sizes: NDArray[np.int64], most: int) -> Iterator[tuple[int, int]]:
    """Yield start and size of each bucket of at least two records, in parts of at most ``most``."""
    for start, size in zip(starts[sizes > 1].tolist(), sizes[sizes > 1].tolist(), strict=True):
        for at in range(start, start + size, most):
            yield at, min(most, start + size - at)


def _estimates(bits: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the Jaccard estimates; the 8 bits of the band in which the pair met agree anyway and do not count."""
    differing = np.bitwise_count(bits[None, :] ^ others).sum(axis=1, dtype=np.int64)
    return 1 - 2 * differing / (_NUM_HASHES - BAND_ROWS)
