"""The optimizers: StableAdamW equals an independent one, and is not fooled by a flat buffer; norms do not decay."""

from collections.abc import Callable

import pytest
import torch
from clinical_modernbert.recipe.optimizer import OptimizerSection
from clinical_modernbert.training.optimizer import StableAdamW, build_optimizer, partition_of

optimi = pytest.importorskip("optimi", reason="the reference optimizer, torch-optimi, is not installed")

SHAPES = [(7, 5), (12,), (4, 4, 3), (1,)]
SETTINGS = {"lr": 3e-3, "betas": (0.9, 0.98), "eps": 1e-6, "weight_decay": 0.1}


def tensors(seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in SHAPES]


def gradients(step: int) -> list[torch.Tensor]:
    """Gradients whose size jumps, so that the clipping of some tensors is at work and that of others is not."""
    scales = (1.0, 30.0 if step % 4 == 3 else 1e-2, 1e-9, 5.0**step)
    return [scale * tensor for scale, tensor in zip(scales, tensors(100 + step), strict=True)]


def run(make: Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer], *, steps: int = 12) -> list[torch.Tensor]:
    parameters = [torch.nn.Parameter(tensor) for tensor in tensors(0)]
    optimizer = make(parameters)
    for step in range(steps):
        for parameter, gradient in zip(parameters, gradients(step), strict=True):
            parameter.grad = gradient
        optimizer.step()
    return [parameter.detach() for parameter in parameters]


def reference() -> list[torch.Tensor]:
    return run(lambda p: optimi.StableAdamW(p, **SETTINGS, triton=False, foreach=False))


def test_stable_adamw_equals_torch_optimi() -> None:
    for mine, theirs in zip(run(lambda p: StableAdamW(p, **SETTINGS)), reference(), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-6)


def test_the_clipping_is_at_work() -> None:
    """Without it the same gradients give other weights: the comparison above would not see a missing clip otherwise."""
    plain = run(lambda p: torch.optim.AdamW(p, **SETTINGS))
    assert max(float((a - b).abs().max()) for a, b in zip(plain, reference(), strict=True)) > 1e-3


@pytest.mark.parametrize("padding", [0, 3])
def test_a_bound_flat_buffer_steps_each_tensor_by_itself(padding: int) -> None:
    sizes = [tensor.numel() for tensor in tensors(0)]
    offsets = [sum(sizes[:i]) + padding * i for i in range(len(sizes))]

    def flatten(parts: list[torch.Tensor]) -> torch.Tensor:
        flat = torch.zeros(offsets[-1] + sizes[-1] + padding)
        for offset, part in zip(offsets, parts, strict=True):
            flat[offset : offset + part.numel()] = part.flatten()
        return flat

    buffers = {}
    for bound in (True, False):
        buffer = torch.nn.Parameter(flatten(tensors(0)))
        optimizer = StableAdamW([buffer], **SETTINGS)
        if bound:
            whole = partition_of(sizes, offsets, start=0, length=buffer.numel(), process_group=None)
            optimizer.bind(buffer, whole)
        for step in range(12):
            buffer.grad = flatten(gradients(step))
            optimizer.step()
        buffers[bound] = buffer.detach()
    expected = flatten(reference())
    torch.testing.assert_close(buffers[True], expected, atol=1e-6, rtol=1e-6)
    assert float((buffers[False] - expected).abs().max()) > 1e-3


def test_partitions_cover_every_element_once() -> None:
    sizes, offsets, length = [35, 12, 48, 1], [0, 36, 48, 96], 25
    seen = torch.zeros(4 * length, dtype=torch.long)
    for rank in range(4):
        for part in partition_of(sizes, offsets, start=rank * length, length=length, process_group=None).ranges:
            assert part.end <= length
            seen[rank * length + part.start : rank * length + part.end] += part.tensor + 1
    expected = torch.zeros_like(seen)
    for number, (size, offset) in enumerate(zip(sizes, offsets, strict=True)):
        expected[offset : offset + size] = number + 1
    assert seen.tolist() == expected.tolist()


def test_the_state_survives_a_save() -> None:
    def resumed(parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
        return StableAdamW(parameters, **SETTINGS)

    whole = run(resumed)
    parameters = [torch.nn.Parameter(tensor) for tensor in tensors(0)]
    optimizer = resumed(parameters)
    for step in range(12):
        if step == 5:
            state = optimizer.state_dict()
            optimizer = resumed(parameters)
            optimizer.load_state_dict(state)
        for parameter, gradient in zip(parameters, gradients(step), strict=True):
            parameter.grad = gradient
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(whole, parameters, strict=True))


@pytest.mark.parametrize(("algorithm", "kind"), [("stable_adamw", StableAdamW), ("adamw", torch.optim.AdamW)])
def test_norms_and_biases_do_not_decay(algorithm: str, kind: type) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.LayerNorm(4))
    optimizer = build_optimizer(model, OptimizerSection(algorithm=algorithm, weight_decay=0.1))
    assert isinstance(optimizer, kind)
    decayed, plain = optimizer.param_groups
    assert [p.dim() for p in decayed["params"]] == [2] and decayed["weight_decay"] == 0.1
    assert all(p.dim() == 1 for p in plain["params"]) and plain["weight_decay"] == 0.0
