"""One global batch however it is split: workers x accumulation of 1x4, 2x2 and 4x1 give the same batches and gradients."""

import hashlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from clinical_modernbert.artifacts import open_store, resolve
from clinical_modernbert.encoder.packed import PackedBatch
from clinical_modernbert.masking import token_ranges
from clinical_modernbert.recipe import PretrainRecipe
from clinical_modernbert.tokenizer import load_tokenizer
from clinical_modernbert.training.batches import BatchSource
from clinical_modernbert.training.engine import MaskedLanguageLoss, TorchEngine
from clinical_modernbert.training.phases import lay_out
from clinical_modernbert.training.start import batch_source, initial_model
from clinical_modernbert.training.worker import Worker, sum_over_workers
from torch.optim.optimizer import register_optimizer_step_pre_hook

ROWS, STEP = 8, 3
WORLD_SIZES = (1, 2, 4)


def digest(batch: PackedBatch) -> str:
    parts = (batch.input_ids_T, batch.masked_N, batch.labels_N)
    return hashlib.sha256(b"".join(part.numpy().tobytes() for part in parts)).hexdigest()


def worker(folder: str, world_size: int, port: int, rank: int) -> None:
    """One worker of a step: its part of the global batch through the engine, and the gradients that the optimizer would get."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=world_size)
    store = open_store(folder)
    recipe = PretrainRecipe.model_validate_json((Path(folder) / "recipe.json").read_text())
    corpus = resolve(store, "corpus", "tiny")
    tokenizer = load_tokenizer(corpus.folder("tokenizer"))
    me = Worker(rank=rank, world_size=world_size, device=torch.device("cpu"))
    source: BatchSource = batch_source(recipe, lay_out(recipe), {recipe.corpus: corpus}, token_ranges(tokenizer), me)
    loss = MaskedLanguageLoss(initial_model(recipe, tokenizer), precision="float32")
    engine = TorchEngine(loss, optimizer=recipe.optimizer)
    share = source.share(STEP)
    (num_masked,) = sum_over_workers(torch.tensor([share.num_masked], dtype=torch.float64), me)
    for batch in share.micro_batches:
        engine.backward(batch, num_masked=int(num_masked))
    gradients: dict[str, torch.Tensor] = {}

    def keep_gradients(*_: Any) -> None:
        gradients.update({n: p.grad.clone() for n, p in loss.named_parameters() if p.grad is not None})

    hook = register_optimizer_step_pre_hook(keep_gradients)  # they are exchanged by then, and cleared after the step
    engine.step(learning_rate=0.0)
    hook.remove()
    out = Path(folder) / f"{world_size}-{rank}"
    out.with_suffix(".json").write_text(json.dumps([digest(batch) for batch in share.micro_batches]))
    if rank == 0:
        torch.save(gradients, out.with_suffix(".pt"))
    dist.barrier()
    dist.destroy_process_group()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def run_all(folder: Path) -> None:
    """Do the step with each number of workers, on processes that are started once."""
    groups = [f"{world_size}:{free_port()}" for world_size in WORLD_SIZES]
    # Processes of their own that run this file: pytest's import mode leaves nothing for multiprocessing to import.
    command = [sys.executable, __file__, str(folder), ",".join(groups)]
    started = [subprocess.Popen([*command, str(rank)]) for rank in range(max(WORLD_SIZES))]
    assert [process.wait(timeout=240) for process in started] == [0] * max(WORLD_SIZES)


def read(folder: Path, world_size: int) -> tuple[list[str], dict[str, torch.Tensor]]:
    """Return the micro-batches' digests in the global batch's order, and the summed gradients."""
    digests = [d for rank in range(world_size) for d in json.loads((folder / f"{world_size}-{rank}.json").read_text())]
    # safe: weights_only loads tensors and plain containers
    return digests, torch.load(folder / f"{world_size}-0.pt", weights_only=True)


@pytest.mark.slow
def test_workers_times_accumulation_changes_neither_batches_nor_gradients(tmp_path: Path) -> None:
    from tests.helpers.tiny import (  # not in the workers, which run this file alone
        publish_tiny_corpus,
        tiny_pretrain_plan,
    )

    store = open_store(str(tmp_path))
    publish_tiny_corpus(store)
    plan = tiny_pretrain_plan(store, f"training.batch_rows={ROWS}", "scaling.micro_batch_rows=2")
    (tmp_path / "recipe.json").write_text(plan.recipe.model_dump_json())

    run_all(tmp_path)
    batches, gradients = read(tmp_path, 1)
    assert len(set(batches)) == ROWS // 2
    for world_size in WORLD_SIZES[1:]:
        split_batches, split_gradients = read(tmp_path, world_size)
        assert split_batches == batches
        for name, gradient in gradients.items():
            assert gradient.abs().max() > 0, name
            assert (split_gradients[name] - gradient).abs().max() <= 1e-5 * max(1.0, gradient.abs().max()), name


if __name__ == "__main__":
    _, where, groups, mine = sys.argv
    torch.set_num_threads(1)
    for group in groups.split(","):
        size, _, at = group.partition(":")
        if int(mine) < int(size):
            worker(where, int(size), int(at), int(mine))
