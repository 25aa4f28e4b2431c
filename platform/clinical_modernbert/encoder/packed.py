"""A packed batch through a ModernBERT: hidden states, masked-only decoding with loss and ranks.

Legend: T tokens of the batch, N masked tokens, D hidden width, V vocabulary.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from transformers import ModernBertForMaskedLM, ModernBertModel

from clinical_modernbert.encoder.attention import SegmentLayout
from clinical_modernbert.encoder.cross_entropy import CHUNK_TOKENS, decoded_cross_entropy


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
    """How a model ranks what stood at the masked tokens of one batch."""

    losses_N: torch.Tensor
    """Cross-entropy in nats, float32."""
    ranks_N: torch.Tensor
    """Tokens that the model holds more likely than the right one; 0 is a top-1 hit."""


def encode_packed(model: ModernBertModel, input_ids_T: torch.Tensor, layout: SegmentLayout) -> torch.Tensor:
    """Return hidden states [T, D] after the final norm; segments do not see each other."""
    hidden_TD = _encode_in_layout_order(model, input_ids_T, layout)
    return hidden_TD if layout.in_order else hidden_TD.index_select(0, layout.place_T)


def _encode_in_layout_order(model: ModernBertModel, input_ids_T: torch.Tensor, layout: SegmentLayout) -> torch.Tensor:
    """Return hidden states [T, D] with token t at ``layout.place_T[t]``: sorted once here, not in every layer."""
    # A dict skips transformers' mask building; None in it says that the attention function isolates segments itself.
    masks = {"full_attention": None, "sliding_attention": None}
    positions_1T = layout.position_ids_1T
    if not layout.in_order:
        input_ids_T, positions_1T = input_ids_T[layout.order_T], positions_1T[:, layout.order_T]
    output = model(input_ids=input_ids_T[None], position_ids=positions_1T, attention_mask=masks, layout=layout)
    return output.last_hidden_state[0]


def _masked_states(model: ModernBertForMaskedLM, batch: PackedBatch) -> torch.Tensor:
    """Return the decoder's input [N, D] at the masked positions: the head never runs on the other 70 to 85 %."""
    hidden_TD = _encode_in_layout_order(model.model, batch.input_ids_T, batch.layout)
    return model.head(hidden_TD.index_select(0, batch.layout.place_T[batch.masked_N]))


def masked_logits(model: ModernBertForMaskedLM, batch: PackedBatch) -> torch.Tensor:
    """Return logits [N, V] at the masked positions only."""
    return model.decoder(_masked_states(model, batch))


def masked_loss_sum(model: ModernBertForMaskedLM, batch: PackedBatch) -> torch.Tensor:
    """Return the summed cross-entropy over the masked tokens, in nats and float32; no N x V matrix is ever whole."""
    return decoded_cross_entropy(_masked_states(model, batch), model.decoder, batch.labels_N)


@torch.inference_mode()
def score_masked(model: ModernBertForMaskedLM, batch: PackedBatch) -> MaskedScores:
    """Return losses and ranks of the right tokens under a frozen mask."""
    states_ND = _masked_states(model, batch)
    ranks, losses = [], []
    for states_CD, labels_C in zip(states_ND.split(CHUNK_TOKENS), batch.labels_N.split(CHUNK_TOKENS), strict=True):
        logits_CV = model.decoder(states_CD).float()
        right_C1 = logits_CV.gather(1, labels_C[:, None])
        # Ties count against the model, the label itself aside: a constant output must not score a hit.
        ranks.append((logits_CV >= right_C1).sum(1) - 1)
        losses.append(F.cross_entropy(logits_CV, labels_C, reduction="none"))
    return MaskedScores(losses_N=torch.cat(losses), ranks_N=torch.cat(ranks))
