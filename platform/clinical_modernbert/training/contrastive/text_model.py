"""An encoder with what turns texts into vectors: the trained one, and a teacher.

Legend: D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from clinical_modernbert.encoder import Precision, products_in
from clinical_modernbert.encoder.forward import passes, vectors
from clinical_modernbert.recipe.vocabulary import Pooling


@dataclass(frozen=True, slots=True)
class TextModel:
    """A model on this worker's device."""

    model: Any
    tokenizer: Any
    pooling: Pooling
    max_tokens: int
    """Longer texts are cut."""
    precision: Precision
    device: torch.device
    prompt: str = ""
    """Text before each text."""

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text with [CLS] and [SEP], cut to the limit."""
        prompted = [self.prompt + text for text in texts]
        found: list[list[int]] = self.tokenizer(prompted, truncation=True, max_length=self.max_tokens, padding=False)[
            "input_ids"
        ]
        return found

    def vectors(self, ids: Sequence[Sequence[int]]) -> torch.Tensor:
        """Return the vectors of one micro-batch, float32 [len(ids), D], not normalised."""
        found, order = [], []
        with products_in(self.precision, self.device):
            for part in passes(self.model, [len(text) for text in ids]):
                found.append(vectors(self.model, [ids[i] for i in part], pooling=self.pooling))
                order += part
        back = torch.empty(len(order), dtype=torch.long)
        back[torch.tensor(order)] = torch.arange(len(order))
        return torch.cat(found).float()[back.to(self.device)]
