"""Encoders with a head for a task, behind one seam: packed rows for ModernBERT, padded batches for any other architecture.

ModernBERT attends inside packed segments at any length up to its limit; others run as transformers has them. Both give the same
logits for the same weights, and both are saved as transformers' own classes, so that the endpoint can serve them.

Legend: N texts, T tokens of all texts, C classes, D hidden width.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)
from transformers.utils import logging as transformers_logging

from clinical_modernbert.encoder import PACKED_SDPA, SegmentLayout, encode_packed, use_attention
from clinical_modernbert.encoder.attention import register
from clinical_modernbert.encoder.embed import load_tokenizer
from clinical_modernbert.encoder.padded import is_packed, pad_batch
from clinical_modernbert.errors import ModelError
from clinical_modernbert.evaluation.encoders import LocalEncoder
from clinical_modernbert.training.precision import has_bfloat16

__all__ = [
    "Head",
    "device",
    "hidden_states",
    "load_base",
    "load_head",
    "load_tokenizer",
    "mixed_precision",
    "pooled",
    "sequence_logits",
    "token_logits",
]

Head = Literal["sequence_classification", "token_classification"]

_CLASSES: dict[str, Any] = {
    "sequence_classification": AutoModelForSequenceClassification,
    "token_classification": AutoModelForTokenClassification,
}
# What a new head may lack and a pretraining head may leave over; anything else means that weights were not loaded.
_NEW = ("classifier.", "head.", "score.", "pre_classifier.", "pooler.")
_LEFT = ("decoder.", "lm_head.", "cls.", "head.", "pooler.", "vocab_", "bert.embeddings.position_ids")


def load_head(
    encoder: LocalEncoder, head: Head, *, labels: Sequence[str], seed: int, attention: str = PACKED_SDPA
) -> Any:
    """Return the encoder with a fresh head drawn from ``seed``; every weight of the encoder must have been found."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return _load(
            _CLASSES[head],
            encoder,
            attention=attention,
            num_labels=len(labels),
            id2label=dict(enumerate(labels)),
            label2id={label: number for number, label in enumerate(labels)},
        )


def load_base(encoder: LocalEncoder, *, attention: str = PACKED_SDPA) -> Any:
    """Return the encoder without a head."""
    return _load(AutoModel, encoder, attention=attention).eval()


def _load(kind: Any, encoder: LocalEncoder, *, attention: str, **options: Any) -> Any:
    packed = encoder.architecture == "modernbert"
    register()
    try:
        with _quiet():
            model, info = kind.from_pretrained(
                str(encoder.folder),
                dtype=torch.float32,
                use_safetensors=True,
                ignore_mismatched_sizes=True,  # so that they are reported below with the rest
                output_loading_info=True,
                **({"attn_implementation": PACKED_SDPA} if packed else {}),
                **options,
            )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"encoder {encoder.name}: {str(error).splitlines()[0]}") from None
    missing = sorted(key for key in info["missing_keys"] if not key.startswith(_NEW))
    left = sorted(key for key in info["unexpected_keys"] if not key.startswith(_LEFT))
    # The head of a model that was fine-tuned for something else has another shape; the encoder must fit.
    other = sorted(key[0] for key in info["mismatched_keys"] if not key[0].startswith(_NEW))
    if missing or left or other:
        raise ModelError(
            f"encoder {encoder.name} ({encoder.origin}) was not loaded as a whole: {len(missing)} keys missing {missing[:3]}, "
            f"{len(left)} unexpected {left[:3]}, {len(other)} of another shape"
        )
    if packed and attention != PACKED_SDPA:
        model = model.to(device())
        use_attention(model, attention)
    return model.to(device())


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' table of keys for every run: what it warns of is checked here, and an error."""
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)


def device() -> torch.device:
    """The first GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def mixed_precision() -> Any:
    """Arithmetic of runs: bfloat16 products where a GPU multiplies them, float32 everywhere else."""
    on = device()
    return torch.autocast(on.type, dtype=torch.bfloat16, enabled=on.type == "cuda" and has_bfloat16(on))


def hidden_states(base: Any, ids: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return the last hidden states [T, D] of all texts, one behind the other; no text sees another."""
    if is_packed(base):
        flat, layout = _packed(ids, base.device)
        return encode_packed(base, flat, layout)
    return padded_batch_states(base, ids)


def padded_batch_states(base: Any, ids: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return what ``hidden_states`` does from one padded batch, as transformers runs any architecture."""
    padded, mask = pad_batch(base, ids)
    return base(input_ids=padded, attention_mask=mask).last_hidden_state[mask.bool()]


def pooled(hidden_TD: torch.Tensor, lengths: Sequence[int], pooling: str) -> torch.Tensor:
    """Return one vector a text [N, D]: the first token's state, or the mean over all tokens."""
    lengths_N = torch.tensor(lengths, device=hidden_TD.device)
    if pooling == "cls":
        return hidden_TD[torch.cumsum(lengths_N, 0) - lengths_N]
    sums_ND = torch.zeros(len(lengths), hidden_TD.shape[1], device=hidden_TD.device, dtype=hidden_TD.dtype)
    rows_T = torch.repeat_interleave(torch.arange(len(lengths), device=hidden_TD.device), lengths_N)
    return sums_ND.index_add(0, rows_T, hidden_TD) / lengths_N[:, None]


def sequence_logits(model: Any, ids: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return logits [N, C] of texts."""
    with mixed_precision():
        if not is_packed(model):
            padded, mask = pad_batch(model, ids)
            return model(input_ids=padded, attention_mask=mask).logits
        hidden_TD = hidden_states(model.model, ids)
        pooled_ND = pooled(hidden_TD, [len(text) for text in ids], model.config.classifier_pooling)
        return model.classifier(model.drop(model.head(pooled_ND)))


def token_logits(model: Any, ids: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return logits [T, C] of the tokens of all texts, one behind the other."""
    with mixed_precision():
        if not is_packed(model):
            padded, mask = pad_batch(model, ids)
            return model(input_ids=padded, attention_mask=mask).logits[mask.bool()]
        return model.classifier(model.drop(model.head(hidden_states(model.model, ids))))


def _packed(ids: Sequence[Sequence[int]], on: torch.device) -> tuple[torch.Tensor, SegmentLayout]:
    flat = torch.from_numpy(np.concatenate([np.asarray(text, dtype=np.int64) for text in ids])).to(on)
    return flat, SegmentLayout.build([len(text) for text in ids], device=on)
