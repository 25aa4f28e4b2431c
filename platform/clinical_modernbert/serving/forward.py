"""Tasks that the scheduler queues, and the forward passes of a batch: vectors, token states, tokens at masks, weights of words,
or logits of a head.

Tasks of all kinds share a batch. Tasks for the classification head run in one pass, all others in a second; ``encoder.forward``
packs or pads each pass as the architecture needs.

Legend: T tokens of one text, D hidden width, V vocabulary, M masks of one text, K answers for a mask or words of a sparse
vector, L labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from clinical_modernbert.encoder import forward
from clinical_modernbert.recipe.vocabulary import Pooling

_LOGITS_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class EncodeTask:
    """One tokenised text, and what to compute from it; its length is its number of tokens."""

    token_ids: Sequence[int]
    kind: Literal["vector", "tokens", "fill", "sparse", "classify", "label"] = "vector"
    masks: tuple[int, ...] = ()
    """Positions of the masks, for ``fill``."""
    top_k: int = 5
    """Answers for each mask of ``fill``; most words of ``sparse``."""
    targets: tuple[int, ...] = ()
    """Ids among which ``fill`` chooses; empty means the whole vocabulary."""
    vocabulary_size: int = 0
    """Number of the tokenizer's ids, for ``fill`` and ``sparse``: the model may have more outputs, which pad the vocabulary."""

    def __len__(self) -> int:
        return len(self.token_ids)


@torch.inference_mode()
def run_batch(model: Any, tasks: list[EncodeTask], *, pooling: Pooling) -> list[NDArray[np.float32]]:
    """Return one float32 array for each task.

    ``vector`` [D]; ``tokens`` [T, D]; ``fill`` [2, M, K], token ids above probabilities; ``sparse`` [2, K], ascending token ids
    above weights; ``classify`` [L] and ``label`` [T, L], before softmax. Ids below 2^24 are exact in float32.
    """
    answers: dict[int, NDArray[np.float32]] = {}
    for on_head in (False, True):
        positions = [i for i, task in enumerate(tasks) if (task.kind in ("classify", "label")) == on_head]
        for one_pass in forward.passes(model, [len(tasks[i]) for i in positions]):
            batch = [tasks[positions[i]] for i in one_pass]
            arrays = _run_head(model, batch) if on_head else _run_encoder(model, batch, pooling=pooling)
            answers.update(zip((positions[i] for i in one_pass), arrays, strict=True))
    return [answers[i] for i in range(len(tasks))]


def _run_head(model: Any, tasks: list[EncodeTask]) -> list[NDArray[np.float32]]:
    """Return logits; a model has one head, so all tasks are of one kind."""
    logits = forward.logits(model, [task.token_ids for task in tasks])
    by_text = logits if tasks[0].kind == "classify" else logits.split([len(task) for task in tasks])
    return [_copied(answer) for answer in by_text]


def _run_encoder(model: Any, tasks: list[EncodeTask], *, pooling: Pooling) -> list[NDArray[np.float32]]:
    """Return vectors, token states and tokens at masks from one pass of the encoder."""
    ids, lengths = [task.token_ids for task in tasks], [len(task) for task in tasks]
    if all(task.kind == "vector" for task in tasks):
        return list(forward.vectors(model, ids, pooling=pooling).cpu().numpy())
    answers = []
    for task, states_TD in zip(tasks, forward.states(model, ids).float().split(lengths), strict=True):
        if task.kind == "fill":
            answer = _fill(model, states_TD, task)
        elif task.kind == "sparse":
            answer = _weigh(model, states_TD, task)
        elif task.kind == "tokens":
            answer = states_TD
        else:
            answer = forward.pool(states_TD, [len(task)], pooling)[0]
        answers.append(_copied(answer))
    return answers


def _copied(answer: torch.Tensor) -> NDArray[np.float32]:
    """Return a copy: a view would keep the states of the whole batch in memory."""
    return np.array(answer.cpu().numpy(), dtype=np.float32)


def _fill(model: Any, states_TD: torch.Tensor, task: EncodeTask) -> torch.Tensor:
    """Return [2, M, K]: the ids of the most likely tokens at each mask, and their probabilities."""
    # A few masks at a time: logits of thousands of masks over the vocabulary take gigabytes.
    masks_MD = states_TD[list(task.masks)]
    return torch.cat([_best(model, some_MD, task) for some_MD in masks_MD.split(_LOGITS_AT_ONCE)], dim=1)


def _weigh(model: Any, states_TD: torch.Tensor, task: EncodeTask) -> torch.Tensor:
    """Return [2, K]: the ids of the words with a weight, and log(1 + relu) of each word's largest logit over all tokens."""
    logits_V = torch.zeros(task.vocabulary_size, device=states_TD.device)  # what relu leaves at least
    for some_TD in states_TD.split(_LOGITS_AT_ONCE):
        some_TV = forward.word_logits(model, some_TD).float()[:, : task.vocabulary_size]
        logits_V = torch.maximum(logits_V, some_TV.amax(0))
    weights_V = logits_V.log1p()
    words_K = weights_V.topk(min(task.top_k, task.vocabulary_size)).indices.sort().values
    words_K = words_K[weights_V[words_K] > 0]
    return torch.stack([words_K.float(), weights_V[words_K]])


def _best(model: Any, masks_MD: torch.Tensor, task: EncodeTask) -> torch.Tensor:
    logits_MV = forward.word_logits(model, masks_MD).float()[:, : task.vocabulary_size]
    probabilities_MV = logits_MV.softmax(-1)
    if task.targets:
        targets = torch.tensor(task.targets, device=probabilities_MV.device)
        best = probabilities_MV[:, targets].topk(min(task.top_k, len(task.targets)))
        return torch.stack([targets[best.indices].float(), best.values])
    best = probabilities_MV.topk(min(task.top_k, probabilities_MV.shape[1]))
    return torch.stack([best.indices.float(), best.values])
