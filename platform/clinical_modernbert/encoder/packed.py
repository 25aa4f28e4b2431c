"""A packed batch through a ModernBERT: hidden states, masked-only decoding with loss and ranks.

Legend: T tokens of the batch, N masked tokens, D hidden width, V vocabulary.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from transformers import ModernBertForMaskedLM, ModernBertModel

from clinical_modernbert.encoder.attention import SegmentLayout


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """Segments back to back, with what was masked."""

    input_ids_T: torch.Tensor
    layout: SegmentLayout
    masked_N: torch.Tensor
    """Positions whose token is to be predicted."""
    labels_N: torch.Tensor
    """What stood there."""


@dataclass(frozen=True, slots=True)
class MaskedScores:
    """Sums over the masked tokens of one batch; divide by ``num_masked`` over as many batches as you like."""

    loss_sum: torch.Tensor
    ranks_N: torch.Tensor
    """Tokens that the model holds more likely than the right one, for each masked token; 0 is a top-1 hit."""
    num_masked: int


def encode_packed(model: ModernBertModel, input_ids_T: torch.Tensor, layout: SegmentLayout) -> torch.Tensor:
    """Return hidden states [T, D] after the final norm; segments do not see each other."""
    # A dict skips transformers' mask building; None in it says that the attention function isolates segments itself.
    masks = {"full_attention": None, "sliding_attention": None}
    output = model(
        input_ids=input_ids_T[None], position_ids=layout.position_ids_1T, attention_mask=masks, layout=layout
    )
    return output.last_hidden_state[0]


def masked_logits(model: ModernBertForMaskedLM, batch: PackedBatch) -> torch.Tensor:
    """Return logits [N, V] at the masked positions only: the head never runs on the other 70 to 85 %."""
    hidden_TD = encode_packed(model.model, batch.input_ids_T, batch.layout)
    return model.decoder(model.head(hidden_TD.index_select(0, batch.masked_N)))


def masked_loss_sum(model: ModernBertForMaskedLM, batch: PackedBatch) -> torch.Tensor:
    """Return the summed cross-entropy over the masked tokens, in nats and float32."""
    return F.cross_entropy(masked_logits(model, batch).float(), batch.labels_N, reduction="sum")


@torch.inference_mode()
def score_masked(model: ModernBertForMaskedLM, batch: PackedBatch) -> MaskedScores:
    """Return loss and ranks of the right tokens under a frozen mask."""
    logits_NV = masked_logits(model, batch).float()
    right_N1 = logits_NV.gather(1, batch.labels_N[:, None])
    # Ties count against the model, the label itself aside: a constant output must not score a hit.
    ranks_N = (logits_NV >= right_N1).sum(1) - 1
    loss_sum = F.cross_entropy(logits_NV, batch.labels_N, reduction="sum")
    return MaskedScores(loss_sum=loss_sum, ranks_N=ranks_N, num_masked=len(batch.labels_N))
