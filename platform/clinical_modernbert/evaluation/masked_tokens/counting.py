"""The bigram baselines: the token at a hidden position, by counts of its left and right neighbour in the training rows.

Three predictors: by the left neighbour, by the right one, by both; the strongest is the one to beat. Counts are smoothed after
Witten and Bell (1991): of a context seen c times with t different tokens, t / (c + t) goes to the next simpler predictor:

    left, right -> the source's most frequent tokens
    both        -> left and right taken as independent given the token, P(x|l) P(x|r) / P(x)

A neighbour that is itself hidden is unknown. Counts are of one corpus, sources together, epochs counted; memory is that of the
distinct triples, so that only ``max_rows`` rows, evenly over the split, are counted. Legend: N hidden tokens, V vocabulary.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from clinical_modernbert.corpus.shards import PackedRows
from clinical_modernbert.training.held_out import MaskedPositions

PREDICTORS = ("bigram_left", "bigram_right", "bigram_both")
_CHUNK_ROWS, _CHUNK_POSITIONS = 4096, 32


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Counts of adjacent tokens in training rows."""

    after: csr_matrix
    """[V, V]: how often the column's token follows the row's."""
    before: csr_matrix
    """[V, V]: how often the column's token precedes the row's."""
    contexts_K: NDArray[np.int64]
    """``left * V + right`` of the triples, sorted, parallel to the two arrays below."""
    middles_K: NDArray[np.int64]
    counts_K: NDArray[np.int64]


def count_neighbours(rows: PackedRows, *, vocabulary_size: int, max_rows: int) -> Neighbours:
    """Count pairs and triples in up to ``max_rows`` training rows; pairs over a segment's end never matter."""
    numbers_R = np.linspace(0, len(rows) - 1, min(len(rows), max_rows)).astype(np.int64)
    size = vocabulary_size
    pairs, triples = [], []
    for start in range(0, len(numbers_R), _CHUNK_ROWS):
        batch = rows.read(numbers_R[start : start + _CHUNK_ROWS])
        ids_T = batch.ids_RL[batch.valid_RL]
        pairs.append(np.unique(ids_T[:-1] * size + ids_T[1:], return_counts=True))
        triples.append(np.unique((ids_T[:-2] * size + ids_T[2:]) * size + ids_T[1:-1], return_counts=True))
    keys, counts = _merge(pairs)
    after = csr_matrix((counts.astype(np.float32), np.divmod(keys, size)), shape=(size, size))
    triple_keys, triple_counts = _merge(triples)
    contexts, middles = np.divmod(triple_keys, size)
    return Neighbours(after, after.T.tocsr(), contexts, middles, triple_counts)


def neighbour_ranks(
    scored: MaskedPositions, counts: Neighbours, *, unigram: NDArray[np.int64]
) -> dict[str, NDArray[np.int64]]:
    """Return for each predictor how many other tokens it ranks at least as likely as the correct one: ties count against
    it, as they do against the model. ``unigram`` is [source, V] counts."""  # fmt: skip
    # One more of each token, because the division below needs every frequency to be positive.
    frequency_SV = (unigram + 1.0) / (unigram + 1.0).sum(axis=1, keepdims=True)
    ranks = {name: np.empty(len(scored.labels_N), dtype=np.int64) for name in PREDICTORS}
    for start in range(0, len(scored.labels_N), _CHUNK_POSITIONS):
        chunk = slice(start, start + _CHUNK_POSITIONS)
        base_CV = frequency_SV[scored.sources_N[chunk]]
        lefts, rights = scored.lefts_N[chunk], scored.rights_N[chunk]
        left_CV = _witten_bell(counts.after[lefts].toarray(), base_CV)
        right_CV = _witten_bell(counts.before[rights].toarray(), base_CV)
        product_CV = left_CV * right_CV / base_CV
        product_CV /= product_CV.sum(axis=1, keepdims=True)
        both_CV = _witten_bell(_triples(counts, lefts, rights), product_CV)
        for name, scores_CV in zip(PREDICTORS, (left_CV, right_CV, both_CV), strict=True):
            right_C1 = np.take_along_axis(scores_CV, scored.labels_N[chunk, None], axis=1)
            ranks[name][chunk] = (scores_CV >= right_C1).sum(axis=1) - 1
    return ranks


def _witten_bell(counts_CV: NDArray[np.float64], simpler_CV: NDArray[np.float64]) -> NDArray[np.float64]:
    seen_C1 = counts_CV.sum(axis=1, keepdims=True)
    kinds_C1 = (counts_CV > 0).sum(axis=1, keepdims=True)
    # A context that training lacks leaves everything to the simpler predictor.
    return (counts_CV + np.maximum(kinds_C1, seen_C1 == 0) * simpler_CV) / np.maximum(seen_C1 + kinds_C1, 1)


def _triples(counts: Neighbours, lefts_C: NDArray[np.int64], rights_C: NDArray[np.int64]) -> NDArray[np.float64]:
    size = counts.after.shape[0]
    found_CV = np.zeros((len(lefts_C), size))
    contexts_C = lefts_C * size + rights_C
    first_C = np.searchsorted(counts.contexts_K, contexts_C, side="left")
    last_C = np.searchsorted(counts.contexts_K, contexts_C, side="right")
    for row, (first, last) in enumerate(zip(first_C.tolist(), last_C.tolist(), strict=True)):
        found_CV[row, counts.middles_K[first:last]] = counts.counts_K[first:last]
    return found_CV


def _merge(parts: list[tuple[NDArray[np.int64], NDArray[np.int64]]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the distinct keys, sorted, with the sums of their counts."""
    keys = np.concatenate([part[0] for part in parts])
    distinct, place = np.unique(keys, return_inverse=True)
    counts = np.bincount(place, weights=np.concatenate([part[1] for part in parts]))
    return distinct, counts.astype(np.int64)
