"""Run a model on lists of token ids: the only place that packs or pads them.

A ModernBERT reads the texts of a pass back to back as one packed row. Any other architecture reads a padded batch through
transformers' own forward. Both give the same values to rounding, and no text sees another. Every function here is one forward
pass; ``passes`` divides texts among passes. Pretraining is not covered: its rows are packed already (``packed``).

    for part in passes(model, lengths):
        found[part] = vectors(model, [ids[i] for i in part], pooling="mean")

Legend: N texts of a pass, W width of the padded batch, T tokens of all N texts back to back, D hidden width, C classes, V words.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from transformers import ModernBertForSequenceClassification

from clinical_modernbert.encoder.packed import encode_first, encode_packed
from clinical_modernbert.encoder.segments import SegmentLayout
from clinical_modernbert.recipe.vocabulary import Pooling

TokenLists = Sequence[Sequence[int]]

_FAST_TOKENS = 512
"""Tokens of a padded pass from which its products run at the full rate of a CPU core (384 and 768 wide, AMD EPYC)."""


def states(model: Any, ids: TokenLists) -> torch.Tensor:
    """Return the last hidden states [T, D] of all texts, back to back; a head does not run."""
    if is_packed(model):
        return encode_packed(model.base_model, *_pack(ids, model.device))
    return padded_states(model, ids)


def padded_states(model: Any, ids: TokenLists) -> torch.Tensor:
    """Return ``states`` from one padded batch, as transformers runs any architecture; a ModernBERT needs its sdpa for this."""
    ids_NW, mask_NW = _pad(ids, model)
    return model.base_model(input_ids=ids_NW, attention_mask=mask_NW).last_hidden_state[mask_NW.bool()]


def first_states(model: Any, ids: TokenLists) -> torch.Tensor:
    """Return the states [N, D] of the first token of each text; a packed pass skips the others in its last layer."""
    if is_packed(model):
        return encode_first(model.base_model, *_pack(ids, model.device))
    ids_NW, mask_NW = _pad(ids, model)
    return model.base_model(input_ids=ids_NW, attention_mask=mask_NW).last_hidden_state[:, 0]


def vectors(model: Any, ids: TokenLists, *, pooling: Pooling) -> torch.Tensor:
    """Return one vector a text, float32 [N, D]."""
    if pooling == "cls":
        return first_states(model, ids).float()
    return pool(states(model, ids).float(), [len(text) for text in ids], pooling)


def logits(model: Any, ids: TokenLists) -> torch.Tensor:
    """Return what a classification head gives: [N, C] for a head on texts, [T, C] for one on tokens."""
    if not is_packed(model):
        ids_NW, mask_NW = _pad(ids, model)
        padded = model(input_ids=ids_NW, attention_mask=mask_NW).logits
        return padded if padded.dim() == 2 else padded[mask_NW.bool()]
    hidden = states(model, ids)
    if isinstance(model, ModernBertForSequenceClassification):
        hidden = pool(hidden, [len(text) for text in ids], model.config.classifier_pooling)
    return model.classifier(model.drop(model.head(hidden)))


def word_logits(model: Any, states_ND: torch.Tensor) -> torch.Tensor:
    """Return a masked-language head's logits [N, V] for the states of N tokens."""
    return model.decoder(model.head(states_ND))


def pool(states_TD: torch.Tensor, lengths: Sequence[int], pooling: Pooling) -> torch.Tensor:
    """Return one vector a text [N, D]: the first token's state, or the mean over all its tokens, [CLS] and [SEP] included."""
    lengths_N = torch.tensor(lengths, device=states_TD.device)
    if pooling == "cls":
        return states_TD[torch.cumsum(lengths_N, 0) - lengths_N]
    return torch.segment_reduce(states_TD, "mean", lengths=lengths_N, axis=0)


def passes(model: Any, lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield the positions of all texts, pass by pass: one pass where they are packed, passes with little padding elsewhere.

    One long text among many short ones must not make each of them as long as itself: a pass takes at most a third more than all
    tokens together, and ends before a text below 0.8 of its longest as soon as it is large enough for fast products.
    Example: lengths 100, 10, 10, 10 leave room for 173 tokens in a pass, so the passes are 100 and 10 + 10 + 10 (30 tokens)
    instead of four times 100.
    """
    if is_packed(model):
        if lengths:
            yield list(range(len(lengths)))
        return
    longest_first = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    room = sum(lengths) * 4 // 3
    while longest_first:
        width = lengths[longest_first[0]]
        most = max(room // width, 1)
        count = min(-(-_FAST_TOKENS // width), most)
        while count < min(most, len(longest_first)) and lengths[longest_first[count]] >= 0.8 * width:
            count += 1
        yield longest_first[:count]
        longest_first = longest_first[count:]


def is_packed(model: Any) -> bool:
    """Return whether the model reads packed rows: a ModernBERT does, with a head or without."""
    packed: bool = model.config.model_type == "modernbert"
    return packed


def _pack(ids: TokenLists, device: torch.device) -> tuple[torch.Tensor, SegmentLayout]:
    """Return all ids back to back [T], and where each text is."""
    flat_T = torch.from_numpy(np.concatenate([np.asarray(text, dtype=np.int64) for text in ids])).to(device)
    return flat_T, SegmentLayout.build([len(text) for text in ids], device=device)


def _pad(ids: TokenLists, model: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids [N, W] and a mask that is 1 at tokens and 0 at padding."""
    width = max(len(text) for text in ids)
    ids_NW = torch.full((len(ids), width), int(model.config.pad_token_id or 0))
    mask_NW = torch.zeros((len(ids), width), dtype=torch.long)
    for row, text in enumerate(ids):
        ids_NW[row, : len(text)] = torch.tensor(text)
        mask_NW[row, : len(text)] = 1
    return ids_NW.to(model.device), mask_NW.to(model.device)
