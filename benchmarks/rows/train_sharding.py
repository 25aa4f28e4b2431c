"""Optimizer state cut over four workers: DeepSpeed's ZeRO-1, as in the recipes, against torch's FSDP2 with its own checkpoints.

Four workers of one thread (gloo) take an optimizer step of a global batch. The torch engine, which keeps the whole state
on each worker, is a variant. The check proves that the three compute the same global gradient over three steps. It writes
each one's state and reads it on four workers and on two: seconds, bytes, what a worker holds, and whether training continues as
it did.
"""

import gc
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from clinical_modernbert.corpus.shards import RowBatch
from clinical_modernbert.encoder import PackedBatch
from clinical_modernbert.recipe.optimizer import OptimizerSection
from clinical_modernbert.recipe.training_run import TrainScaling
from clinical_modernbert.training.engine import Engine, MaskedLanguageLoss, build_engine
from clinical_modernbert.training.optimizer import build_optimizer
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from benchmarks.harness import Row
from benchmarks.kits.pretraining import Ours, Texts, build_bench_model, packed_rows, read_texts
from benchmarks.kits.workers import Workers

LAYERS, SCALE, NUM_ROWS, NUM_WORKERS, FEWER = 4, 0.5, 16, 4, 2
_RATE, _STEPS, _SAME = 1e-3, 3, 1e-3
_SIDES = ("deepspeed", "fsdp", "torch")


def build(scratch: Path) -> Row:
    """Return the row; states are written to ``scratch``."""
    texts = read_texts()
    rows = packed_rows(texts, num_rows=NUM_ROWS)
    start = partial(_start, texts, rows)
    groups = {side: start(side, NUM_WORKERS) for side in _SIDES}

    def step(side: str) -> Callable[[], int]:
        def run() -> int:
            _results(groups[side], "step", 0.0)
            return int(rows.valid_RL.sum())

        return run

    return Row(
        name="train-sharding",
        unit="real tokens",
        peer=f"FSDP2 of torch {torch.__version__}",
        check=lambda: _check(groups, start, scratch),
        ours=step("deepspeed"),
        other=step("fsdp"),
        variants={"torch engine, nothing cut": step("torch")},
        target="a restart on another number of workers",
    )


def _start(texts: Texts, rows: RowBatch, side: str, num: int) -> Workers:
    return Workers(partial(_Worker, texts, rows, side, num), num=num)


class _Worker:
    """A worker's model, its share of the rows and its engine."""

    def __init__(self, texts: Texts, rows: RowBatch, side: str, num: int, rank: int) -> None:
        model = build_bench_model(texts, num_layers=LAYERS, scale=SCALE)
        self._ours = Ours(texts, model, rows, share=(rank, num))
        loss, section = MaskedLanguageLoss(model, precision="float32"), OptimizerSection(algorithm="adamw")
        engine: Engine
        if side == "fsdp":
            engine = _FsdpEngine(loss, optimizer=section)
        else:
            scaling = TrainScaling(engine=side, num_workers=num)  # type: ignore[arg-type]
            engine = build_engine(loss, scaling=scaling, optimizer=section, num_micro_batches=1)
        self._ours.engine = engine

    def step(self, learning_rate: float) -> float:
        """One step of the global batch; returns its gradient norm."""
        self._ours.run()
        return self._ours.engine.step(learning_rate=learning_rate)

    def held_bytes(self) -> int:
        """Bytes of this worker's tensors: weights, moments and buffers of the exchange; gradients are gone after a step."""
        gc.collect()
        found = [_local(item) for item in gc.get_objects() if isinstance(item, torch.Tensor)]
        storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in found}
        return sum(storages.values())

    def save(self, folder: Path) -> float:
        """Write the state; returns seconds."""
        start = time.perf_counter()
        self._ours.engine.save(folder)
        return time.perf_counter() - start

    def load(self, folder: Path) -> float:
        """Read the state; returns seconds."""
        start = time.perf_counter()
        self._ours.engine.load(folder)
        return time.perf_counter() - start


def _local(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


class _FsdpEngine:
    """FSDP2 around the whole model: weights, gradients and moments are cut; weights are gathered for a step's passes.

    The passes call parts of layers and not the layers, so the layers cannot gather their own.
    """

    state_bytes = 0

    def __init__(self, loss: torch.nn.Module, *, optimizer: OptimizerSection) -> None:
        self._loss: Any = fully_shard(loss, reshard_after_forward=False)
        assert isinstance(self._loss, FSDPModule)
        self._optimizer = build_optimizer(loss, optimizer)
        self._max_norm = optimizer.max_gradient_norm or float("inf")

    def expect(self, num_micro_batches: int) -> None:
        """Nothing: gradients add up until the step."""

    def backward(self, batch: PackedBatch, *, num_masked: int) -> torch.Tensor:
        share: torch.Tensor = self._loss(batch) / num_masked
        # The exchange divides by the number of workers; gloo takes no other factor.
        (share * dist.get_world_size()).backward()
        return share.detach()

    def step(self, *, learning_rate: float) -> float:
        norm = torch.nn.utils.clip_grad_norm_(self._loss.parameters(), self._max_norm)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)

    def save(self, folder: Path) -> None:
        model, moments = get_state_dict(self._loss, self._optimizer)
        dcp.save({"model": model, "optimizer": moments}, checkpoint_id=folder)

    def load(self, folder: Path) -> None:
        model, moments = get_state_dict(self._loss, self._optimizer)
        dcp.load({"model": model, "optimizer": moments}, checkpoint_id=folder)
        set_state_dict(self._loss, self._optimizer, model_state_dict=model, optim_state_dict=moments)


def _check(groups: dict[str, Workers], start: Callable[[str, int], Workers], scratch: Path) -> dict[str, Any]:
    curves = {side: [_results(groups[side], "step", _RATE)[0] for _ in range(_STEPS)] for side in _SIDES}
    for side, norms in curves.items():
        # A float32 norm of 19 million elements depends in its fourth place on the pieces in which they are added.
        if any(abs(norm - other) > _SAME * other for norm, other in zip(norms, curves["torch"], strict=True)):
            raise AssertionError(f"gradient norms {norms} of {side}, {curves['torch']} of one that cuts nothing")
    return {"gradient_norms": curves, **{side: _checkpoint(side, groups[side], start, scratch) for side in _SIDES}}


def _checkpoint(
    side: str, group: Workers, start: Callable[[str, int], Workers], scratch: Path
) -> dict[str, float | str]:
    folder = scratch / side
    folder.mkdir()
    found: dict[str, float | str] = {
        "held_bytes_of_a_worker": max(_results(group, "held_bytes")),
        "save_s": max(_results(group, "save", folder)),
        "files": sum(path.is_file() for path in folder.rglob("*")),
        "bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
    }
    # The first step shows the weights, the second one the moments.
    expected = [_results(group, "step", _RATE)[0] for _ in range(2)]
    for num in (NUM_WORKERS, FEWER):
        other = start(side, num)
        seconds = other.call("load", folder)
        failed = next((error for error in seconds if isinstance(error, Exception)), None)
        if failed:
            found[f"on_{num}_workers"] = f"refused: {type(failed).__name__}"
        else:
            norms = [_results(other, "step", _RATE)[0] for _ in range(2)]
            same = all(abs(norm - was) <= _SAME * was for norm, was in zip(norms, expected, strict=True))
            found[f"on_{num}_workers"] = "continues" if same else f"differs: norms {norms}, not {expected}"
            found[f"load_s_on_{num}"] = max(seconds)
        other.end()
    return found


def _results(group: Workers, method: str, *arguments: Any) -> list[Any]:
    """Call a method of every worker, and raise what one of them raised."""
    found = group.call(method, *arguments)
    for item in found:
        if isinstance(item, Exception):
            raise item
    return found
