"""Texts to vectors: tokenise, divide into passes by a token budget, run, pool.

A vector does not depend on which texts share its pass.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from clinical_modernbert.encoder import forward, limits
from clinical_modernbert.errors import ModelError
from clinical_modernbert.recipe.vocabulary import HeadKind, Pooling, Precision


@dataclass(frozen=True, slots=True)
class Agreement:
    """How vectors in bfloat16 agree with those in float32."""

    num_texts: int
    lowest_cosine: float
    """Over the texts, between a text's two vectors."""
    overlap_at_10: float
    """Share of a text's ten nearest neighbours that are the same, mean over the texts."""


@dataclass(frozen=True, slots=True)
class Encoder:
    """A loaded model with its tokenizer, ready for inference."""

    model: Any
    """One of transformers' classes, which are untyped here."""
    tokenizer: PreTrainedTokenizerFast
    head: HeadKind = "masked-lm"
    """The model's head; ``embedding`` is an encoder without one that was fine-tuned for its vectors."""
    precision: Precision = "float32"
    """Arithmetic of the encoder's layers."""
    agreement: Agreement | None = None
    """How its vectors agree with those in float32, where ``precision`` is bfloat16."""

    @property
    def hidden_size(self) -> int:
        """Width of a vector."""
        return int(self.model.config.hidden_size)

    @property
    def max_tokens(self) -> int:
        """Longest text in tokens, [CLS] and [SEP] included."""
        return limits.max_tokens(self.model)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Return token ids with [CLS] and [SEP], never truncated."""
        if not texts:
            return []
        encoded: list[list[int]] = self.tokenizer(list(texts), truncation=False, padding=False)["input_ids"]
        return encoded

    def embed(
        self, token_ids: Sequence[Sequence[int]], *, pooling: Pooling, normalize: bool, max_batch_tokens: int = 16_384
    ) -> NDArray[np.float32]:
        """Return vectors float32 [N, D] in the order given, scaled to unit length with ``normalize``."""
        vectors_ND = embed_ids(self.model, token_ids, pooling=pooling, max_batch_tokens=max_batch_tokens)
        if normalize:
            vectors_ND /= np.maximum(np.linalg.norm(vectors_ND, axis=1, keepdims=True), 1e-12)
        return vectors_ND


@torch.inference_mode()
def embed_ids(
    model: Any, token_ids: Sequence[Sequence[int]], *, pooling: Pooling, max_batch_tokens: int
) -> NDArray[np.float32]:
    """Return one vector a text, float32 [N, D] in the order given; a pass has at most ``max_batch_tokens`` tokens.

    Raises ``ModelError`` for a text without tokens or longer than the model reads.
    """
    lengths, limit = [len(ids) for ids in token_ids], limits.max_tokens(model)
    if lengths and (min(lengths) < 1 or max(lengths) > limit):
        raise ModelError(f"texts must have 1 to {limit} tokens, got {min(lengths)} to {max(lengths)}")
    vectors_ND = np.empty((len(lengths), model.config.hidden_size), dtype=np.float32)
    for batch in batches_by_tokens(longest_first(lengths), lengths, max_batch_tokens=max_batch_tokens):
        for positions in forward.passes(model, [lengths[i] for i in batch]):
            members = [batch[position] for position in positions]
            found = forward.vectors(model, [token_ids[i] for i in members], pooling=pooling)
            vectors_ND[members] = found.cpu().numpy()
    return vectors_ND


def longest_first(lengths: Sequence[int]) -> list[int]:
    """Return the positions of the texts, longest first; equal lengths keep their order."""
    return sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))


def batches_by_tokens(members: Sequence[int], lengths: Sequence[int], *, max_batch_tokens: int) -> Iterator[list[int]]:
    """Yield the members in batches of at most ``max_batch_tokens`` tokens; a longer text is a batch of its own."""
    batch: list[int] = []
    used = 0
    for member in members:
        if batch and used + lengths[member] > max_batch_tokens:
            yield batch
            batch, used = [], 0
        batch.append(member)
        used += lengths[member]
    if batch:
        yield batch
