"""StableAdamW under every engine, on one and two workers: each step equals a per-tensor reference on the whole gradient.

ZeRO 1 and 2 hand the optimizer one flat buffer, cut over the workers in the middle of tensors. Clipping by what a partition holds
would give other weights, and no error.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from clinical_modernbert.encoder import SegmentLayout, build_model
from clinical_modernbert.encoder.packed import PackedBatch
from clinical_modernbert.recipe.optimizer import OptimizerSection
from clinical_modernbert.recipe.pretrain import ModelSection
from clinical_modernbert.recipe.training_run import TrainScaling
from clinical_modernbert.training.engine import MaskedLanguageLoss, build_engine

optimi = pytest.importorskip("optimi", reason="the reference optimizer, torch-optimi, is not installed")

ENGINES = [("torch", 0), ("deepspeed", 0), ("deepspeed", 1), ("deepspeed", 2)]
STEPS, LEARNING_RATE = 4, 0.02
SECTION = OptimizerSection(learning_rate=LEARNING_RATE, weight_decay=0.1, max_gradient_norm=None)


def batch(step: int, number: int) -> PackedBatch:
    """Token ids whose range jumps between steps: embeddings and bias then see gradients that their history did not."""
    generator = torch.Generator().manual_seed(10 * step + number)
    lengths = [9, 20 + number, 3]
    ids_T = torch.randint(5, 20 + 150 * (step % 3), (sum(lengths),), generator=generator)
    masked_N = torch.arange(1, sum(lengths), 4)
    return PackedBatch(ids_T, SegmentLayout.build(lengths), masked_N=masked_N, labels_N=ids_T[masked_N])


def fresh() -> MaskedLanguageLoss:
    section = ModelSection(hidden_size=32, intermediate_size=48, num_layers=2, num_heads=2, max_position_embeddings=64)
    model = build_model(section, vocabulary_size=512, special_ids={"pad": 0, "cls": 1, "sep": 2, "mask": 4}, seed=1)
    return MaskedLanguageLoss(model, precision="float32")


def num_masked(step: int) -> int:
    return sum(len(batch(step, number).labels_N) for number in (0, 1))


def reference(kind: str) -> dict[str, torch.Tensor]:
    loss = fresh()
    named = list(loss.parameters())
    groups = [
        {"params": [p for p in named if p.dim() > 1], "weight_decay": 0.1},
        {"params": [p for p in named if p.dim() <= 1], "weight_decay": 0.0},
    ]
    if kind == "stable":
        optimizer = optimi.StableAdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.98), eps=1e-6, triton=False)
    else:
        optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.98), eps=1e-6)
    for step in range(STEPS):
        optimizer.zero_grad()
        for number in (0, 1):
            (loss(batch(step, number)) / num_masked(step)).backward()
        optimizer.step()
    return {name: tensor.detach().clone() for name, tensor in loss.state_dict().items()}


def train(engine: str, zero_stage: int, *, rank: int, world_size: int) -> dict[str, torch.Tensor]:
    """Return the weights after this worker's part of all steps."""
    loss = fresh()
    scaling = TrainScaling(num_workers=world_size, engine=engine, zero_stage=zero_stage, micro_batch_rows=1)
    built = build_engine(loss, scaling=scaling, optimizer=SECTION, num_micro_batches=2 // world_size)
    for step in range(STEPS):
        for number in range(rank, 2, world_size):
            built.backward(batch(step, number), num_masked=num_masked(step))
        built.step(learning_rate=LEARNING_RATE)
    return loss.state_dict()


def worker(world_size: int, port: int, folder: str, rank: int) -> None:
    """Train with every engine, one after the other: most of the time is the start of a process."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world_size), "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "DS_ACCELERATOR": "cpu"}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=world_size)
    for engine, zero_stage in ENGINES:
        weights = train(engine, zero_stage, rank=rank, world_size=world_size)
        if rank == 0:
            torch.save(weights, Path(folder) / f"{engine}-{zero_stage}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module", params=[1, 2])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the weights that each engine gives on one worker, and on two."""
    world_size, folder = int(request.param), tmp_path_factory.mktemp("weights")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    # Processes of their own that run this file: pytest's import mode leaves nothing for multiprocessing to import.
    command = [sys.executable, __file__, str(world_size), str(port), str(folder)]
    started = [subprocess.Popen([*command, str(rank)]) for rank in range(world_size)]
    assert [process.wait(timeout=180) for process in started] == [0] * world_size
    return folder


@pytest.fixture(scope="module")
def expected() -> dict[str, torch.Tensor]:
    return reference("stable")


@pytest.fixture(scope="module")
def unclipped() -> dict[str, torch.Tensor]:
    return reference("plain")


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "zero_stage"), ENGINES)
def test_each_step_equals_the_per_tensor_reference(
    trained: Path,
    expected: dict[str, torch.Tensor],
    unclipped: dict[str, torch.Tensor],
    engine: str,
    zero_stage: int,
) -> None:
    # safe: weights_only loads tensors and plain containers
    weights = torch.load(trained / f"{engine}-{zero_stage}.pt", weights_only=True)
    difference = max(float((weights[name] - expected[name]).abs().max()) for name in expected)
    assert difference <= 1e-4
    # The clipping is at work in these steps: without it the same gradients lead elsewhere.
    assert max(float((unclipped[name] - expected[name]).abs().max()) for name in expected) > 100 * max(difference, 1e-6)


if __name__ == "__main__":
    _, size, at, where, mine = sys.argv
    worker(int(size), int(at), where, int(mine))
