"""Masked-only decoding: the head runs on masked positions and gives what it would give on all of them."""

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from clinical_modernbert.encoder import PackedBatch, SegmentLayout, masked_loss_sum, score_masked
from transformers import ModernBertForMaskedLM

LENGTHS = [20, 70, 33]


@pytest.fixture(scope="module")
def model(make_model: Callable[..., ModernBertForMaskedLM]) -> ModernBertForMaskedLM:
    return make_model()


@pytest.fixture
def batch() -> PackedBatch:
    generator = torch.Generator().manual_seed(0)
    ids_T = torch.randint(5, 500, (sum(LENGTHS),), generator=generator)
    masked_N = torch.randperm(sum(LENGTHS), generator=generator)[:25].sort().values
    labels_N = ids_T[masked_N].clone()
    ids_T[masked_N] = 4
    return PackedBatch(input_ids_T=ids_T, layout=SegmentLayout.build(LENGTHS), masked_N=masked_N, labels_N=labels_N)


def _full_logits(model: ModernBertForMaskedLM, batch: PackedBatch) -> torch.Tensor:
    reference = copy.deepcopy(model)
    reference.set_attn_implementation("eager")
    return torch.cat([reference(input_ids=ids[None]).logits[0] for ids in batch.input_ids_T.split(LENGTHS)])


@torch.no_grad()
def test_loss_and_ranks_equal_those_of_the_full_head_on_each_text_alone(
    model: ModernBertForMaskedLM, batch: PackedBatch
) -> None:
    full_NV = _full_logits(model, batch)[batch.masked_N]
    expected = F.cross_entropy(full_NV, batch.labels_N, reduction="sum")
    torch.testing.assert_close(masked_loss_sum(model, batch), expected, atol=1e-4, rtol=1e-5)
    scores = score_masked(model, batch)
    each_N = F.cross_entropy(full_NV, batch.labels_N, reduction="none")
    torch.testing.assert_close(scores.losses_N, each_N, atol=1e-5, rtol=1e-5)
    order_NV = full_NV.argsort(1, descending=True)
    assert scores.ranks_N.tolist() == (order_NV == batch.labels_N[:, None]).nonzero()[:, 1].tolist()


def _with_logits(model: ModernBertForMaskedLM, logits_V: torch.Tensor) -> ModernBertForMaskedLM:
    fixed = copy.deepcopy(model)
    with torch.no_grad():
        fixed.decoder.weight.zero_()
        fixed.decoder.bias.copy_(logits_V)
    return fixed


def test_a_constant_output_scores_no_hit(model: ModernBertForMaskedLM, batch: PackedBatch) -> None:
    scores = score_masked(_with_logits(model, torch.zeros(512)), batch)
    assert scores.ranks_N.tolist() == [511] * 25


def test_ranks_count_the_better_and_the_equal_ones(model: ModernBertForMaskedLM, batch: PackedBatch) -> None:
    label = int(batch.labels_N[0])
    logits_V = torch.full((512,), -1.0)
    others = [i for i in range(512) if i != label]
    logits_V[others[:3]], logits_V[others[3:5]], logits_V[label] = 2.0, 1.0, 1.0
    one = PackedBatch(
        input_ids_T=batch.input_ids_T,
        layout=batch.layout,
        masked_N=batch.masked_N[:1],
        labels_N=batch.labels_N[:1],
    )
    assert score_masked(_with_logits(model, logits_V), one).ranks_N.tolist() == [5]
    logits_V[label] = 3.0
    assert score_masked(_with_logits(model, logits_V), one).ranks_N.tolist() == [0]
