"""What the scheduler carries and one forward pass answers: a vector, token states, words at the masks, or a head's outputs.

All of them travel in the same batch: packed for a ModernBERT, padded for any other architecture. The vocabulary-wide head runs
at mask positions only.

Legend: T tokens of the batch, D hidden width, V vocabulary, M masks of one text, K answers a mask, L labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import ModernBertForMaskedLM

from clinical_modernbert.encoder.attention import SegmentLayout
from clinical_modernbert.encoder.embed import Pooling, pool
from clinical_modernbert.encoder.packed import encode_first, encode_packed
from clinical_modernbert.encoder.padded import is_packed, padded_logits, padded_states


@dataclass(frozen=True, slots=True)
class Work:
    """One tokenised text and what is wanted of it; its length is its number of tokens."""

    token_ids: Sequence[int]
    kind: Literal["vector", "tokens", "fill", "classify", "label"] = "vector"
    masks: tuple[int, ...] = ()
    """Positions of the masks, for ``fill``."""
    top_k: int = 5
    targets: tuple[int, ...] = ()
    """Ids among which ``fill`` chooses; empty: the whole vocabulary."""
    num_words: int = 0
    """Ids that the tokenizer knows: rows that pad the vocabulary are no answers."""

    def __len__(self) -> int:
        return len(self.token_ids)


@torch.inference_mode()
def run_batch(model: Any, items: list[Work], *, pooling: Pooling) -> list[NDArray[np.float32]]:
    """Return one float32 array an item: [D], [T, D] of its own tokens, or [2, M, K] with ids above probabilities;
    of a classification head [L] (``classify``) or [T, L] (``label``), before softmax.

    Ids stay exact in float32 below 2^24.
    """
    if not is_packed(model):
        return _run_padded(model, items, pooling=pooling)
    lengths = [len(item) for item in items]
    flat_T = torch.from_numpy(np.concatenate([np.asarray(item.token_ids, dtype=np.int64) for item in items]))
    layout = SegmentLayout.build(lengths, device=model.device)
    if pooling == "cls" and all(item.kind == "vector" for item in items):
        return list(encode_first(model.base_model, flat_T.to(model.device), layout).float().cpu().numpy())
    hidden_TD = encode_packed(model.base_model, flat_T.to(model.device), layout).float()
    answers, start = [], 0
    for item, length in zip(items, lengths, strict=True):
        own_TD = hidden_TD[start : start + length]
        start += length
        if item.kind == "fill":
            answer = _fill(model, own_TD, item)
        elif item.kind == "classify":
            answer = model.classifier(model.head(pool(own_TD, model.config.classifier_pooling)))
        elif item.kind == "label":
            answer = model.classifier(model.head(own_TD))
        elif item.kind == "tokens":
            answer = own_TD
        else:
            answer = pool(own_TD, pooling)
        answers.append(_copied(answer))
    return answers


def _run_padded(model: Any, items: list[Work], *, pooling: Pooling) -> list[NDArray[np.float32]]:
    """The same through transformers' forward, where ``fill`` is never asked for: no such model is served."""
    answers: dict[int, NDArray[np.float32]] = {}
    for run, kinds in ((padded_logits, ("classify", "label")), (padded_states, ("vector", "tokens"))):
        members = [i for i, item in enumerate(items) if item.kind in kinds]
        for i, found in zip(members, run(model, [items[i].token_ids for i in members]), strict=True):
            answers[i] = _copied(pool(found, pooling) if items[i].kind == "vector" else found)
    return [answers[i] for i in range(len(items))]


def _copied(answer: torch.Tensor) -> NDArray[np.float32]:
    """Return a copy: a view would keep the states of the whole batch alive."""
    return np.array(answer.cpu().numpy(), dtype=np.float32)


def _fill(model: ModernBertForMaskedLM, own_TD: torch.Tensor, item: Work) -> torch.Tensor:
    logits_MV = model.decoder(model.head(own_TD[list(item.masks)])).float()[:, : item.num_words]
    likely_MV = logits_MV.softmax(-1)
    if item.targets:
        chosen = torch.tensor(item.targets, device=likely_MV.device)
        best = likely_MV[:, chosen].topk(min(item.top_k, len(item.targets)))
        return torch.stack([chosen[best.indices].float(), best.values])
    best = likely_MV.topk(min(item.top_k, likely_MV.shape[1]))
    return torch.stack([best.indices.float(), best.values])
