"""Held-out figures while training: each anchor has to find its positive among those of all scored pairs.

Legend: N pairs.
"""

from collections.abc import Sequence

import torch
from torch.nn.functional import normalize

from clinical_modernbert.training.contrastive.batches import PairBatch
from clinical_modernbert.training.contrastive.loss import contrastive_loss
from clinical_modernbert.training.contrastive.step import PairModel

_PASS_TEXTS = 256


def score_pairs(context: PairModel, pairs: PairBatch) -> dict[str, float]:
    """Return ``pair_loss`` in nats and ``pair_recall1``: the share of anchors whose nearest positive is their own."""
    anchors_ND, positives_ND = (_vectors(context, texts) for texts in (pairs.anchors, pairs.positives))
    none_NN = torch.zeros(len(pairs), len(pairs), dtype=torch.bool, device=anchors_ND.device)
    loss = contrastive_loss(
        anchors_ND, positives_ND, excluded_NN=none_NN, temperature=context.recipe.training.temperature
    )
    cosine_NN = normalize(anchors_ND, dim=1) @ normalize(positives_ND, dim=1).T
    own_N = torch.arange(len(pairs), device=cosine_NN.device)
    return {"pair_loss": float(loss), "pair_recall1": float((cosine_NN.argmax(1) == own_N).float().mean())}


def _vectors(context: PairModel, texts: Sequence[str]) -> torch.Tensor:
    listed = list(texts)
    parts = [listed[start : start + _PASS_TEXTS] for start in range(0, len(listed), _PASS_TEXTS)]
    return torch.cat([context.vectors(context.token_ids(part)) for part in parts])
