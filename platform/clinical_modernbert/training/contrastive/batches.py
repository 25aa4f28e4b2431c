"""The pairs of each step: a pure function of (seed, step), the same for every number of workers.

Each source has a fixed number of places in a batch, by its weight, and its own endless order of its pairs. So a small source of
words that patients use is not lost among 90,000 pairs of codes.

Legend: N pairs, C distinct lineages, L longest lineage, K hard negatives of a pair.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.corpus.pairs.read import PairTexts, concept_ids, name_id
from clinical_modernbert.sources.terms import text_key
from clinical_modernbert.training.contrastive.plan import places, wanted_weights
from clinical_modernbert.training.row_order import RowOrder

IDS = ("anchor_concepts_NL", "positive_concepts_NL", "anchor_texts_N", "positive_texts_N")
NEGATIVE_IDS = ("negative_concepts_NK", "negative_texts_NK")
_ROWS = ("anchor_rows_N", "positive_rows_N")


@dataclass(frozen=True, slots=True)
class PairBatch:
    """Pairs with what tells negatives from texts that mean the same."""

    anchors: Sequence[str]
    positives: Sequence[str]
    negatives: Sequence[Sequence[str]]
    """Hard negatives of each pair, as many for each; a missing one is an empty text with the ids 0."""
    lineages_CL: NDArray[np.int64]
    """Ids of concepts and of all above them, each lineage once; 0 after the end of a shorter one."""
    anchor_rows_N: NDArray[np.int64]
    positive_rows_N: NDArray[np.int64]
    anchor_texts_N: NDArray[np.int64]
    positive_texts_N: NDArray[np.int64]
    negative_concepts_NK: NDArray[np.int64]
    negative_texts_NK: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.anchors)

    @property
    def anchor_concepts_NL(self) -> NDArray[np.int64]:  # noqa: N802  # the suffix is the axes
        """The lineage of each anchor."""
        return self.lineages_CL[self.anchor_rows_N]

    @property
    def positive_concepts_NL(self) -> NDArray[np.int64]:  # noqa: N802
        """The lineage of each positive."""
        return self.lineages_CL[self.positive_rows_N]

    @property
    def digest(self) -> str:
        """Digest of the pairs' texts in their order."""
        return hashlib.sha256(self.anchor_texts_N.tobytes() + self.positive_texts_N.tobytes()).hexdigest()[:16]

    def take(self, rows: NDArray[np.int64]) -> "PairBatch":
        """Return the pairs at ``rows``, in that order."""
        return PairBatch(
            [self.anchors[row] for row in rows.tolist()],
            [self.positives[row] for row in rows.tolist()],
            [self.negatives[row] for row in rows.tolist()],
            self.lineages_CL,
            self.anchor_rows_N[rows],
            self.positive_rows_N[rows],
            self.anchor_texts_N[rows],
            self.positive_texts_N[rows],
            self.negative_concepts_NK[rows],
            self.negative_texts_NK[rows],
        )


def with_ids(pairs: PairTexts, *, num_negatives: int = 0) -> PairBatch:
    """Return pairs as one batch, with the ids of their concepts and texts, and the first ``num_negatives`` hard negatives."""
    negatives = [("",) * num_negatives] * len(pairs)
    concepts_NK, texts_NK = (np.zeros((len(pairs), num_negatives), dtype=np.int64) for _ in range(2))
    if num_negatives and pairs.negatives:
        for row, (texts, lineages) in enumerate(zip(pairs.negatives, pairs.negative_lineages, strict=True)):
            kept = tuple(texts)[:num_negatives]
            negatives[row] = kept + ("",) * (num_negatives - len(kept))
            texts_NK[row, : len(kept)] = _text_ids(kept)
            concepts_NK[row, : len(kept)] = [name_id(lineage[0]) for lineage in lineages[: len(kept)]]
    rows: dict[tuple[str, ...], int] = {}
    anchor_rows, positive_rows = (
        [rows.setdefault(tuple(lineage), len(rows)) for lineage in lineages]
        for lineages in (pairs.anchor_lineages, pairs.positive_lineages)
    )
    return PairBatch(
        pairs.anchors,
        pairs.positives,
        negatives,
        concept_ids([(*lineage, *pairs.above.get(lineage[0], ())) if lineage else () for lineage in rows]),
        np.array(anchor_rows, dtype=np.int64),
        np.array(positive_rows, dtype=np.int64),
        _text_ids(pairs.anchors),
        _text_ids(pairs.positives),
        concepts_NK,
        texts_NK,
    )


def _text_ids(texts: Sequence[str]) -> NDArray[np.int64]:
    return np.array([name_id(text_key(text)) for text in texts], dtype=np.int64)


def joined(batches: Sequence[PairBatch]) -> PairBatch:
    """Return the pairs of all batches, one after the other, with the lineages that they use."""
    tables: list[NDArray[np.int64]] = []
    rows: list[NDArray[np.int64]] = []
    for batch in batches:
        both = np.concatenate([getattr(batch, name) for name in _ROWS])
        used, places = np.unique(both, return_inverse=True)
        rows.append(places.reshape(2, -1) + sum(map(len, tables)))
        tables.append(batch.lineages_CL[used])
    # As wide as the longest of these lineages, not as that of the whole source.
    width = max((int((table != 0).sum(1).max(initial=0)) for table in tables), default=0)
    lineages_CL = np.zeros((sum(map(len, tables)), width), dtype=np.int64)
    start = 0
    for table in tables:
        lineages_CL[start : start + len(table), : table.shape[1]] = table[:, :width]
        start += len(table)
    return PairBatch(
        [text for batch in batches for text in batch.anchors],
        [text for batch in batches for text in batch.positives],
        [texts for batch in batches for texts in batch.negatives],
        lineages_CL,
        *np.concatenate(rows, axis=1),
        *(np.concatenate([getattr(batch, name) for batch in batches]) for name in (*IDS[2:], *NEGATIVE_IDS)),
    )


class PairSource:
    """Makes the global batch of each step."""

    def __init__(
        self,
        sources: Mapping[str, PairTexts],
        *,
        weights: Mapping[str, float],
        batch_pairs: int,
        neighbours: int,
        seed: int,
    ) -> None:
        wanted = wanted_weights(weights, sources)
        num_negatives = max((len(texts) for name in wanted for texts in sources[name].negatives), default=0)
        self._pairs: list[PairBatch] = []
        self._orders: list[RowOrder] = []
        for number, (name, count) in enumerate(places(batch_pairs, wanted).items()):
            if count:
                # Numbered, so that two sources of one size are not read in one order.
                own_seed = int(np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0]) >> 1
                self._pairs.append(with_ids(sources[name], num_negatives=num_negatives))
                order = RowOrder(num_rows=len(sources[name]), batch_rows=count, seed=own_seed, run_rows=neighbours)
                self._orders.append(order)

    def batch(self, step: int) -> PairBatch:
        """Return the pairs of ``step``."""
        return joined([pairs.take(order.rows(step)) for pairs, order in zip(self._pairs, self._orders, strict=True)])
