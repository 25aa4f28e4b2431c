"""Products by oneDNN: equal to torch's to rounding, in inference and training; parameters and exports stay the same."""

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from clinical_modernbert.encoder import (
    PackedBatch,
    SegmentLayout,
    compile_feed_forward,
    decoded_cross_entropy,
    encode_packed,
    linear,
    load_encoder,
    load_model,
    masked_loss_sum,
    pack,
    score_masked,
    train_by_fastest,
)
from clinical_modernbert.encoder.linear import PackedLinear, TrainedLinear, fastest_from

from tests.helpers.tiny_encoder import MakeModel, random_ids

LENGTHS = [5, 120, 1, 33]


def batch() -> PackedBatch:
    ids_T = random_ids(LENGTHS)
    masked_N = torch.arange(0, len(ids_T), 3)
    return PackedBatch(ids_T, SegmentLayout.build(LENGTHS), masked_N, random_ids([len(masked_N)], seed=1))


def states(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return encode_packed(model.model, random_ids(LENGTHS), SegmentLayout.build(LENGTHS))


def kinds(model: Any) -> set[type]:
    return {type(layer) for layer in model.modules() if isinstance(layer, torch.nn.Linear)}


@pytest.mark.parametrize("threads", [1, 2])
def test_packed_weights_give_the_same_states_and_scores(make_model: MakeModel, threads: int) -> None:
    plain, packed = make_model(), make_model()
    pack(packed, min_rows=1)
    assert kinds(packed) == {PackedLinear}
    torch.set_num_threads(threads)
    torch.testing.assert_close(states(packed), states(plain), atol=2e-5, rtol=0)
    for mine, theirs in zip(vars_of(score_masked(packed, batch())), vars_of(score_masked(plain, batch())), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-5)
    torch.set_num_threads(1)


def vars_of(scores: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return scores.losses_N, scores.ranks_N


def test_below_the_number_of_rows_torch_multiplies(make_model: MakeModel) -> None:
    plain, packed = make_model(), make_model()
    pack(packed, min_rows=sum(LENGTHS) + 1)
    assert torch.equal(states(packed), states(plain))


def test_a_changed_weight_is_used_and_gradients_still_flow(make_model: MakeModel) -> None:
    plain, packed = make_model(), make_model()
    pack(packed, min_rows=1)
    for model in (plain, packed):
        with torch.no_grad():
            model.model.layers[1].mlp.Wo.weight *= 2
    torch.testing.assert_close(states(packed), states(plain), atol=2e-5, rtol=0)
    masked_loss_sum(packed, batch()).backward()
    assert packed.model.layers[0].attn.Wqkv.weight.grad.abs().sum() > 0


def test_autocast_and_other_types_are_left_to_torch(make_model: MakeModel) -> None:
    plain, packed = make_model(), make_model()
    pack(packed, min_rows=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(states(packed), states(plain))
    assert torch.equal(states(packed.double()), states(plain.double()))


def test_state_dict_and_export_do_not_change(make_model: MakeModel, tmp_path: Path) -> None:
    plain, packed, trained = make_model(), make_model(), make_model()
    pack(packed, min_rows=1)
    assert train_by_fastest(trained, use_onednn=True)
    for name, model in {"plain": plain, "packed": packed, "trained": trained}.items():
        assert list(model.state_dict()) == list(plain.state_dict())
        model.save_pretrained(tmp_path / name)
        for file in ("model.safetensors", "config.json"):
            assert (tmp_path / name / file).read_bytes() == (tmp_path / "plain" / file).read_bytes()


def test_a_packed_model_can_be_copied_and_pickled(make_model: MakeModel) -> None:
    packed = make_model()
    pack(packed, min_rows=1)
    pickle.dumps(packed)
    torch.testing.assert_close(states(copy.deepcopy(packed)), states(packed), atol=2e-5, rtol=0)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_training_step_by_onednn_has_the_same_loss_and_gradients(make_model: MakeModel, compiled: bool) -> None:
    found = []
    for by_onednn in (True, False):
        model = make_model().train()
        assert train_by_fastest(model, use_onednn=by_onednn) == by_onednn
        assert kinds(model) == ({TrainedLinear} if by_onednn else {torch.nn.Linear})
        if compiled:
            compile_feed_forward(model)
        loss = masked_loss_sum(model, batch())
        loss.backward()
        found.append([loss.detach(), *(parameter.grad for parameter in model.parameters())])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, atol=2e-5 * float(theirs.abs().max()), rtol=1e-4)


@pytest.mark.parametrize("chunk", [10, 64])
def test_the_decoder_s_loss_takes_the_same_product(chunk: int) -> None:
    found = []
    for by_onednn in (True, False):
        torch.manual_seed(0)
        hidden, labels = torch.randn(37, 24).requires_grad_(), torch.randint(0, 101, (37,))
        model = torch.nn.Sequential(torch.nn.Linear(24, 101))
        train_by_fastest(model, use_onednn=by_onednn)
        decoded_cross_entropy(hidden, model[0], labels, chunk_tokens=chunk).backward()
        found.append([hidden.grad, model[0].weight.grad, model[0].bias.grad])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


def test_loaded_encoders_are_packed_and_models_for_training_are_not(export: Path) -> None:
    assert kinds(load_encoder(export).model) <= {PackedLinear, torch.nn.Linear}
    assert kinds(load_model(export)) == {torch.nn.Linear}


def test_the_timing_answers_for_any_shape() -> None:
    assert fastest_from(64, 32, packed=True, threads=1) in (None, 1, 4, 16, 64)


@pytest.mark.parametrize(("is_amd", "width", "by_onednn"), [(True, 256, True), (True, 255, False), (False, 256, False)])
def test_training_chooses_by_the_processor_and_never_by_a_timing(
    monkeypatch: pytest.MonkeyPatch, is_amd: bool, width: int, by_onednn: bool
) -> None:
    def no_timing() -> float:
        raise AssertionError("timed")

    monkeypatch.setattr(linear, "_is_amd", lambda: is_amd)
    monkeypatch.setattr("time.thread_time", no_timing)
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(width, 128))
    assert train_by_fastest(model) == by_onednn
    assert kinds(model) == ({TrainedLinear} if by_onednn else {torch.nn.Linear})


def test_products_of_many_sizes_take_no_more_memory() -> None:
    """In a process of its own: the caches read their size once."""
    script = """
import psutil, torch
from clinical_modernbert.encoder.linear import onednn, packed_copy
weight = packed_copy(torch.ones(768, 256))
sizes, used = [], lambda: psutil.Process().memory_info().rss >> 20
for rows in range(600, 900):
    onednn(torch.ones(rows, 256), weight)
    sizes.append(used())
print(sizes[-1] - sizes[20])
"""
    grown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert int(grown) < 40
