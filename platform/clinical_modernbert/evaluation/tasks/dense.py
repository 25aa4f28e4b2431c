"""Contrastive fine-tuning for search: of the documents of a batch, the query's own must be nearest."""

from collections.abc import Sequence
from typing import Any

import torch

from clinical_modernbert.encoder import embed_ids
from clinical_modernbert.encoder.forward import pool, states
from clinical_modernbert.evaluation.heads import mixed_precision
from clinical_modernbert.evaluation.tasks.ranking import unit
from clinical_modernbert.evaluation.tuning import Problem
from clinical_modernbert.recipe.vocabulary import Pooling

_TEMPERATURE = 0.05

Pair = tuple[list[int], list[int]]
"""Tokens of a query and of a document that answers it."""


def contrastive_problem(
    base: Any, pairs: Sequence[Pair], development: Sequence[Pair], *, pooling: Pooling, max_batch_tokens: int
) -> Problem:
    """Return the problem of telling each query's document from the others of its batch, judged by mean reciprocal rank."""

    def scores(batch: Sequence[Pair]) -> torch.Tensor:
        sides = []
        for side in (0, 1):
            ids = [pair[side] for pair in batch]
            with mixed_precision():
                vectors = pool(states(base, ids), [len(text) for text in ids], pooling).float()
            sides.append(torch.nn.functional.normalize(vectors, dim=1))
        return sides[0] @ sides[1].T / _TEMPERATURE

    def loss_sum(members: Sequence[int]) -> torch.Tensor:
        logits = scores([pairs[i] for i in members])
        labels = torch.arange(len(members), device=logits.device)
        return torch.nn.functional.cross_entropy(logits, labels, reduction="sum")

    def development_figure() -> float:
        sides = ([pair[side] for pair in development] for side in (0, 1))
        with mixed_precision():
            query, document = (
                unit(embed_ids(base, ids, pooling=pooling, max_batch_tokens=max_batch_tokens)) for ids in sides
            )
        ranks = (query @ document.T >= (query * document).sum(1, keepdims=True) - 1e-6).sum(1)
        return float((1 / ranks).mean())

    # A batch must stay whole, because its other documents are the wrong answers: hence lengths that never cut it.
    return Problem([1] * len(pairs), [1] * len(pairs), loss_sum, development_figure)
