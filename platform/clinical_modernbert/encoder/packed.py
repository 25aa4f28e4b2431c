"""A packed batch through a ModernBERT: hidden states, and loss and ranks of predicted tokens only.

Predicted are masked tokens, each at its own place, or under a causal layout next tokens, each at the place before it.

Legend: T tokens of the batch, N predicted tokens, D hidden width, V vocabulary.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from transformers import ModernBertForMaskedLM, ModernBertModel

from clinical_modernbert.encoder.cross_entropy import CHUNK_TOKENS, decoded_cross_entropy
from clinical_modernbert.encoder.layers import run_layers
from clinical_modernbert.encoder.segments import SegmentLayout


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """Segments back to back, with the tokens to predict."""

    input_ids_T: torch.Tensor
    layout: SegmentLayout
    masked_N: torch.Tensor
    """Positions at which a token is predicted."""
    labels_N: torch.Tensor
    """The ids that are right there."""


@dataclass(frozen=True, slots=True)
class MaskedScores:
    """How a model ranks the right ids of the predicted tokens of one batch."""

    losses_N: torch.Tensor
    """Cross-entropy in nats, float32."""
    ranks_N: torch.Tensor
    """Number of ids with a higher score than the right one; 0 is a top-1 hit."""


def encode_packed(model: ModernBertModel, input_ids_T: torch.Tensor, layout: SegmentLayout) -> torch.Tensor:
    """Return hidden states [T, D] after the final norm; segments do not see each other."""
    hidden_TD = run_layers(model, _embed(model, input_ids_T, layout), layout)
    return hidden_TD if layout.in_order else hidden_TD.index_select(0, layout.place_T)


def encode_first(model: ModernBertModel, input_ids_T: torch.Tensor, layout: SegmentLayout) -> torch.Tensor:
    """Return the state of each segment's first token, [CLS]: [S, D]. The last layer computes no other token."""
    hidden_SD = run_layers(model, _embed(model, input_ids_T, layout), layout, first_only=True)
    return hidden_SD if layout.in_order else hidden_SD[layout.segment_of_S.argsort()]


def _embed(
    model: ModernBertModel, input_ids_T: torch.Tensor, layout: SegmentLayout, *, sparse_gradient: bool = False
) -> torch.Tensor:
    """Return token embeddings [T, D] in the layout's order: tokens are sorted once here, not in every layer."""
    if not layout.in_order:
        input_ids_T = input_ids_T[layout.order_T]
    table = model.embeddings.tok_embeddings
    embedded_TD = F.embedding(input_ids_T, table.weight, padding_idx=table.padding_idx, sparse=sparse_gradient)
    return model.embeddings(inputs_embeds=embedded_TD)


def _masked_states(model: ModernBertForMaskedLM, batch: PackedBatch) -> torch.Tensor:
    """Return the decoder's input [N, D] at the predicted positions: the other tokens skip last layer and head."""
    # A tied decoder gives the table a dense gradient: add T rows to it instead of a second V x D tensor.
    tied = model.decoder.weight is model.model.embeddings.tok_embeddings.weight
    hidden_TD = _embed(model.model, batch.input_ids_T, batch.layout, sparse_gradient=tied)
    return model.head(
        run_layers(model.model, hidden_TD, batch.layout, requested_N=batch.layout.place_T[batch.masked_N])
    )


def masked_loss_sum(model: ModernBertForMaskedLM, batch: PackedBatch) -> torch.Tensor:
    """Return the cross-entropy summed over the predicted tokens, in nats and float32, without the whole N x V matrix."""
    return decoded_cross_entropy(_masked_states(model, batch), model.decoder, batch.labels_N)


@torch.inference_mode()
def score_masked(model: ModernBertForMaskedLM, batch: PackedBatch) -> MaskedScores:
    """Return losses and ranks of the right ids.

    The decoder multiplies in float32 even under autocast: bfloat16 logits tie often, and a tie counts against the model.
    """
    states_ND = _masked_states(model, batch).to(model.decoder.weight.dtype)
    ranks, losses = [], []
    for states_CD, labels_C in zip(states_ND.split(CHUNK_TOKENS), batch.labels_N.split(CHUNK_TOKENS), strict=True):
        with torch.autocast(states_CD.device.type, enabled=False):
            logits_CV = model.decoder(states_CD).float()
        label_C1 = logits_CV.gather(1, labels_C[:, None])
        # Count ties against the model, except the label itself: a constant output must not score a hit.
        ranks.append((logits_CV >= label_C1).sum(1) - 1)
        losses.append(F.cross_entropy(logits_CV, labels_C, reduction="none"))
    return MaskedScores(losses_N=torch.cat(losses), ranks_N=torch.cat(ranks))
