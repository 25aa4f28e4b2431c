"""What the scheduler carries, and the forward passes that answer it: vectors, token states, words at masks, or a head's outputs.

Work of all kinds shares a batch. What needs a classification head runs in one pass, all other work in another; each pass is
packed or padded as the architecture needs it.

Legend: T tokens of one text, D hidden width, V vocabulary, M masks of one text, K answers for a mask, L labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from clinical_modernbert.encoder import forward
from clinical_modernbert.recipe.heads import Pooling


@dataclass(frozen=True, slots=True)
class Work:
    """One tokenised text and what is computed from it; its length is its number of tokens."""

    token_ids: Sequence[int]
    kind: Literal["vector", "tokens", "fill", "classify", "label"] = "vector"
    masks: tuple[int, ...] = ()
    """Positions of the masks, for ``fill``."""
    top_k: int = 5
    targets: tuple[int, ...] = ()
    """Ids among which ``fill`` chooses; empty means the whole vocabulary."""
    num_words: int = 0
    """Ids that the tokenizer knows: rows that pad the vocabulary are not answers."""

    def __len__(self) -> int:
        return len(self.token_ids)


@torch.inference_mode()
def run_batch(model: Any, items: list[Work], *, pooling: Pooling) -> list[NDArray[np.float32]]:
    """Return one float32 array an item: [D], [T, D] of its own tokens, or [2, M, K] with ids above probabilities;
    of a classification head [L] (``classify``) or [T, L] (``label``), before softmax.

    Ids stay exact in float32 below 2^24.
    """
    answers: dict[int, NDArray[np.float32]] = {}
    for on_head in (False, True):
        members = [i for i, item in enumerate(items) if (item.kind in ("classify", "label")) == on_head]
        for part in forward.passes(model, [len(items[i]) for i in members]):
            batch = [items[members[i]] for i in part]
            found = _run_head(model, batch) if on_head else _run_encoder(model, batch, pooling=pooling)
            answers.update(zip((members[i] for i in part), found, strict=True))
    return [answers[i] for i in range(len(items))]


def _run_head(model: Any, items: list[Work]) -> list[NDArray[np.float32]]:
    """Return logits; a model has one head, so all items are of one kind."""
    logits = forward.logits(model, [item.token_ids for item in items])
    by_text = logits if items[0].kind == "classify" else logits.split([len(item) for item in items])
    return [_copied(answer) for answer in by_text]


def _run_encoder(model: Any, items: list[Work], *, pooling: Pooling) -> list[NDArray[np.float32]]:
    """Return vectors, token states and words at masks from one pass of the encoder."""
    ids, lengths = [item.token_ids for item in items], [len(item) for item in items]
    if all(item.kind == "vector" for item in items):
        return list(forward.vectors(model, ids, pooling=pooling).cpu().numpy())
    answers = []
    for item, states_TD in zip(items, forward.states(model, ids).float().split(lengths), strict=True):
        if item.kind == "fill":
            answer = _fill(model, states_TD, item)
        elif item.kind == "tokens":
            answer = states_TD
        else:
            answer = forward.pool(states_TD, [len(item)], pooling)[0]
        answers.append(_copied(answer))
    return answers


def _copied(answer: torch.Tensor) -> NDArray[np.float32]:
    """Return a copy: a view would keep the states of the whole batch in memory."""
    return np.array(answer.cpu().numpy(), dtype=np.float32)


def _fill(model: Any, states_TD: torch.Tensor, item: Work) -> torch.Tensor:
    """Return [2, M, K]: the ids of the likeliest words at each mask, and their probabilities."""
    logits_MV = forward.word_logits(model, states_TD[list(item.masks)]).float()[:, : item.num_words]
    probabilities_MV = logits_MV.softmax(-1)
    if item.targets:
        targets = torch.tensor(item.targets, device=probabilities_MV.device)
        best = probabilities_MV[:, targets].topk(min(item.top_k, len(item.targets)))
        return torch.stack([targets[best.indices].float(), best.values])
    best = probabilities_MV.topk(min(item.top_k, probabilities_MV.shape[1]))
    return torch.stack([best.indices.float(), best.values])
