"""Texts to vectors: tokenise, pack by a token budget, encode, pool.

The result does not depend on which texts travelled together. Serving, the code map and bulk jobs all come through here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoTokenizer, ModernBertForMaskedLM, PreTrainedTokenizerFast

from clinical_modernbert.encoder.attention import SegmentLayout
from clinical_modernbert.encoder.memory import keep_freed_memory
from clinical_modernbert.encoder.model import load_model
from clinical_modernbert.encoder.packed import encode_first, encode_packed
from clinical_modernbert.errors import ModelError

Pooling = Literal["cls", "mean"]


@dataclass(frozen=True, slots=True)
class Encoder:
    """A loaded model with its tokenizer, ready for inference."""

    model: ModernBertForMaskedLM
    tokenizer: PreTrainedTokenizerFast

    @property
    def hidden_size(self) -> int:
        """Width of a vector."""
        return int(self.model.config.hidden_size)

    @property
    def max_tokens(self) -> int:
        """Longest text in tokens, [CLS] and [SEP] included."""
        return int(self.model.config.max_position_embeddings)

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
            vectors[members] = self._embed_packed([token_ids[i] for i in members], pooling=pooling)
        if normalize:
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors

    @torch.inference_mode()
    def _embed_packed(self, token_ids: list[Sequence[int]], *, pooling: Pooling) -> NDArray[np.float32]:
        lengths = [len(ids) for ids in token_ids]
        device = self.model.device
        flat = torch.from_numpy(np.concatenate([np.asarray(ids, dtype=np.int64) for ids in token_ids])).to(device)
        layout = SegmentLayout.build(lengths, device=device)
        if pooling == "cls":
            pooled = encode_first(self.model.model, flat, layout).float()
        else:
            hidden_TD = encode_packed(self.model.model, flat, layout).float()
            pooled = torch.segment_reduce(hidden_TD, "mean", lengths=torch.tensor(lengths, device=device), axis=0)
        return np.asarray(pooled.cpu().numpy(), dtype=np.float32)


def load_encoder(folder: str | Path) -> Encoder:
    """Load model and tokenizer from a folder that training exported (safetensors and JSON; nothing is unpickled)."""
    keep_freed_memory()
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    return Encoder(model=load_model(folder).eval(), tokenizer=tokenizer)


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
