"""Texts to vectors: tokenise, pack by a token budget (or pad, where the model is no ModernBERT), encode, pool.

The result does not depend on which texts travelled together. Serving, the code map and bulk jobs all come through here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from clinical_modernbert.encoder.attention import SegmentLayout
from clinical_modernbert.encoder.memory import keep_freed_memory
from clinical_modernbert.encoder.model import load_model
from clinical_modernbert.encoder.packed import encode_first, encode_packed
from clinical_modernbert.encoder.padded import is_packed, max_positions, padded_states
from clinical_modernbert.errors import ModelError

Pooling = Literal["cls", "mean"]
Head = Literal["masked-lm", "sequence", "token", "embedding"]


@dataclass(frozen=True, slots=True)
class Encoder:
    """A loaded model with its tokenizer, ready for inference."""

    model: Any
    """One of transformers' classes, which are untyped here."""
    tokenizer: PreTrainedTokenizerFast
    head: Head = "masked-lm"
    """What stands on the encoder; ``embedding`` is a bare one that was fine-tuned for its vectors."""

    @property
    def hidden_size(self) -> int:
        """Width of a vector."""
        return int(self.model.config.hidden_size)

    @property
    def max_tokens(self) -> int:
        """Longest text in tokens, [CLS] and [SEP] included."""
        return max_positions(self.model)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Return token ids with [CLS] and [SEP], never truncated."""
        if not texts:
            return []
        encoded: list[list[int]] = self.tokenizer(list(texts), truncation=False, padding=False)["input_ids"]
        return encoded

    def embed(
        self, token_ids: Sequence[Sequence[int]], *, pooling: Pooling, normalize: bool, max_batch_tokens: int = 16_384
    ) -> NDArray[np.float32]:
        """Return vectors float32 [N, D] in the order given; texts are packed by length up to ``max_batch_tokens`` a pass.

        ``cls`` is the first token's state, ``mean`` the mean over all tokens of the text, [CLS] and [SEP] included.
        """
        lengths = [len(ids) for ids in token_ids]
        if lengths and (min(lengths) < 1 or max(lengths) > self.max_tokens):
            raise ModelError(f"texts must have 1 to {self.max_tokens} tokens, got {min(lengths)} to {max(lengths)}")
        vectors = np.empty((len(lengths), self.hidden_size), dtype=np.float32)
        for members in parts_by_tokens(longest_first(lengths), lengths, max_batch_tokens=max_batch_tokens):
            vectors[members] = self._embed_batch([token_ids[i] for i in members], pooling=pooling)
        if normalize:
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors

    @torch.inference_mode()
    def _embed_batch(self, token_ids: list[Sequence[int]], *, pooling: Pooling) -> NDArray[np.float32]:
        if not is_packed(self.model):
            vectors = [pool(states_TD, pooling) for states_TD in padded_states(self.model, token_ids)]
            return np.asarray(torch.stack(vectors).float().cpu().numpy(), dtype=np.float32)
        lengths = [len(ids) for ids in token_ids]
        device = self.model.device
        flat = torch.from_numpy(np.concatenate([np.asarray(ids, dtype=np.int64) for ids in token_ids])).to(device)
        layout = SegmentLayout.build(lengths, device=device)
        if pooling == "cls":
            pooled = encode_first(self.model.base_model, flat, layout).float()
        else:
            hidden_TD = encode_packed(self.model.base_model, flat, layout).float()
            pooled = torch.segment_reduce(hidden_TD, "mean", lengths=torch.tensor(lengths, device=device), axis=0)
        return np.asarray(pooled.cpu().numpy(), dtype=np.float32)


def pool(states_TD: torch.Tensor, pooling: str) -> torch.Tensor:
    """Return the vector [D] of one text: the first token's state, or the mean over all tokens."""
    return states_TD[0] if pooling == "cls" else states_TD.mean(0)


def load_encoder(folder: str | Path) -> Encoder:
    """Load model and tokenizer from a folder that pretraining exported (safetensors and JSON; nothing is unpickled)."""
    keep_freed_memory()
    return Encoder(model=load_model(folder).eval(), tokenizer=load_tokenizer(folder))


def load_tokenizer(folder: str | Path) -> PreTrainedTokenizerFast:
    """Load a fast tokenizer with [CLS]- and [SEP]-like tokens; ``ModelError`` for one that gives no character offsets."""
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    if not tokenizer.is_fast or tokenizer.cls_token_id is None or tokenizer.sep_token_id is None:
        raise ModelError(f"{folder} needs a fast tokenizer (tokenizer.json) with CLS and SEP tokens")
    return tokenizer


def longest_first(lengths: Sequence[int]) -> list[int]:
    """Return the positions of the texts by falling length; equal ones in the order given."""
    return sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))


def parts_by_tokens(members: Sequence[int], lengths: Sequence[int], *, max_batch_tokens: int) -> Iterator[list[int]]:
    """Yield the members in forward passes of at most so many tokens; a longer one is a pass of its own."""
    part: list[int] = []
    used = 0
    for member in members:
        if part and used + lengths[member] > max_batch_tokens:
            yield part
            part, used = [], 0
        part.append(member)
        used += lengths[member]
    if part:
        yield part
