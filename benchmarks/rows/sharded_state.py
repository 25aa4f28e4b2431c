"""Sharded training state: torch's FSDP2 with distributed checkpoints, DeepSpeed ZeRO-1, and the whole state of the torch engine.

Four gloo workers of one thread train a model of 5 M parameters, save, train on, go back to what they saved and train the same
steps again. Then two workers load that checkpoint. Every engine gets the same rows, weights and AdamW. The losses of the four say
whether they take the same steps; those of the two whether a run can continue on another number of workers. Times are medians on
a machine where four workers may share two cores: they compare the engines of one run and nothing else.

FSDP2 wraps the whole model, because our forward pass calls the parts of a layer and not the layer, where FSDP gathers weights.
"""

import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.distributed as dist
from clinical_modernbert.encoder import PackedBatch, SegmentLayout, build_model
from clinical_modernbert.recipe.optimizer import OptimizerSection
from clinical_modernbert.recipe.pretrain import ModelSection
from clinical_modernbert.recipe.training_run import TrainScaling
from clinical_modernbert.training.engine import Engine, MaskedLanguageLoss, build_engine
from clinical_modernbert.training.optimizer import build_optimizer

from benchmarks.harness import write_result

WORKERS, FEWER, STEPS, AFTER = 4, 2, 10, 4
ROWS, LENGTH, VOCABULARY = 8, 128, 8192
OPTIMIZER = OptimizerSection(algorithm="adamw", learning_rate=1e-3)
ENGINES = ("fsdp", "deepspeed", "torch")
_LIMIT_S = 90


def score() -> str:
    """Return the closing line; what each engine measured is printed before and written below ``build/bench``."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for engine in ENGINES:
            folder = Path(scratch) / engine
            found[engine] = {str(num): _run(engine, num, folder, of=WORKERS) for num in (WORKERS, FEWER)}
            sys.stdout.write(f"{engine}: {json.dumps(found[engine])}\n")
            sys.stdout.flush()
    write_result({"row": "sharded-state", **found}, Path("build/bench"))
    verdicts = []
    for engine, by_workers in found.items():
        of_four, of_two = by_workers[str(WORKERS)], by_workers[str(FEWER)]
        restarts = _close(of_two.get("losses"), of_four.get("losses"))
        verdicts.append(
            f"{engine}_step_s={of_four.get('step_s', 'failed')} {engine}_on_two={'yes' if restarts else 'no'}"
        )
    return "sharded-state " + " ".join(verdicts)


def _close(ours: list[float] | None, theirs: list[float] | None) -> bool:
    return bool(ours and theirs) and all(abs(a - b) < 1e-3 for a, b in zip(ours or (), theirs or (), strict=True))


def _run(engine: str, num: int, folder: Path, *, of: int) -> dict[str, Any]:
    """Return what rank 0 of ``num`` workers prints, or the last line of its error; fewer than ``of`` load what these saved."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [sys.executable, "-m", "benchmarks.rows.sharded_state", engine, str(num), str(port), str(folder)]
    quiet, loads = subprocess.DEVNULL, str(int(num < of))
    others = [subprocess.Popen([*command, str(rank), loads], stdout=quiet, stderr=quiet) for rank in range(1, num)]
    try:
        first = subprocess.run([*command, "0", loads], capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return {"error": f"not done after {_LIMIT_S} s"}
    finally:
        for process in others:
            process.kill()
            process.wait()
    out, error = first.stdout, first.stderr
    lines = out.strip().splitlines()
    if first.returncode or not lines:
        return {"error": (error.strip().splitlines() or ["no output"])[-1][:300]}
    result: dict[str, Any] = json.loads(lines[-1])
    return result


def _batch(step: int, rank: int, num: int) -> tuple[PackedBatch, int]:
    """This worker's rows of the global batch of ``step``, and the masked tokens of all rows."""
    generator = torch.Generator().manual_seed(step)
    # Few ids, so that there is something to learn in ten steps.
    ids_RL = torch.randint(5, 100, (ROWS, LENGTH), generator=generator)
    masked_RL = torch.rand((ROWS, LENGTH), generator=generator) < 0.3
    rows = ROWS // num
    own, chosen = (part[rank * rows : (rank + 1) * rows].reshape(-1) for part in (ids_RL, masked_RL))
    labels, inputs = own[chosen], own.masked_fill(chosen, 4)
    return PackedBatch(inputs, SegmentLayout.build([LENGTH] * rows), chosen.nonzero().flatten(), labels), int(
        masked_RL.sum()
    )


class _Fsdp:
    """FSDP2 around the whole model, AdamW on the shards, and state in torch's distributed checkpoints."""

    def __init__(self, loss: MaskedLanguageLoss) -> None:
        from torch.distributed.fsdp import fully_shard

        fully_shard(loss)
        loss.set_gradient_divide_factor(1.0)  # type: ignore[attr-defined]  # fully_shard adds it
        loss.set_force_sum_reduction_for_comms(True)  # type: ignore[attr-defined]  # gloo has no mean
        self._loss, self.optimizer = loss, build_optimizer(loss, OPTIMIZER)

    def backward(self, batch: PackedBatch, *, num_masked: int) -> torch.Tensor:
        share = self._loss(batch) / num_masked
        share.backward()
        return share.detach()

    def step(self, *, learning_rate: float) -> None:
        torch.nn.utils.clip_grad_norm_(self._loss.parameters(), OPTIMIZER.max_gradient_norm or float("inf"))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad()

    def save(self, folder: Path) -> None:
        import torch.distributed.checkpoint as dcp

        dcp.save(self._state(), checkpoint_id=folder)

    def load(self, folder: Path) -> None:
        import torch.distributed.checkpoint as dcp
        from torch.distributed.checkpoint.state_dict import set_state_dict

        state = self._state()
        dcp.load(state, checkpoint_id=folder)
        set_state_dict(self._loss, self.optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])

    def _state(self) -> dict[str, Any]:
        from torch.distributed.checkpoint.state_dict import get_state_dict

        model, optimizer = get_state_dict(self._loss, self.optimizer)
        return {"model": model, "optimizer": optimizer}


def _state_bytes(engine: Any, kind: str) -> int:
    """Bytes of this worker's optimizer state."""
    optimizer = (
        engine.optimizer
        if kind == "fsdp"
        else engine._optimizer
        if kind == "torch"
        else engine._engine.optimizer.optimizer
    )
    tensors = [value for state in optimizer.state.values() for value in state.values() if torch.is_tensor(value)]
    own = [tensor.to_local() if hasattr(tensor, "to_local") else tensor for tensor in tensors]
    return sum(tensor.numel() * tensor.element_size() for tensor in own)


def _timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return round(time.perf_counter() - started, 3)


def _worker(kind: str, num: int, port: int, folder: Path, rank: int, *, loads: bool) -> None:
    """Train, save, train on, go back; or load and train on. Rank 0 prints what was measured."""
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "RANK": str(rank),
        "WORLD_SIZE": str(num),
        "LOCAL_RANK": "0",
    }
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=num)
    section = ModelSection(
        hidden_size=256, intermediate_size=384, num_layers=6, num_heads=4, max_position_embeddings=512
    )
    special_ids = {"pad": 0, "cls": 1, "sep": 2, "mask": 4}
    model = build_model(section, vocabulary_size=VOCABULARY, special_ids=special_ids, seed=0).train()
    loss = MaskedLanguageLoss(model, precision="float32")
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    engine: _Fsdp | Engine
    if kind == "fsdp":
        engine = _Fsdp(loss)
    else:
        scaling = TrainScaling(num_workers=num, engine=kind, zero_stage=1, micro_batch_rows=ROWS // num)  # type: ignore[arg-type]  # checked by pydantic
        engine = build_engine(loss, scaling=scaling, optimizer=OPTIMIZER, num_micro_batches=1)
    times: list[float] = []

    def train(first: int, count: int) -> list[float]:
        losses = []
        for step in range(first, first + count):
            started = time.perf_counter()
            batch, num_masked = _batch(step, rank, num)
            share = engine.backward(batch, num_masked=num_masked).clone()
            engine.step(learning_rate=1e-3)
            times.append(time.perf_counter() - started)
            dist.all_reduce(share)
            losses.append(round(float(share), 5))
        return losses

    found: dict[str, Any] = {"parameters": num_parameters}
    folder.mkdir(exist_ok=True)
    if loads:
        found["load_s"] = _timed(lambda: engine.load(folder))
    else:
        found["first_losses"] = train(0, STEPS)
        found["save_s"] = _timed(lambda: (engine.save(folder), dist.barrier()))
    found["losses"] = train(STEPS, AFTER)
    found |= {"step_s": round(median(times), 3), "state_mb": round(_state_bytes(engine, kind) / 1e6, 1)}
    if not loads:
        found["load_s"] = _timed(lambda: engine.load(folder))
        found["losses_again"] = train(STEPS, AFTER)
        found["files_mb"] = round(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6, 1)
    found["peak_rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000
    if rank == 0:
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    of_kind, of_num, at, where, own_rank, second = sys.argv[1:]
    _worker(of_kind, int(of_num), int(at), Path(where), int(own_rank), loads=second == "1")
