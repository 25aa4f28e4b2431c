"""Each model's scores summed by held-out document: the pairs by which arms are compared.

Legend: D documents, K values of k.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clinical_modernbert.artifacts import open_store, resolve
from clinical_modernbert.evaluation.masked_tokens.score import score_held_out
from clinical_modernbert.masking import TOP_K, MaskKind
from clinical_modernbert.recipe.sweep import ComparisonSection
from clinical_modernbert.training.held_out import MaskedPositions

METRICS = ("loss", *(f"top{k}" for k in TOP_K))
_BATCH_ROWS = 16


@dataclass(frozen=True, slots=True)
class DocumentScores:
    """Sums over the hidden tokens of each document under one frozen mask; documents in the order of their keys."""

    mask: str
    """sha256 over the hidden tokens and their documents; equal for two models that were scored on the same ones."""
    documents_D: NDArray[np.uint64]
    tokens_D: NDArray[np.int64]
    """Hidden tokens."""
    sums: dict[str, NDArray[np.float64]]
    """Metric -> [D]: summed cross-entropy in nats, or hits among the first k."""

    def mean(self, metric: str) -> float:
        """Return the metric over all hidden tokens."""
        return float(self.sums[metric].sum() / self.tokens_D.sum())

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays of an npz file."""
        return {"documents": self.documents_D, "tokens": self.tokens_D, **self.sums}


def document_scores(positions: MaskedPositions) -> DocumentScores:
    """Sum the scores of hidden tokens by document."""
    # Hits as 0.0 and 1.0, so that every metric is a sum over tokens.
    documents_D, owner_N = np.unique(positions.documents_N, return_inverse=True)
    size = len(documents_D)
    per_token = {"loss": positions.losses_N} | {f"top{k}": np.where(positions.ranks_N < k, 1.0, 0.0) for k in TOP_K}
    hidden = hashlib.sha256(positions.documents_N.tobytes() + positions.labels_N.tobytes())
    return DocumentScores(
        mask=hidden.hexdigest(),
        documents_D=documents_D,
        tokens_D=np.bincount(owner_N, minlength=size),
        sums={
            metric: np.bincount(owner_N, weights=values_N, minlength=size).astype(np.float64)
            for metric, values_N in per_token.items()
        },
    )


def score_model(
    store_uri: str, *, model_id: str, corpus_id: str, section: ComparisonSection
) -> dict[MaskKind, DocumentScores]:
    """Score one model on the sweep's corpus: frozen mask -> scores by document. Runs as a Ray task of one CPU."""
    torch.set_num_threads(1)
    store = open_store(store_uri)
    scores = score_held_out(
        resolve(store, "model", model_id),
        resolve(store, "corpus", corpus_id),
        sequence_length=section.sequence_length,
        max_rows=section.max_rows,
        batch_rows=_BATCH_ROWS,
    )
    return {kind: document_scores(positions) for kind, positions in scores.masks.items()}
