"""Linear layers on a CPU by the faster of two float32 matrix products: MKL's, which torch takes, or oneDNN's.

oneDNN comes with torch. Which of the two is faster depends on the processor (MKL does not use all of an AMD processor), on the
weight's shape and on the number of rows. Their results differ by rounding only.

- ``pack`` is for models whose weights stay. It times both once for each shape, and keeps a second copy of each weight in oneDNN's
  own layout.
- ``train_by_fastest`` is for training: forward and the two products of backward, on the weights as they are. It decides by the
  processor, so that every start of a run decides alike.

Layers keep their parameters, so state dicts and exports do not change. Products of attention, other dtypes, autocast and GPUs
are not covered: torch chooses there.
"""

import os
import time
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

# oneDNN and torch keep what they prepared for a product, several megabytes for each number of rows, 1,024 times over: an endpoint
# grew by two gigabytes in 2,000 requests. A pass through a model needs a few shapes, and to prepare one again takes half a
# millisecond. Both caches read their size at the first product of the process.
for _name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
    os.environ.setdefault(_name, "8")

# Rows of the timed products: a short query, a short text, a batch. More rows take the same time a row.
_ROWS = (1, 4, 16, 64)
_REPEATS = 5
# Columns of a vocabulary's matrix that are timed.
_MAX_OUT = 4096
# Less is not worth the memory of a packed copy.
_GAIN = 1.1
# Elements of a model's largest weight from which its training gains on AMD's processors; below it oneDNN may be slower
# (docs/design/0011-cpu-products.md).
_TRAINED_BY_ONEDNN = 1 << 15


def onednn(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Return ``x @ weight.T + bias`` by oneDNN, without a gradient; ``weight`` may be packed."""
    found: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return found


def packed_copy(weight: torch.Tensor) -> torch.Tensor:
    """Return the weight in oneDNN's own layout; ``onednn`` takes it in place of the weight."""
    packed: torch.Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, 1024)
    return packed


class PackedLinear(torch.nn.Linear):
    """A linear layer that multiplies by a packed copy of its weight, and by the weight itself once that has changed."""

    _packed: torch.Tensor | None
    _min_rows: int
    _state: tuple[int, int]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        usable = x.numel() >= self._min_rows * self.in_features and _is_plain(x) and not _needs_gradient(x, self)
        if usable and self._packed is not None and _state(self.weight) == self._state:
            return onednn(x, self._packed, self.bias)
        return super().forward(x)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the packed copy, which can be neither copied nor pickled: a copy of the layer multiplies by its weight."""
        return {**self.__dict__, "_packed": None}


class TrainedLinear(torch.nn.Linear):
    """A linear layer whose products, forward and backward, are oneDNN's. In compiled code torch's compiler chooses."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not _is_plain(x) or torch.compiler.is_compiling():
            return super().forward(x)
        product: torch.Tensor = _Product.apply(x, self.weight, self.bias)  # type: ignore[no-untyped-call]  # torch types it so
        return product


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        return onednn(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *outputs: torch.Tensor) -> Any:
        x, weight = ctx.saved_tensors
        gradient = outputs[0].contiguous()
        for_x, for_weight, for_bias = ctx.needs_input_grad
        rows = gradient.flatten(0, -2)
        return (
            onednn(gradient, weight.t()) if for_x else None,
            onednn(rows.t(), x.flatten(0, -2).t()) if for_weight else None,
            rows.sum(0) if for_bias else None,
        )


def pack(model: Any, *, min_rows: int | None = None) -> None:
    """Give each float32 layer on a CPU a packed copy of its weight where oneDNN is faster.

    ``min_rows`` replaces the timing: oneDNN multiplies from that number of rows on. A decoder that shares the embedding's matrix
    gets no copy, because few rows pass through it.
    """
    table = model.get_input_embeddings()
    for layer in _layers(model):
        shared = table is not None and layer.weight is table.weight
        chosen = min_rows or fastest_from(
            layer.out_features, layer.in_features, packed=not shared, threads=torch.get_num_threads()
        )
        if chosen is None or layer.weight.is_inference():
            continue
        layer.__class__ = PackedLinear
        layer._packed = layer.weight.detach() if shared else packed_copy(layer.weight.detach())
        layer._min_rows, layer._state = chosen, _state(layer.weight)


def train_by_fastest(model: Any, *, use_onednn: bool | None = None) -> bool:
    """Make the layers multiply by oneDNN if it is faster in training; return whether they do.

    ``use_onednn`` replaces the rule, which is no timing: a run that starts again must multiply as before, and with two threads on
    a busy machine six timings of one shape gave from 1.0 to 3.2 times as fast.
    """
    layers = _layers(model)
    if use_onednn is None:
        use_onednn = _is_amd() and any(layer.weight.numel() >= _TRAINED_BY_ONEDNN for layer in layers)
    if not layers or not use_onednn:
        return False
    for layer in layers:
        layer.__class__ = TrainedLinear
    return True


@cache
def fastest_from(out_features: int, in_features: int, *, packed: bool, threads: int) -> int | None:
    """Return the number of rows from which on oneDNN is not slower than MKL; None if it does not gain at a batch's size."""
    weight = torch.full((min(out_features, _MAX_OUT), in_features), 0.01)
    other = packed_copy(weight) if packed else weight
    fastest: int | None = None
    with torch.inference_mode():
        for rows in reversed(_ROWS):
            x = torch.ones(rows, in_features)
            gain = _gain(lambda x=x: F.linear(x, weight), lambda x=x: onednn(x, other))
            if gain < (_GAIN if fastest is None else 1.0):
                break
            fastest = rows
    return fastest


@cache
def _is_amd() -> bool:
    """Whether the processor is AMD's, for which MKL does not use all of its instructions."""
    path = Path("/proc/cpuinfo")
    return path.is_file() and "AuthenticAMD" in path.read_text(encoding="utf-8")


def _gain(old: Any, new: Any) -> float:
    """Return how many times as fast ``new`` is: best time of each, the rounds interleaved.

    Time of this thread, not of the clock: on a busy machine others' work must not decide.
    """
    best = [float("inf"), float("inf")]
    for _ in range(_REPEATS + 1):  # the first round also sets up
        for side, run in enumerate((old, new)):
            start = time.thread_time()
            run()
            best[side] = min(best[side], time.thread_time() - start)
    return best[0] / best[1]


def _layers(model: Any) -> list[Any]:
    """Return the layers that can multiply by oneDNN: plain float32 ones on a CPU."""
    if not torch.backends.mkldnn.is_available():
        return []
    return [
        layer
        for layer in model.modules()
        if type(layer) is torch.nn.Linear and layer.weight.device.type == "cpu" and layer.weight.dtype == torch.float32
    ]


def _state(weight: torch.Tensor) -> tuple[int, int]:
    """Return what changes when the weight does: its memory, and torch's count of changes in place."""
    return weight.data_ptr(), weight._version


def _is_plain(x: torch.Tensor) -> bool:
    """Whether ``x`` is what oneDNN multiplies here: float32 rows on a CPU, without autocast."""
    return x.dtype == torch.float32 and x.device.type == "cpu" and x.dim() > 1 and not torch.is_autocast_enabled("cpu")


def _needs_gradient(x: torch.Tensor, layer: torch.nn.Linear) -> bool:
    return torch.is_grad_enabled() and (x.requires_grad or layer.weight.requires_grad)
