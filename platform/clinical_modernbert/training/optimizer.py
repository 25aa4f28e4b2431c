"""The recipe's optimizer over two groups: weight decay on matrices, none on norms and biases.

``StableAdamW`` is AdamW whose update of each tensor is scaled down by its RMS (Wortsman et al., 2023, algorithm 2): the tensor's
learning rate is divided by max(1, RMS), RMS = sqrt(mean(g^2 / max(v, eps^2))) with the debiased second moment v.
An engine that flattens parameters into one buffer and splits it over workers must call ``bind`` with the offset of each tensor.
Otherwise the mean is taken over all elements of a partition, and no error is raised. Does not work with ZeRO-3.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from clinical_modernbert.recipe.optimizer import OptimizerSection

_Buffers = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def build_optimizer(model: torch.nn.Module, section: OptimizerSection) -> torch.optim.Optimizer:
    """Return the optimizer with weight decay on matrices only: norms and biases have one dimension."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": section.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    betas = (section.beta1, section.beta2)
    if section.algorithm == "stable_adamw":
        return StableAdamW(groups, lr=section.learning_rate, betas=betas, eps=section.epsilon)
    return torch.optim.AdamW(groups, lr=section.learning_rate, betas=betas, eps=section.epsilon, fused=True)


@dataclass(frozen=True, slots=True)
class TensorRange:
    """The elements of one tensor that a flat buffer holds."""

    tensor: int
    """Number of the tensor in its group."""
    start: int
    """First element in the buffer."""
    end: int


@dataclass(frozen=True, slots=True)
class Partition:
    """What one worker's flat buffer holds of a group of tensors."""

    ranges: tuple[TensorRange, ...]
    sizes: tuple[int, ...]
    """Elements of each whole tensor of the group."""
    process_group: Any
    """The workers that hold the other elements."""


def partition_of(sizes: list[int], offsets: list[int], *, start: int, length: int, process_group: Any) -> Partition:
    """Return what elements ``start ... start+length-1`` of a flat buffer hold of the tensors at ``offsets``."""
    ranges = []
    for number, (size, offset) in enumerate(zip(sizes, offsets, strict=True)):
        first, last = max(offset, start), min(offset + size, start + length)
        if first < last:
            ranges.append(TensorRange(tensor=number, start=first - start, end=last - start))
    return Partition(ranges=tuple(ranges), sizes=tuple(sizes), process_group=process_group)


class StableAdamW(torch.optim.Optimizer):
    """AdamW that divides a tensor's learning rate by max(1, RMS of its update); see the module's docstring."""

    def __init__(
        self, params: Iterable[Any], *, lr: float, betas: tuple[float, float], eps: float, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})
        self._partitions: dict[int, Partition] = {}

    def bind(self, parameter: torch.Tensor, partition: Partition) -> None:
        """Declare the tensors inside ``parameter``, a flat buffer that an engine uses instead of a group's tensors."""
        self._partitions[id(parameter)] = partition

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every tensor that has a gradient; with bound partitions, every worker must call it."""
        assert closure is None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)

    def _update(self, parameter: torch.Tensor, group: dict[str, Any]) -> None:
        state, gradient = self.state[parameter], parameter.grad
        assert gradient is not None
        if not state:
            state["step"] = torch.tensor(0.0)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] += 1
        first, second = (_debiased(beta, int(state["step"])) for beta in group["betas"])
        mean, square, eps = state["exp_avg"], state["exp_avg_sq"], group["eps"]
        mean.lerp_(gradient, 1 - first)
        square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        scratch = square.clamp(min=eps * eps)
        torch.div(gradient, scratch.sqrt_(), out=scratch)  # the RMS of this is the norm of scratch over sqrt(size)
        partition = self._partitions.get(id(parameter))
        if partition is None:
            rates = [group["lr"] / (scratch.norm() / scratch.numel() ** 0.5).clamp(min=1.0)]
            spans = [(parameter, mean, square, scratch)]
        else:
            rates = _partition_rates(scratch, partition, learning_rate=group["lr"])
            flat = (parameter, mean, square, scratch)
            spans = [_slice(flat, part) for part in partition.ranges]
        for rate, (weight, m, v, update) in zip(rates, spans, strict=True):
            torch.sqrt(v, out=update).add_(eps)
            torch.div(m, update, out=update)
            if group["weight_decay"]:
                update.add_(weight, alpha=group["weight_decay"])
            weight.addcmul_(update, rate, value=-1.0)


def _slice(flat: _Buffers, part: TensorRange) -> _Buffers:
    weight, mean, square, scratch = (x[part.start : part.end] for x in flat)
    return weight, mean, square, scratch


def _partition_rates(ratio: torch.Tensor, partition: Partition, *, learning_rate: float) -> list[torch.Tensor]:
    """Return the rate of each range: the squares of a tensor are summed over all workers that hold elements of it."""
    sums = torch.zeros(len(partition.sizes), dtype=torch.float32, device=ratio.device)
    for part in partition.ranges:
        sums[part.tensor] = ratio[part.start : part.end].norm().square()
    if dist.is_initialized() and dist.get_world_size(partition.process_group) > 1:
        dist.all_reduce(sums, group=partition.process_group)
    rms = (sums / torch.tensor(partition.sizes, dtype=torch.float32, device=ratio.device)).sqrt_()
    rates = learning_rate / rms.clamp_(min=1.0)
    return [rates[part.tensor] for part in partition.ranges]


def _debiased(beta: float, step: int) -> float:
    """Return the decay whose plain average equals the bias-corrected one of ``beta`` after ``step`` steps."""
    return float((beta**step - beta) / (beta**step - 1.0))
