"""One contrastive step: vectors of all workers, the loss over the global batch, gradients by micro-batch, one update.

Memory does not grow with the batch (Gao et al., 2021, arXiv 2101.06983, GradCache):
1. Each worker computes the vectors of its pairs, micro-batch by micro-batch, without a graph.
2. Workers exchange vectors; each computes the loss of the whole batch and its gradient with respect to its own vectors.
3. Each micro-batch runs again with a graph, and the gradient of its vectors flows back. Dropout repeats by its seed.
A worker whose pairs fit in one micro-batch keeps the graph of the first pass instead. Gradients are summed over the workers.
The teacher's loss joins in 2, the masked-language term adds its gradient after 3.

Legend: N pairs of the global batch, M pairs of a micro-batch, K hard negatives of a pair, D width.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from clinical_modernbert.recipe.contrast import ContrastRecipe
from clinical_modernbert.training.batches import WorkerShare
from clinical_modernbert.training.contrastive.batches import IDS, NEGATIVE_IDS, PairBatch
from clinical_modernbert.training.contrastive.loss import (
    HardNegatives,
    contrastive_loss,
    cosines,
    distillation_loss,
    no_negatives,
    same_meaning,
)
from clinical_modernbert.training.contrastive.masked_language import MaskedLanguageTerm, add_gradient
from clinical_modernbert.training.contrastive.text_model import TextModel
from clinical_modernbert.training.engine import TorchEngine
from clinical_modernbert.training.worker import Worker, sum_over_workers


@dataclass(frozen=True, slots=True)
class StepContext:
    """What every step of a run uses."""

    recipe: ContrastRecipe
    worker: Worker
    encoder: TextModel
    """The trained model."""
    engine: TorchEngine
    masked_language: MaskedLanguageTerm | None
    teacher: TextModel | None


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step gave, equal on every worker."""

    loss: float
    """The weighted sum of the three losses."""
    pair_loss: float
    masked_language_loss: float | None
    """Unweighted, as the teacher's; None where the term is off."""
    teacher_loss: float | None
    gradient_norm: float
    tokens: int
    """Of the pairs' texts in the global batch."""


def contrastive_step(
    context: StepContext, batch: PairBatch, rows: WorkerShare | None, *, step: int, learning_rate: float
) -> StepResult:
    """Train one step on the global batch and this worker's rows of the masked-language term. Every worker calls it."""
    worker, recipe, encoder = context.worker, context.recipe, context.encoder
    # Worker 1 of 2 has pairs 1, 3, 5, ... of the batch, so that each has pairs of every source.
    own = np.arange(worker.rank, len(batch), worker.world_size)
    size = min(recipe.scaling.micro_batch_pairs, len(own))
    micro_batches = [own[start : start + size] for start in range(0, len(own), size)]
    texts = [_texts(batch, part) for part in micro_batches]
    ids = [encoder.token_ids(part) for part in texts]
    columns = 2 + batch.negative_texts_NK.shape[1]
    seeds = [_micro_seed(recipe.training.seed, step, int(part[0])) for part in micro_batches]

    # 1. Vectors of this worker's pairs: [M, 2 + K, D] for each micro-batch.
    again = len(micro_batches) > 1
    with torch.set_grad_enabled(not again):
        own_vectors = [_seeded(encoder, ids[m], seeds[m], columns) for m in range(len(micro_batches))]

    # 2. The losses of the global batch, and their gradient with respect to this worker's vectors.
    gathered = _gathered(torch.cat(own_vectors).detach(), worker)
    sides = [part[: 2 * len(part) // columns] for part in texts]
    taught = _gathered(_taught(context.teacher, sides), worker) if context.teacher else None
    losses, gradient = _loss_gradient(gathered, taught, batch, context)

    # 3. Through the model, micro-batch by micro-batch; then the rows of the masked-language term.
    for m, part in enumerate(gradient.split(size)):
        (_seeded(encoder, ids[m], seeds[m], columns) if again else own_vectors[m]).backward(part)
    masked_language_loss = None
    if context.masked_language and rows:
        torch.manual_seed(_micro_seed(recipe.training.seed, step, len(batch) + worker.rank))
        masked_language_loss = add_gradient(context.masked_language, encoder, rows, worker)
        losses = replace(losses, total=losses.total + context.masked_language.section.weight * masked_language_loss)

    norm = context.engine.step(learning_rate=learning_rate)
    num_tokens = torch.tensor(float(sum(len(text) for part in ids for text in part)))
    return StepResult(
        loss=losses.total,
        pair_loss=losses.pairs,
        masked_language_loss=masked_language_loss,
        teacher_loss=losses.teacher,
        gradient_norm=norm,
        tokens=int(sum_over_workers(num_tokens, worker)),
    )


@dataclass(frozen=True, slots=True)
class _Losses:
    total: float
    pairs: float
    teacher: float | None


def _loss_gradient(
    gathered: torch.Tensor, taught: torch.Tensor | None, batch: PairBatch, context: StepContext
) -> tuple[_Losses, torch.Tensor]:
    """Return the losses over vectors [N, 2 + K, D] in the order of the workers, and the gradient of this worker's part.

    ``taught`` are the teacher's vectors [N, 2, D] of anchors and positives, of any width.
    """
    recipe, worker = context.recipe, context.worker
    num_own = len(batch) // worker.world_size
    order = np.arange(len(batch)).reshape(num_own, worker.world_size).T.reshape(-1)
    ordered = batch.take(order)
    leaf = gathered.requires_grad_()
    ids = [torch.from_numpy(getattr(ordered, name)).to(worker.device) for name in IDS]
    temperature, dims = recipe.training.temperature, recipe.vectors.matryoshka_dims
    total = pairs = contrastive_loss(
        leaf[:, 0],
        leaf[:, 1],
        excluded_NN=same_meaning(*ids),
        temperature=temperature,
        dims=dims,
        negatives=_negatives(leaf, ordered, ids),
    )
    teacher = None
    if recipe.training.teacher and taught is not None:
        teacher = distillation_loss(
            leaf[:, 0],
            leaf[:, 1],
            teacher_NN=cosines(taught[:, 0], taught[:, 1]),
            temperature=temperature,
            teacher_temperature=recipe.training.teacher.temperature or temperature,
            dims=dims,
        )
        total = total + recipe.training.teacher.weight * teacher
    (gradient,) = torch.autograd.grad(total, leaf)
    losses = _Losses(
        total=float(total.detach()),
        pairs=float(pairs.detach()),
        teacher=None if teacher is None else float(teacher.detach()),
    )
    return losses, gradient[worker.rank * num_own : (worker.rank + 1) * num_own]


def _negatives(leaf: torch.Tensor, batch: PairBatch, ids: list[torch.Tensor]) -> HardNegatives | None:
    """Return the hard negatives of all pairs, M = N x K, in the order of the vectors; ``ids`` are those of the pairs."""
    if not batch.negative_texts_NK.size:
        return None
    concepts_M, texts_M = (torch.from_numpy(getattr(batch, name).reshape(-1)).to(leaf.device) for name in NEGATIVE_IDS)
    return HardNegatives(leaf[:, 2:].flatten(0, 1), no_negatives(*ids, concepts_M=concepts_M, texts_M=texts_M))


def _texts(batch: PairBatch, part: NDArray[np.int64]) -> list[str]:
    """Return the anchors of a micro-batch, then its positives, then its first hard negatives, its second ones, ..."""
    rows = part.tolist()
    negatives = (batch.negatives[i][k] for k in range(batch.negative_texts_NK.shape[1]) for i in rows)
    return [*(batch.anchors[i] for i in rows), *(batch.positives[i] for i in rows), *negatives]


def _seeded(encoder: TextModel, ids: list[list[int]], seed: int, columns: int) -> torch.Tensor:
    """Return the vectors [M, columns, D] of a micro-batch; the seed repeats its dropout."""
    torch.manual_seed(seed)
    return _by_side(encoder.vectors(ids), columns)


@torch.no_grad()
def _taught(teacher: TextModel, texts: list[list[str]]) -> torch.Tensor:
    """Return the teacher's vectors [N, 2, D] of this worker's pairs."""
    return torch.cat([_by_side(teacher.vectors(teacher.token_ids(part)), 2) for part in texts])


def _by_side(found: torch.Tensor, columns: int) -> torch.Tensor:
    return torch.stack(found.chunk(columns), dim=1)


def _gathered(own: torch.Tensor, worker: Worker) -> torch.Tensor:
    if worker.world_size == 1:
        return own
    parts = [torch.empty_like(own) for _ in range(worker.world_size)]
    dist.all_gather(parts, own.contiguous())
    return torch.cat(parts)


def _micro_seed(seed: int, step: int, first: int) -> int:
    return int(np.random.SeedSequence([seed, step, first]).generate_state(1, np.uint64)[0])
