"""Causal layouts: a packed row gives what each segment gives alone under transformers' eager attention with causal masks."""

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from clinical_modernbert.encoder import (
    FLASH_VARLEN,
    TORCH_VARLEN,
    PackedBatch,
    SegmentLayout,
    encode_packed,
    masked_loss_sum,
)
from clinical_modernbert.encoder.attention import REGISTERED_AS
from transformers import ModernBertForMaskedLM

from tests.helpers.flash import install_flash
from tests.helpers.tiny_encoder import random_ids

WINDOW = 64
# Short segments, those around the window, and those that local layers read in blocks.
EDGES = [1, 2, 17, 63, 64, 65, 66, 129, 191, 192, 193, 257, 513]


@pytest.fixture(scope="module")
def model(make_model: Callable[..., ModernBertForMaskedLM]) -> ModernBertForMaskedLM:
    """Four layers: global, local, local, global."""
    return make_model()


@pytest.fixture(scope="module")
def reference(model: ModernBertForMaskedLM) -> ModernBertForMaskedLM:
    reference = copy.deepcopy(model)
    reference.set_attn_implementation("eager")
    return reference


def causal_logits(reference: ModernBertForMaskedLM, ids_T: torch.Tensor) -> torch.Tensor:
    """The logits [T, V] of one segment, by transformers' own forward: a mask for each kind of layer."""
    places = torch.arange(len(ids_T))
    behind = places[:, None] - places[None, :]
    seen = {"full_attention": behind >= 0, "sliding_attention": (behind >= 0) & (behind <= WINDOW)}
    masks = {kind: torch.where(mask, 0.0, float("-inf"))[None, None] for kind, mask in seen.items()}
    hidden = reference.model(input_ids=ids_T[None], attention_mask=masks).last_hidden_state
    return reference.decoder(reference.head(hidden))[0]


def causal_batch(ids_T: torch.Tensor, lengths: list[int]) -> PackedBatch:
    starts = [sum(lengths[:n]) for n in range(len(lengths))]
    place_N = torch.tensor([s + i for s, length in zip(starts, lengths, strict=True) for i in range(length - 1)])
    return PackedBatch(ids_T, SegmentLayout.build(lengths, causal=True), masked_N=place_N, labels_N=ids_T[place_N + 1])


@pytest.mark.parametrize("lengths", [EDGES, EDGES[::-1]], ids=["in order", "sorted"])
def test_a_packed_row_equals_transformers_one_segment_at_a_time(
    model: ModernBertForMaskedLM, reference: ModernBertForMaskedLM, lengths: list[int]
) -> None:
    ids_T = random_ids(lengths)
    with torch.no_grad():
        hidden_TD = encode_packed(model.model, ids_T, SegmentLayout.build(lengths, causal=True))
        found = model.decoder(model.head(hidden_TD))
        expected = torch.cat([causal_logits(reference, ids) for ids in ids_T.split(lengths)])
    assert float((found - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


def test_loss_and_gradients_of_next_tokens_equal_transformers(
    model: ModernBertForMaskedLM, reference: ModernBertForMaskedLM
) -> None:
    lengths = [66, 3, 200, 17]
    ids_T = random_ids(lengths)
    mine, theirs = copy.deepcopy(model), copy.deepcopy(reference)
    found = masked_loss_sum(mine, causal_batch(ids_T, lengths))
    found.backward()
    losses = [
        F.cross_entropy(causal_logits(theirs, ids)[:-1], ids[1:], reduction="sum") for ids in ids_T.split(lengths)
    ]
    expected = torch.stack(losses).sum()
    expected.backward()
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    gradients = dict(theirs.named_parameters())
    for name, parameter in mine.named_parameters():
        gradient = gradients[name].grad
        assert parameter.grad is not None and gradient is not None
        assert float((parameter.grad.to_dense() - gradient).norm()) <= 1e-4 * float(gradient.norm()) + 1e-6, name


@pytest.mark.parametrize("position", [0, 70, 150, 299])
def test_a_changed_token_changes_itself_and_what_follows_in_its_segment(
    model: ModernBertForMaskedLM, position: int
) -> None:
    lengths = [40, 300, 65, 30]
    ids_T, layout = random_ids(lengths), SegmentLayout.build(lengths, causal=True)
    changed_T = ids_T.clone()
    changed_T[40 + position] = 5 if ids_T[40 + position] != 5 else 6
    with torch.no_grad():
        before, after = (encode_packed(model.model, ids, layout) for ids in (ids_T, changed_T))
    # To the bit: what is not seen has weight 0 exactly.
    assert (before != after).any(1).nonzero().flatten().tolist() == list(range(40 + position, 340))


@pytest.mark.parametrize("kernel", [TORCH_VARLEN, FLASH_VARLEN])
def test_a_kernel_is_given_the_causal_contract(
    kernel: str, model: ModernBertForMaskedLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a GPU: a plain implementation of the kernel's contract, which takes half precision only, stands in for it."""
    dtypes = install_flash(monkeypatch)
    flash, lengths = copy.deepcopy(model), [200, 5, 66, 130, 5]
    flash.set_attn_implementation(REGISTERED_AS[kernel])
    ids_T, layout = random_ids(lengths), SegmentLayout.build(lengths, causal=True)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        found, expected = (encode_packed(m.model, ids_T, layout).float() for m in (flash, model))
        other = encode_packed(flash.model, ids_T, SegmentLayout.build(lengths)).float()
    assert dtypes
    near, far = float((found - expected).norm()), float((found - other).norm())
    assert near < 0.3 * far, (near, far)
