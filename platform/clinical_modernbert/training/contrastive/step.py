"""One contrastive step: vectors of all workers, the loss over the global batch, gradients by micro-batch, one update.

Memory does not grow with the batch (Gao et al., 2021, arXiv 2101.06983, GradCache):
1. Each worker computes the vectors of its pairs, micro-batch by micro-batch, without a graph.
2. Workers exchange vectors; each computes the loss of the whole batch and its gradient with respect to its own vectors.
3. Each micro-batch runs again with a graph, and the gradient of its vectors flows back. Dropout repeats by its seed.
A worker whose pairs fit in one micro-batch keeps the graph of the first pass instead. Gradients are summed over the workers.

Legend: N pairs of the global batch, M pairs of a micro-batch, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from clinical_modernbert.encoder import Precision, products_in
from clinical_modernbert.encoder.forward import passes, vectors
from clinical_modernbert.recipe.contrast import ContrastRecipe
from clinical_modernbert.training.contrastive.batches import PairBatch
from clinical_modernbert.training.contrastive.loss import contrastive_loss, same_meaning
from clinical_modernbert.training.engine import TorchEngine
from clinical_modernbert.training.worker import Worker


@dataclass(frozen=True, slots=True)
class PairModel:
    """The model with what turns texts into vectors."""

    model: Any
    tokenizer: Any
    recipe: ContrastRecipe
    precision: Precision
    worker: Worker

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text with [CLS] and [SEP], cut to the recipe's limit."""
        found: list[list[int]] = self.tokenizer(
            list(texts), truncation=True, max_length=self.recipe.vectors.max_tokens, padding=False
        )["input_ids"]
        return found

    def vectors(self, ids: Sequence[Sequence[int]]) -> torch.Tensor:
        """Return the vectors of one micro-batch, float32 [len(ids), D], not normalised."""
        found, order = [], []
        with products_in(self.precision, self.worker.device):
            for part in passes(self.model, [len(text) for text in ids]):
                found.append(vectors(self.model, [ids[i] for i in part], pooling=self.recipe.vectors.pooling))
                order += part
        back = torch.empty(len(order), dtype=torch.long)
        back[torch.tensor(order)] = torch.arange(len(order))
        return torch.cat(found).float()[back.to(self.worker.device)]


def contrastive_step(
    context: PairModel, engine: TorchEngine, batch: PairBatch, *, step: int, learning_rate: float
) -> tuple[float, float, int]:
    """Train one step; return the loss, the gradient norm and the tokens of the global batch. Every worker calls it."""
    worker, recipe = context.worker, context.recipe
    # Worker 1 of 2 has pairs 1, 3, 5, ... of the batch, so that each has pairs of every source.
    own = np.arange(worker.rank, len(batch), worker.world_size)
    size = min(recipe.scaling.micro_batch_pairs, len(own))
    micro_batches = [own[start : start + size] for start in range(0, len(own), size)]
    ids = [
        context.token_ids([*(batch.anchors[i] for i in part), *(batch.positives[i] for i in part)])
        for part in micro_batches
    ]
    seeds = [_micro_seed(recipe.training.seed, step, int(part[0])) for part in micro_batches]

    # 1. Vectors of this worker's pairs: [M, 2, D] for each micro-batch.
    again = len(micro_batches) > 1
    with torch.set_grad_enabled(not again):
        own_vectors = [_seeded(context, ids[m], seeds[m]) for m in range(len(micro_batches))]

    # 2. The loss of the global batch, and its gradient with respect to this worker's vectors.
    gathered = _gathered(torch.cat(own_vectors).detach(), worker)
    loss, gradient = _loss_gradient(gathered, batch, recipe, worker)

    # 3. Through the model, micro-batch by micro-batch.
    for m, part in enumerate(gradient.split(size)):
        (_seeded(context, ids[m], seeds[m]) if again else own_vectors[m]).backward(part)
    norm = engine.step(learning_rate=learning_rate)
    num_tokens = torch.tensor(float(sum(len(text) for part in ids for text in part)), device=worker.device)
    if worker.world_size > 1:
        dist.all_reduce(num_tokens)
    return loss, norm, int(num_tokens)


def _loss_gradient(
    gathered: torch.Tensor, batch: PairBatch, recipe: ContrastRecipe, worker: Worker
) -> tuple[float, torch.Tensor]:
    """Return the loss over vectors [N, 2, D] in the order of the workers, and the gradient of this worker's part."""
    num_own = len(batch) // worker.world_size
    order = np.arange(len(batch)).reshape(num_own, worker.world_size).T.reshape(-1)
    ordered = batch.take(order)
    leaf = gathered.requires_grad_()
    ids = [torch.from_numpy(getattr(ordered, name)).to(worker.device) for name in _IDS]
    loss = contrastive_loss(
        leaf[:, 0],
        leaf[:, 1],
        excluded_NN=same_meaning(*ids),
        temperature=recipe.training.temperature,
        dims=recipe.vectors.matryoshka_dims,
    )
    (gradient,) = torch.autograd.grad(loss, leaf)
    return float(loss.detach()), gradient[worker.rank * num_own : (worker.rank + 1) * num_own]


_IDS = ("anchor_concepts_NL", "positive_concepts_NL", "anchor_texts_N", "positive_texts_N")


def _seeded(context: PairModel, ids: list[list[int]], seed: int) -> torch.Tensor:
    """Return the vectors [M, 2, D] of a micro-batch; the seed repeats its dropout."""
    torch.manual_seed(seed)
    found = context.vectors(ids)
    return torch.stack([found[: len(ids) // 2], found[len(ids) // 2 :]], dim=1)


def _gathered(own: torch.Tensor, worker: Worker) -> torch.Tensor:
    if worker.world_size == 1:
        return own
    parts = [torch.empty_like(own) for _ in range(worker.world_size)]
    dist.all_gather(parts, own.contiguous())
    return torch.cat(parts)


def _micro_seed(seed: int, step: int, first: int) -> int:
    return int(np.random.SeedSequence([seed, step, first]).generate_state(1, np.uint64)[0])
