"""The attention seam: a packed row gives what each of its segments gives alone under transformers' own attention.

Shapes: T tokens of a packed row, D hidden width. The reference is transformers' eager attention, one segment at a time.
"""

import copy
import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from clinical_modernbert.encoder import (
    FLASH_VARLEN,
    PACKED_SDPA,
    TORCH_VARLEN,
    SegmentLayout,
    encode_first,
    encode_packed,
    global_rope_theta,
    set_global_rope_theta,
    use_attention,
)
from clinical_modernbert.encoder.attention import REGISTERED_AS
from clinical_modernbert.encoder.varlen import torch_varlen
from clinical_modernbert.errors import ModelError
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import ModernBertForMaskedLM

from tests.helpers.tiny_encoder import random_ids

WINDOW = 64
KERNELS = (TORCH_VARLEN, FLASH_VARLEN)
EDGES = [1, 2, 15, 16, 17, 63, 64, 65, 66, 127, 128, 129, 130, 191, 192, 193, 257, 300, 513]


def _eager(model: ModernBertForMaskedLM) -> ModernBertForMaskedLM:
    reference = copy.deepcopy(model)
    reference.set_attn_implementation("eager")
    return reference


def _alone(reference: ModernBertForMaskedLM, ids_T: torch.Tensor, lengths: list[int]) -> torch.Tensor:
    parts = [reference.model(input_ids=ids[None]).last_hidden_state[0] for ids in ids_T.split(lengths)]
    return torch.cat(parts)


@torch.no_grad()
def _worst(model: ModernBertForMaskedLM, lengths: list[int]) -> float:
    ids_T = random_ids(lengths)
    packed_TD = encode_packed(model.model, ids_T, SegmentLayout.build(lengths))
    return float((packed_TD - _alone(_eager(model), ids_T, lengths)).abs().max())


@pytest.fixture(scope="module")
def model(make_model: Callable[..., ModernBertForMaskedLM]) -> ModernBertForMaskedLM:
    """Four layers: global, local, local, global."""
    return make_model()


@pytest.fixture(scope="module")
def local_layer(make_model: Callable[..., ModernBertForMaskedLM]) -> ModernBertForMaskedLM:
    """One local layer and nothing else: what a token sees there is what its output depends on."""
    config = copy.deepcopy(make_model().config)
    config.num_hidden_layers, config.layer_types = 1, ["sliding_attention"]
    config._attn_implementation = PACKED_SDPA
    torch.manual_seed(0)
    return ModernBertForMaskedLM(config).eval()


@pytest.mark.parametrize("length", EDGES)
def test_one_segment_equals_transformers(model: ModernBertForMaskedLM, length: int) -> None:
    assert _worst(model, [length]) <= 1e-5


def test_all_edge_lengths_in_one_row_equal_each_alone(model: ModernBertForMaskedLM) -> None:
    assert _worst(model, EDGES) <= 1e-5
    assert _worst(model, EDGES[::-1]) <= 1e-5


def test_the_longest_segment_equals_transformers_beside_short_ones(
    make_model: Callable[..., ModernBertForMaskedLM],
) -> None:
    assert _worst(make_model(num_layers=2, num_heads=1), [66, 8192, 7]) <= 1e-5


@settings(max_examples=12, deadline=None)
@given(lengths=st.lists(st.one_of(st.integers(1, 40), st.integers(60, 200)), min_size=1, max_size=10))
def test_any_packing_equals_each_segment_alone(model: ModernBertForMaskedLM, lengths: list[int]) -> None:
    assert _worst(model, lengths) <= 1e-5


def test_gradients_equal_those_of_each_segment_alone(model: ModernBertForMaskedLM) -> None:
    lengths = [5, 300, 64, 65, 5, 129, 192, 193, 200]
    ids_T = random_ids(lengths)
    target_TD = torch.randn(len(ids_T), 64, generator=torch.Generator().manual_seed(1))
    packed, reference = copy.deepcopy(model), _eager(model)
    ((encode_packed(packed.model, ids_T, SegmentLayout.build(lengths)) * target_TD).sum() / 3e4).backward()
    ((_alone(reference, ids_T, lengths) * target_TD).sum() / 3e4).backward()
    compared = 0
    for (name, mine), theirs in zip(packed.model.named_parameters(), reference.model.parameters(), strict=True):
        assert mine.grad is not None, name
        assert theirs.grad is not None, name
        scale = max(1.0, float(theirs.grad.abs().max()))
        assert float((mine.grad - theirs.grad).abs().max()) <= 1e-5 * scale, name
        compared += bool(theirs.grad.abs().max() > 1e-4)
    assert compared > 10


@pytest.mark.parametrize("position", [0, 63, 64, 65, 128, 150, 299])
def test_a_local_layer_sees_sixty_four_tokens_on_either_side_and_no_more(
    local_layer: ModernBertForMaskedLM, position: int
) -> None:
    length = 300
    ids_T = random_ids([length])
    changed_T = ids_T.clone()
    changed_T[position] = 5 if ids_T[position] != 5 else 6
    expected = set(range(max(0, position - WINDOW), min(length, position + WINDOW + 1)))
    layout, reference = SegmentLayout.build([length]), _eager(local_layer)
    with torch.no_grad():
        before, after = (encode_packed(local_layer.model, ids, layout) for ids in (ids_T, changed_T))
        theirs_before, theirs_after = (_alone(reference, ids, [length]) for ids in (ids_T, changed_T))
    # To the bit: what is not seen has weight 0 exactly.
    assert set((before != after).any(1).nonzero().flatten().tolist()) == expected
    assert set((theirs_before != theirs_after).any(1).nonzero().flatten().tolist()) == expected


def test_a_changed_segment_leaves_all_others_as_they_were_to_the_bit(model: ModernBertForMaskedLM) -> None:
    lengths = [30, 65, 31, 200, 129, 66]
    layout, ids_T = SegmentLayout.build(lengths), random_ids(lengths)
    with torch.no_grad():
        before = encode_packed(model.model, ids_T, layout).split(lengths)
        for changed in range(len(lengths)):
            parts = list(ids_T.split(lengths))
            parts[changed] = parts[changed].flip(0) + 1
            after = encode_packed(model.model, torch.cat(parts), layout).split(lengths)
            same = [bool(torch.equal(a, b)) for a, b in zip(before, after, strict=True)]
            assert same == [i != changed for i in range(len(lengths))]


def test_position_ids_alone_would_be_wrong(model: ModernBertForMaskedLM) -> None:
    """The negative control: restarted positions without isolation let attention cross documents, and nothing warns."""
    lengths = [40, 70, 20]
    layout, ids_T, reference = SegmentLayout.build(lengths), random_ids(lengths), _eager(model)
    with torch.no_grad():
        alone = _alone(reference, ids_T, lengths)
        naive = reference.model(input_ids=ids_T[None], position_ids=layout.position_ids_1T).last_hidden_state[0]
        ours = encode_packed(model.model, ids_T, layout)
    assert float((naive - alone).abs().max()) > 1e-2
    assert float((ours - alone).abs().max()) <= 1e-5


def test_packed_attention_without_a_layout_is_refused(model: ModernBertForMaskedLM) -> None:
    with pytest.raises(ValueError, match="encode_packed"):
        model.model(input_ids=random_ids([8])[None])


def test_attention_that_mixes_segments_is_refused(model: ModernBertForMaskedLM) -> None:
    with pytest.raises(ValueError, match="attends by eager"):
        encode_packed(_eager(model).model, random_ids([8]), SegmentLayout.build([8]))


@pytest.mark.parametrize("kind", ["local_layer", "model"])
def test_first_tokens_alone_are_what_they_are_among_all(kind: str, request: pytest.FixtureRequest) -> None:
    """The last layer is local in one model and global in the other."""
    model, lengths = request.getfixturevalue(kind), [300, 1, 64, 7, 66, 65, 7, 200]
    layout, ids_T = SegmentLayout.build(lengths), random_ids(lengths)
    starts = [sum(lengths[:i]) for i in range(len(lengths))]
    with torch.no_grad():
        found, expected = encode_first(model.model, ids_T, layout), encode_packed(model.model, ids_T, layout)[starts]
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("lengths", [[], [3, 0, 2]])
def test_a_layout_of_nothing_is_refused(lengths: list[int]) -> None:
    with pytest.raises(ValueError, match="at least one token"):
        SegmentLayout.build(lengths)


@pytest.mark.gpu
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("lengths", [[1], [513], EDGES, EDGES[::-1], [66, 8192, 7]])
def test_a_kernel_equals_packed_sdpa(
    make_model: Callable[..., ModernBertForMaskedLM], lengths: list[int], kernel: str
) -> None:
    """In bfloat16 and against our own other side: the kernels compute in half precision only."""
    if not torch.cuda.is_available():
        pytest.skip("the kernels need a GPU and there is none")
    if kernel == FLASH_VARLEN:
        pytest.importorskip("flash_attn", reason="flash-attn is not installed")
    found = {}
    for name in (PACKED_SDPA, kernel):
        model = make_model().cuda()
        use_attention(model, name)
        ids_T = random_ids(lengths).cuda()
        with torch.autocast("cuda", dtype=torch.bfloat16):
            hidden_TD = encode_packed(model.model, ids_T, SegmentLayout.build(lengths, device=ids_T.device))
        hidden_TD.float().square().mean().backward()
        found[name] = [hidden_TD.float(), model.model.layers[1].attn.Wqkv.weight.grad]
    for ours, theirs in zip(*found.values(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=5e-2, rtol=5e-2)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_kernel_on_a_cpu_names_the_setting_that_runs(
    make_model: Callable[..., ModernBertForMaskedLM], kernel: str
) -> None:
    with pytest.raises(ModelError, match=rf"{kernel} .* scaling\.use_gpu=true, or scaling\.attention=packed_sdpa"):
        use_attention(make_model(), kernel)


def test_torch_s_own_operator_takes_the_call() -> None:
    """The operator that is installed, on tensors without values: names, types and order of what it is given."""
    layout = SegmentLayout.build([4, 6])
    with FakeTensorMode(allow_non_fake_inputs=True):
        q_1HTD = torch.empty(1, 2, 10, 16, dtype=torch.bfloat16)
        for window in (None, WINDOW + 1):
            attended, _ = torch_varlen(
                torch.nn.Identity(), q_1HTD, q_1HTD, q_1HTD, None, scaling=0.25, sliding_window=window, layout=layout
            )
            assert attended.shape == (1, 10, 2, 16) and attended.dtype == torch.bfloat16


@pytest.mark.parametrize("kernel", KERNELS)
def test_what_a_kernel_is_given(kernel: str, monkeypatch: pytest.MonkeyPatch, model: ModernBertForMaskedLM) -> None:
    """The kernel's call, without a GPU: a plain implementation of its documented contract stands in for it."""
    windows = []

    def varlen(q, k, v, *, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, window_size, softmax_scale, causal, **_):
        assert cu_seqlens_q.dtype == torch.int32 and torch.equal(cu_seqlens_q, cu_seqlens_k) and not causal
        windows.append(window_size)
        lengths = cu_seqlens_q.diff().tolist()
        assert max(lengths) == max_seqlen_q
        parts = []
        for a, b, c in zip(q.split(lengths), k.split(lengths), v.split(lengths), strict=True):
            distance = (torch.arange(len(a))[:, None] - torch.arange(len(a))[None, :]).abs()
            seen = torch.ones_like(distance, dtype=torch.bool) if window_size[0] < 0 else distance <= window_size[0]
            scores_HTT = torch.einsum("qhd,khd->hqk", a, b) * softmax_scale
            weights_HTT = scores_HTT.masked_fill(~seen, float("-inf")).softmax(-1)
            parts.append(torch.einsum("hqk,khd->qhd", weights_HTT, c))
        return torch.cat(parts)

    def of_torch(q, k, v, ends_q, ends_k, max_q, max_k, *, scale, window_size):
        assert max_q == max_k
        ends = {"cu_seqlens_q": ends_q, "cu_seqlens_k": ends_k, "max_seqlen_q": max_q}
        return varlen(q, k, v, **ends, window_size=window_size, softmax_scale=scale, causal=False)

    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", of_torch)
    monkeypatch.setitem(sys.modules, "flash_attn", SimpleNamespace(flash_attn_varlen_func=varlen))
    flash = copy.deepcopy(model)
    flash.set_attn_implementation(REGISTERED_AS[kernel])
    lengths = [200, 5, 66, 130, 5]
    with torch.no_grad():
        layout, ids_T = SegmentLayout.build(lengths), random_ids(lengths)
        found, expected = (encode_packed(m.model, ids_T, layout) for m in (flash, model))
        first, expected_first = (encode_first(m.model, ids_T, layout) for m in (flash, model))
    assert float((found - expected).abs().max()) <= 1e-5
    assert float((first - expected_first).abs().max()) <= 1e-5
    assert set(windows) == {(-1, -1), (WINDOW, WINDOW)}


def test_another_rope_base_takes_effect_and_is_exported(make_model: Callable[..., ModernBertForMaskedLM]) -> None:
    changed, made = make_model(), make_model(global_rope_theta=500)
    set_global_rope_theta(changed, 500.0)
    assert global_rope_theta(changed) == 500.0
    assert changed.config.rope_parameters["sliding_attention"]["rope_theta"] == 10_000.0
    ids_T, layout = random_ids([100]), SegmentLayout.build([100])
    with torch.no_grad():
        found, expected, before = (encode_packed(m.model, ids_T, layout) for m in (changed, made, make_model()))
    assert torch.equal(found, expected)
    assert not torch.allclose(found, before, atol=1e-3)
