"""One vector a text, and fine-tuning for search: of the documents of a batch, the query's own must be nearest.

Legend: N texts, W width.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clinical_modernbert.evaluation.heads import hidden_states, mixed_precision, pooled
from clinical_modernbert.evaluation.tasks.ranking import unit
from clinical_modernbert.evaluation.tuning import Problem, by_length

_TEMPERATURE = 0.05

Pair = tuple[list[int], list[int]]
"""Tokens of a query and of a document that answers it."""


def embed(base: Any, ids: Sequence[Sequence[int]], *, pooling: str, max_batch_tokens: int) -> NDArray[np.float32]:
    """Return one vector a text, float32 [N, W], in the order given."""
    vectors: NDArray[np.float32] = np.empty((len(ids), base.config.hidden_size), dtype=np.float32)
    base.eval()
    with torch.inference_mode(), mixed_precision():
        for members in by_length([len(text) for text in ids], max_batch_tokens=max_batch_tokens):
            texts = [ids[i] for i in members]
            states = hidden_states(base, texts)
            vectors[members] = pooled(states, [len(t) for t in texts], pooling).float().cpu().numpy()
    return vectors


def contrastive_problem(
    base: Any, pairs: Sequence[Pair], development: Sequence[Pair], *, pooling: str, max_batch_tokens: int
) -> Problem:
    """Return the problem of telling each query's document from the others of its batch, judged by mean reciprocal rank."""

    def scores(batch: Sequence[Pair]) -> torch.Tensor:
        sides = []
        for side in (0, 1):
            ids = [pair[side] for pair in batch]
            with mixed_precision():
                vectors = pooled(hidden_states(base, ids), [len(text) for text in ids], pooling).float()
            sides.append(torch.nn.functional.normalize(vectors, dim=1))
        return sides[0] @ sides[1].T / _TEMPERATURE

    def loss_sum(members: Sequence[int]) -> torch.Tensor:
        logits = scores([pairs[i] for i in members])
        labels = torch.arange(len(members), device=logits.device)
        return torch.nn.functional.cross_entropy(logits, labels, reduction="sum")

    def development_figure() -> float:
        query, document = (
            unit(embed(base, [pair[side] for pair in development], pooling=pooling, max_batch_tokens=max_batch_tokens))
            for side in (0, 1)
        )
        ranks = (query @ document.T >= (query * document).sum(1, keepdims=True) - 1e-6).sum(1)
        return float((1 / ranks).mean())

    # A batch must stay whole, because its other documents are the wrong answers: hence lengths that never cut it.
    return Problem([1] * len(pairs), [1] * len(pairs), loss_sum, development_figure)
