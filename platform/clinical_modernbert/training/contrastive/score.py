"""Held-out figures while training: each anchor has to find its positive among those of all scored pairs.

Legend: N pairs.
"""

from collections.abc import Sequence

import torch

from clinical_modernbert.training.contrastive.batches import PairBatch
from clinical_modernbert.training.contrastive.loss import contrastive_loss, cosines
from clinical_modernbert.training.contrastive.text_model import TextModel

_PASS_TEXTS = 256


def score_pairs(encoder: TextModel, pairs: PairBatch, *, temperature: float) -> dict[str, float]:
    """Return ``pair_loss`` in nats and ``pair_recall1``: the share of anchors whose nearest positive is their own."""
    anchors_ND, positives_ND = (_vectors(encoder, texts) for texts in (pairs.anchors, pairs.positives))
    none_NN = torch.zeros(len(pairs), len(pairs), dtype=torch.bool, device=anchors_ND.device)
    loss = contrastive_loss(anchors_ND, positives_ND, excluded_NN=none_NN, temperature=temperature)
    cosine_NN = cosines(anchors_ND, positives_ND)
    own_N = torch.arange(len(pairs), device=cosine_NN.device)
    return {"pair_loss": float(loss), "pair_recall1": float((cosine_NN.argmax(1) == own_N).float().mean())}


def _vectors(encoder: TextModel, texts: Sequence[str]) -> torch.Tensor:
    listed = list(texts)
    parts = [listed[start : start + _PASS_TEXTS] for start in range(0, len(listed), _PASS_TEXTS)]
    return torch.cat([encoder.vectors(encoder.token_ids(part)) for part in parts])
