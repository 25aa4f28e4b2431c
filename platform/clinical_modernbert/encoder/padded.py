"""Architectures other than ModernBERT: texts in padded batches through transformers' own forward.

Legend: N texts of a batch, W its width, T tokens of one text, D hidden width, C classes.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch


def is_packed(model: Any) -> bool:
    """Whether the model reads packed rows: ModernBERT alone does, with a head or without."""
    packed: bool = model.config.model_type == "modernbert"
    return packed


def pad_batch(model: Any, ids: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids [N, W] and the mask of what is no padding, on the model's device."""
    width = max(len(text) for text in ids)
    padded_NW = torch.full((len(ids), width), int(model.config.pad_token_id or 0))
    mask_NW = torch.zeros((len(ids), width), dtype=torch.long)
    for row, text in enumerate(ids):
        padded_NW[row, : len(text)] = torch.tensor(text)
        mask_NW[row, : len(text)] = 1
    return padded_NW.to(model.device), mask_NW.to(model.device)


def padded_states(model: Any, ids: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    """Return the last hidden states [T, D] of each text; a head does not run."""
    return _by_text(model, ids, lambda **batch: model.base_model(**batch).last_hidden_state)


def padded_logits(model: Any, ids: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    """Return what the head gives for each text: [C] of a sequence head, [T, C] of a token head."""
    return _by_text(model, ids, lambda **batch: model(**batch).logits)


def padded_parts(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield the positions of all texts, longest first, in passes that with their padding are little larger than all texts.

    So one long text among many short ones does not make each of them as long as itself.
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    room = sum(lengths) * 4 // 3
    while order:
        number = max(room // lengths[order[0]], 1)
        yield order[:number]
        order = order[number:]


def max_positions(model: Any) -> int:
    """Return the longest text in tokens, [CLS] and [SEP] included."""
    positions = int(model.config.max_position_embeddings)
    if is_packed(model):
        return positions  # rotary: there is no table of them
    table = getattr(getattr(model.base_model, "embeddings", None), "position_embeddings", None)
    # RoBERTa's family (Longformer too) numbers positions from behind the padding id on: those before hold no token.
    padding_id = getattr(table, "padding_idx", None)
    return positions if padding_id is None else positions - padding_id - 1


def _by_text(model: Any, ids: Sequence[Sequence[int]], forward: Callable[..., torch.Tensor]) -> list[torch.Tensor]:
    found: dict[int, torch.Tensor] = {}
    for part in padded_parts([len(text) for text in ids]):
        padded_NW, mask_NW = pad_batch(model, [ids[i] for i in part])
        for i, own in zip(part, forward(input_ids=padded_NW, attention_mask=mask_NW), strict=True):
            found[i] = own[: len(ids[i])] if own.dim() > 1 else own
    return [found[i] for i in range(len(ids))]
