"""Score a model on held-out rows under the frozen masks: loss and top-k, over all of them and by source.

Training, the evaluation and sweeps use these functions, so that every figure called held-out has one meaning.

Legend: N predicted tokens, R rows, S sources, F figures.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import ModernBertForMaskedLM

from clinical_modernbert.artifacts import Artifact
from clinical_modernbert.corpus.shards import PackedRows, row_lengths
from clinical_modernbert.encoder import Precision, products_in, score_masked
from clinical_modernbert.masking import MASK_KINDS, TOP_K, MaskKind, TokenRanges, evaluation_mask
from clinical_modernbert.outages import patiently
from clinical_modernbert.recipe import CorpusRecipe
from clinical_modernbert.training.batches import pack_causal, pack_rows, row_chunks
from clinical_modernbert.training.phases import Phase
from clinical_modernbert.training.state import HeldOutFigures, HeldOutPoint
from clinical_modernbert.training.worker import Worker, sum_over_workers


def sample_rows(num_rows: int, *, max_rows: int) -> NDArray[np.int64]:
    """Return the numbers of up to ``max_rows`` rows, evenly over the split, so that every shard is represented."""
    return np.linspace(0, num_rows - 1, min(num_rows, max_rows)).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Scoring:
    """How a worker scores held-out rows, the same at every evaluation of a run."""

    max_rows: int
    """Rows of each corpus."""
    tokens: TokenRanges
    worker: Worker
    precision: Precision
    """That of training."""


def score_run(
    model: Any, corpora: Mapping[str, Artifact], phase: Phase, scoring: Scoring, *, step: int
) -> HeldOutPoint:
    """Score every corpus of the run that has rows of the phase's length; every worker calls it.

    The point's own figures are those of the phase's corpora; the others show what the model keeps of earlier phases.
    """
    found = {
        name: score_corpus(
            model,
            corpus,
            scoring,
            row_length=phase.sequence_length,
            batch_rows=phase.micro_batch_rows,
            causal=phase.section.objective == "causal",
        )
        for name, corpus in corpora.items()
        if phase.sequence_length in row_lengths(corpus)
    }
    shares = phase.mixture.shares
    # A figure that one of the phase's corpora lacks has no mean.
    measured = [
        name for name in found[phase.mixture.corpora[0]].overall if all(name in found[c].overall for c in shares)
    ]
    overall = {name: sum(share * found[c].overall[name] for c, share in shares.items()) for name in measured}
    return HeldOutPoint(step, overall, phase.sequence_length, shares, found)


def score_corpus(
    model: Any, corpus: Artifact, scoring: Scoring, *, row_length: int, batch_rows: int, causal: bool = False
) -> HeldOutFigures:
    """Score up to ``max_rows`` held-out rows of a corpus in passes of ``batch_rows``, ``causal`` also by next tokens.

    Every worker calls it and scores its share.
    """
    worker = scoring.worker
    rows = patiently(partial(PackedRows, corpus, row_length=row_length, split="held_out"), work="opening held-out rows")
    numbers_R = sample_rows(len(rows), max_rows=scoring.max_rows)
    chunks = [numbers_R[chunk] for chunk in row_chunks(len(numbers_R), size=batch_rows)]
    own_chunks = chunks[worker.rank :: worker.world_size]
    sources = source_names(corpus)
    with products_in(scoring.precision, worker.device):
        scored: dict[str, NextTokens | MaskedPositions] = {
            kind: score_rows(model, rows, own_chunks, kind=kind, tokens=scoring.tokens) for kind in MASK_KINDS
        }
        if causal:
            scored["causal"] = score_next_tokens(model, rows, own_chunks)
    overall: dict[str, float] = {}
    by_source: dict[str, dict[str, float]] = {name: {} for name in sources}
    for kind, positions in scored.items():
        # One line a source: predicted tokens, their summed loss, and how many are among the first k for each k.
        sums_SF = sum_over_workers(_sums_by_source(positions, num_sources=len(sources)), worker)
        overall |= _figures(kind, sums_SF.sum(0))
        for name, sums_F in zip(sources, sums_SF, strict=True):
            by_source[name] |= _figures(kind, sums_F)
    return HeldOutFigures(overall, by_source)


def source_names(corpus: Artifact) -> list[str]:
    """Return the sources as shards number them: in the recipe's order."""
    return [source.name for source in CorpusRecipe.model_validate(corpus.manifest.recipe).sources]


def _sums_by_source(scored: "NextTokens | MaskedPositions", *, num_sources: int) -> torch.Tensor:
    values_FN = [np.ones(len(scored.losses_N)), scored.losses_N, *(scored.ranks_N < k for k in TOP_K)]
    sums_FS = [np.bincount(scored.sources_N, weights=values_N, minlength=num_sources) for values_N in values_FN]
    return torch.from_numpy(np.stack(sums_FS, axis=1).astype(np.float64))


def _figures(kind: str, sums_F: torch.Tensor) -> dict[str, float]:
    count, *totals = sums_F.tolist()
    names = [f"{kind}_loss", *(f"{kind}_top{k}" for k in TOP_K)]
    return {name: total / count for name, total in zip(names, totals, strict=True)} if count else {}


@dataclass(frozen=True, slots=True)
class NextTokens:
    """The scores of each next token; parallel arrays over all batches."""

    ranks_N: NDArray[np.int64]
    sources_N: NDArray[np.int64]
    losses_N: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class MaskedPositions:
    """The scores at each hidden token; parallel arrays over all batches."""

    labels_N: NDArray[np.int64]
    ranks_N: NDArray[np.int64]
    """Number of tokens that the model ranks above the right one; below k is a top-k hit."""
    sources_N: NDArray[np.int64]
    documents_N: NDArray[np.uint64]
    losses_N: NDArray[np.float64]
    """Cross-entropy in nats."""
    lefts_N: NDArray[np.int64]
    """Token on the left in the model's input: [CLS] at a segment's start, [MASK] if that token is hidden too."""
    rights_N: NDArray[np.int64]

    def accuracy(self, k: int, *, source: int | None = None) -> float:
        """Return the share of hidden tokens among the model's first ``k``; NaN if nothing was hidden."""
        ranks = self.ranks_N if source is None else self.ranks_N[self.sources_N == source]
        return float((ranks < k).mean()) if len(ranks) else float("nan")

    @property
    def loss(self) -> float:
        """Mean cross-entropy in nats."""
        return float(self.losses_N.mean()) if len(self.losses_N) else float("nan")


def score_rows(
    model: ModernBertForMaskedLM,
    rows: PackedRows,
    chunks: Iterable[NDArray[np.int64]],
    *,
    kind: MaskKind,
    tokens: TokenRanges,
) -> MaskedPositions:
    """Hide tokens of the rows by the frozen mask ``kind`` and return how the model ranks the hidden tokens."""
    labels, ranks, sources, documents, losses, lefts, rights = [], [], [], [], [], [], []
    was_training = model.training
    model.eval()
    for numbers_R in chunks:
        batch = patiently(partial(rows.read, numbers_R), work="reading held-out rows")
        maskable = batch.valid_RL & ~np.isin(batch.ids_RL, tokens.special_ids)
        selected = evaluation_mask(kind, salient_RL=batch.salient_RL, maskable_RL=maskable, rows_R=numbers_R)
        if not selected.any():
            continue
        hidden = np.where(selected, tokens.mask_id, batch.ids_RL)
        packed = pack_rows(batch, input_RL=hidden, selected_RL=selected, device=model.device)
        scores = score_masked(model, packed)
        segment_N = np.repeat(np.arange(len(batch.lengths_S)), batch.lengths_S)[selected[batch.valid_RL]]
        labels.append(packed.labels_N.cpu().numpy())
        ranks.append(scores.ranks_N.cpu().numpy())
        sources.append(batch.sources_S[segment_N])
        documents.append(batch.documents_S[segment_N])
        losses.append(scores.losses_N.double().cpu().numpy())
        # No hidden token is at a segment's edge: [CLS] and [SEP] are never hidden.
        seen_T, place_N = hidden[batch.valid_RL], packed.masked_N.cpu().numpy()
        lefts.append(seen_T[place_N - 1])
        rights.append(seen_T[place_N + 1])
    model.train(was_training)
    return MaskedPositions(
        labels_N=_joined(labels, np.int64),
        ranks_N=_joined(ranks, np.int64),
        sources_N=_joined(sources, np.int64),
        documents_N=_joined(documents, np.uint64),
        losses_N=_joined(losses, np.float64),
        lefts_N=_joined(lefts, np.int64),
        rights_N=_joined(rights, np.int64),
    )


def score_next_tokens(
    model: ModernBertForMaskedLM, rows: PackedRows, chunks: Iterable[NDArray[np.int64]]
) -> NextTokens:
    """Return how the model ranks each next token from those before it in its segment."""
    ranks, sources, losses = [], [], []
    was_training = model.training
    model.eval()
    for numbers_R in chunks:
        batch = patiently(partial(rows.read, numbers_R), work="reading held-out rows")
        scores = score_masked(model, pack_causal(batch, device=model.device))
        ranks.append(scores.ranks_N.cpu().numpy())
        losses.append(scores.losses_N.double().cpu().numpy())
        sources.append(np.repeat(batch.sources_S, batch.lengths_S - 1))
    model.train(was_training)
    return NextTokens(_joined(ranks, np.int64), _joined(sources, np.int64), _joined(losses, np.float64))


def _joined(parts: list[NDArray[Any]], dtype: type) -> NDArray[Any]:
    return np.concatenate(parts) if parts else np.empty(0, dtype=dtype)
