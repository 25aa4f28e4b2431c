"""Each model's scores summed by group, a held-out document or the category of a pair: what is drawn together.

Arms are compared by these sums. Pretrained models are scored here, at the hidden tokens of a corpus, and vectors in
``pair_scores``.

Legend: G groups, N tokens or pairs.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clinical_modernbert.artifacts import open_store, resolve
from clinical_modernbert.evaluation.masked_tokens.score import score_held_out
from clinical_modernbert.masking import TOP_K
from clinical_modernbert.recipe.sweep import ComparisonSection
from clinical_modernbert.training.held_out import MaskedPositions

_BATCH_ROWS = 16


@dataclass(frozen=True, slots=True)
class GroupScores:
    """Sums of each group in one part: over the hidden tokens of one frozen mask, or over the pairs of one source."""

    scored: str
    """sha256 over the tokens or pairs and their groups; equal for two models that were scored on the same ones."""
    groups_G: NDArray[np.uint64]
    """Keys of the groups, in their order."""
    counts_G: NDArray[np.int64]
    """Hidden tokens, or pairs."""
    sums: dict[str, NDArray[np.float64]]
    """Metric -> [G]: summed cross-entropy in nats, hits among the first k, or reciprocal ranks."""

    def mean(self, metric: str) -> float:
        """Return the metric over all tokens or pairs."""
        return float(self.sums[metric].sum() / self.counts_G.sum())

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays of an npz file."""
        return {"groups": self.groups_G, "counts": self.counts_G, **self.sums}


def summed(groups_N: NDArray[np.uint64], values: Mapping[str, NDArray[np.float64]], *, scored: str) -> GroupScores:
    """Return the sums of ``values``, metric -> [N], by group."""
    groups_G, owner_N = np.unique(groups_N, return_inverse=True)
    size = len(groups_G)
    return GroupScores(
        scored=scored,
        groups_G=groups_G,
        counts_G=np.bincount(owner_N, minlength=size),
        sums={
            metric: np.bincount(owner_N, weights=values_N, minlength=size).astype(np.float64)
            for metric, values_N in values.items()
        },
    )


def document_scores(positions: MaskedPositions) -> GroupScores:
    """Sum the scores of hidden tokens by document."""
    # Hits as 0.0 and 1.0, so that every metric is a sum over tokens.
    per_token = {"loss": positions.losses_N} | {f"top{k}": np.where(positions.ranks_N < k, 1.0, 0.0) for k in TOP_K}
    hidden = hashlib.sha256(positions.documents_N.tobytes() + positions.labels_N.tobytes())
    return summed(positions.documents_N, per_token, scored=hidden.hexdigest())


def score_masked_tokens(
    model_id: str, *, store_uri: str, corpus_id: str, section: ComparisonSection
) -> dict[str, GroupScores]:
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
