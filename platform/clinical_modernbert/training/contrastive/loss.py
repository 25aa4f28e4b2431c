"""The contrastive loss (InfoNCE) of a batch in both directions, without negatives that mean the same, and distillation.

Equal to sentence-transformers' symmetric multiple-negatives ranking loss where nothing is excluded. Pure functions on vectors.

Legend: N pairs of the global batch, M hard negatives of all pairs, D width, L longest lineage.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax, normalize


@dataclass(frozen=True, slots=True)
class HardNegatives:
    """Texts that are negatives of the anchors only."""

    vectors_MD: torch.Tensor
    excluded_NM: torch.Tensor
    """Whether negative m is none of anchor n."""

    def at_width(self, width: int) -> "HardNegatives":
        """Return the beginnings of the vectors."""
        return HardNegatives(self.vectors_MD[:, :width], self.excluded_NM)


def contrastive_loss(
    anchors_ND: torch.Tensor,
    positives_ND: torch.Tensor,
    *,
    excluded_NN: torch.Tensor,
    temperature: float,
    dims: Sequence[int] = (),
    negatives: HardNegatives | None = None,
) -> torch.Tensor:
    """Return the mean loss over pairs, directions and widths, in nats.

    ``excluded_NN[i, j]`` marks that positive j is no negative of anchor i; the diagonal is ignored. ``dims`` are the widths at
    which the vectors' beginnings are scored too. Each anchor has to find its positive among all positives and ``negatives``, each
    positive its anchor among the anchors.
    """
    own_NN = torch.eye(len(anchors_ND), dtype=torch.bool, device=anchors_ND.device)
    hidden_NN = excluded_NN & ~own_NN
    losses = [
        _at_width(
            anchors_ND[:, :width],
            positives_ND[:, :width],
            hidden_NN,
            temperature,
            negatives and negatives.at_width(width),
        )
        for width in (anchors_ND.shape[1], *dims)
    ]
    return torch.stack(losses).mean()


def _at_width(
    anchors_ND: torch.Tensor,
    positives_ND: torch.Tensor,
    hidden_NN: torch.Tensor,
    temperature: float,
    negatives: HardNegatives | None,
) -> torch.Tensor:
    logits_NN = _logits(anchors_ND, positives_ND, hidden_NN, temperature)
    rows = logits_NN
    if negatives:
        hard_NM = _logits(anchors_ND, negatives.vectors_MD, negatives.excluded_NM, temperature)
        rows = torch.cat([logits_NN, hard_NM], dim=1)
    labels_N = torch.arange(len(logits_NN), device=logits_NN.device)
    return (cross_entropy(rows, labels_N) + cross_entropy(logits_NN.T, labels_N)) / 2


def _logits(one: torch.Tensor, other: torch.Tensor, hidden: torch.Tensor, temperature: float) -> torch.Tensor:
    return (cosines(one, other) / temperature).masked_fill(hidden, float("-inf"))


def distillation_loss(
    anchors_ND: torch.Tensor,
    positives_ND: torch.Tensor,
    *,
    teacher_NN: torch.Tensor,
    temperature: float,
    teacher_temperature: float,
    dims: Sequence[int] = (),
) -> torch.Tensor:
    """Return how far the batch's similarities are from the teacher's: KL divergence, mean over texts, directions and widths.

    ``teacher_NN`` are the teacher's cosines of anchors and positives. Each anchor's cosines over their temperature become a
    distribution over the positives, and each positive's one over the anchors. This is the loss of sentence-transformers'
    ``DistillKLDivLoss`` over all texts of the batch, without its factor temperature squared, and has the gradient of open_clip's
    ``DistillClipLoss``. Nothing is excluded: the teacher says what texts of one meaning have in common.
    """
    target_NN = teacher_NN / teacher_temperature
    losses = []
    for width in (anchors_ND.shape[1], *dims):
        logits_NN = cosines(anchors_ND[:, :width], positives_ND[:, :width]) / temperature
        losses += [_divergence(logits_NN, target_NN), _divergence(logits_NN.T, target_NN.T)]
    return torch.stack(losses).mean()


def cosines(anchors_ND: torch.Tensor, positives_ND: torch.Tensor) -> torch.Tensor:
    """Return the cosine of each anchor and each positive, [N, N]."""
    return normalize(anchors_ND, dim=1) @ normalize(positives_ND, dim=1).T


def _divergence(logits_NN: torch.Tensor, target_NN: torch.Tensor) -> torch.Tensor:
    return kl_div(log_softmax(logits_NN, dim=1), log_softmax(target_NN, dim=1), reduction="batchmean", log_target=True)


def same_meaning(
    anchors_NL: torch.Tensor, positives_NL: torch.Tensor, anchor_texts_N: torch.Tensor, positive_texts_N: torch.Tensor
) -> torch.Tensor:
    """Return bool [N, N]: positive j names the concept of pair i, one above it, has a text of pair i, or belongs to its anchor.

    Rows of ``..._NL`` are the id of the concept and of those above it in its code system, 0 for none; texts are ids too.
    Example: the siblings E11.6 and E11.9 with the positive "type 2 diabetes" (E11): neither one's
    positive is a negative of the other.
    """
    related_NN = _names(torch.cat([anchors_NL, positives_NL], dim=1), positives_NL[:, 0])
    texts_NN = (anchor_texts_N[:, None] == positive_texts_N) | (positive_texts_N[:, None] == positive_texts_N)
    # A query has several documents, a note several diagnoses: none of them is a negative of another's anchor.
    anchors_NN = anchor_texts_N[:, None] == anchor_texts_N
    return related_NN | texts_NN | anchors_NN


def no_negatives(
    anchors_NL: torch.Tensor,
    positives_NL: torch.Tensor,
    anchor_texts_N: torch.Tensor,
    positive_texts_N: torch.Tensor,
    *,
    concepts_M: torch.Tensor,
    texts_M: torch.Tensor,
) -> torch.Tensor:
    """Return bool [N, M]: hard negative m names the concept of pair n, one above it, has a text of it, or is missing (id 0)."""
    related_NM = _names(torch.cat([anchors_NL, positives_NL], dim=1), concepts_M)
    texts_NM = (anchor_texts_N[:, None] == texts_M) | (positive_texts_N[:, None] == texts_M)
    return related_NM | texts_NM | (texts_M == 0)


def _names(lineages_NK: torch.Tensor, concepts_M: torch.Tensor) -> torch.Tensor:
    """Return bool [N, M]: whether lineage n has concept m. Memory is that of N x M and N x K, not of N x K x M."""
    known_U, columns_M = torch.unique(concepts_M, return_inverse=True)
    places_NK = torch.searchsorted(known_U, lineages_NK).clamp(max=len(known_U) - 1)
    rows, at = torch.nonzero(known_U[places_NK] == lineages_NK, as_tuple=True)
    found_NU = torch.zeros(len(lineages_NK), len(known_U), dtype=torch.bool, device=lineages_NK.device)
    found_NU[rows, places_NK[rows, at]] = True
    return found_NU[:, columns_M]
