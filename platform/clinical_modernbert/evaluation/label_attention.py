"""A head for thousands of labels: each label attends to the tokens of the whole document by itself.

For label l, with token states h_t:  a_t = softmax_t(u_l . tanh(W h_t)),  logit_l = v_l . sum_t a_t h_t + b_l
The form is that of LAAT (Vu et al., 2020) and PLM-ICD (Huang et al., 2022), after CAML (Mullenbach et al., 2018). A document
longer than the encoder's limit is read in windows; attention is over the tokens of all of them.

Legend: N documents, T tokens of all of them, K tokens of one, L labels, D width.
"""

from collections.abc import Sequence
from typing import Any

import torch

from clinical_modernbert.encoder.forward import states
from clinical_modernbert.encoder.windows import windows

WEIGHTS_FILE = "label_attention.safetensors"
"""The head's weights, next to those of the encoder."""


class LabelAttention(torch.nn.Module):
    """The head alone."""

    def __init__(self, width: int, num_labels: int) -> None:
        super().__init__()
        self.projection = torch.nn.Linear(width, width, bias=False)
        self.queries = torch.nn.Linear(width, num_labels, bias=False)
        self.output = torch.nn.Linear(width, num_labels)

    def forward(self, states_TD: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
        """Return logits [N, L] of documents with ``lengths`` tokens, whose states are back to back."""
        states_TD = states_TD.float()
        attention_TL = self.queries(torch.tanh(self.projection(states_TD)))
        rows = []
        for states_KD, attention_KL in zip(
            states_TD.split(list(lengths)), attention_TL.split(list(lengths)), strict=True
        ):
            read_LD = attention_KL.softmax(dim=0).T @ states_KD
            rows.append((read_LD * self.output.weight).sum(dim=1) + self.output.bias)
        return torch.stack(rows)


class LabelAttentionModel(torch.nn.Module):
    """An encoder with this head."""

    def __init__(self, base: Any, num_labels: int, *, max_tokens: int, seed: int) -> None:
        super().__init__()
        self.base = base
        self.max_tokens = max_tokens
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.attention = LabelAttention(int(base.config.hidden_size), num_labels).to(base.device)

    def logits(self, documents: Sequence[Sequence[int]]) -> torch.Tensor:
        """Return logits [N, L] for the ids of whole documents, [CLS] and [SEP] included."""
        parts = [windows(ids, self.max_tokens) for ids in documents]
        states_TD = states(self.base, [window for of_document in parts for window in of_document])
        return self.attention(states_TD, [sum(map(len, of_document)) for of_document in parts])
