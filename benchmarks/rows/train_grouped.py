"""Forward and backward of masked language modelling: packed rows against transformers at its best, grouped texts.

The peer concatenates documents and cuts rows of 128 (run_mlm's ``group_texts``), so that nothing is padded and documents see each
other, with ``sparse_prediction``: the head on masked tokens only. Same model, same number of tokens, as in ``train_packed``.
"""

from pathlib import Path

import torch
import transformers

from benchmarks.harness import Row
from benchmarks.rows.train_packed import (
    MASK_RATE,
    NUM_ROWS,
    ROW_LENGTH,
    Problem,
    check,
    gemm_bound,
    ours,
    problem,
    segments,
    useful_flops,
)


def _grouped(found: Problem) -> int:
    stream = [i for ids in found.documents for i in (found.roles["cls"], *ids, found.roles["sep"])]
    ids_RL = torch.tensor(stream[: NUM_ROWS * ROW_LENGTH]).view(NUM_ROWS, ROW_LENGTH)
    masked_RL = torch.rand(ids_RL.shape, generator=torch.Generator().manual_seed(0)) < MASK_RATE
    model = found.model
    model.set_attn_implementation("sdpa")
    model.config.sparse_prediction = model.sparse_prediction = True
    labels_RL = ids_RL.masked_fill(~masked_RL, -100)
    model(input_ids=ids_RL.masked_fill(masked_RL, found.roles["mask"]), labels=labels_RL).loss.backward()
    model.config.sparse_prediction = model.sparse_prediction = False
    model.zero_grad()
    return ids_RL.numel()


def build(scratch: Path) -> Row:
    """Return the row; LAYERS=4 measures the shallow model, 22 layers otherwise."""
    found = problem()
    rows = segments(found)
    return Row(
        name=f"train-grouped-{found.model.config.num_hidden_layers}",
        unit="real tokens",
        peer=f"transformers {transformers.__version__}, grouped texts, sparse_prediction",
        check=lambda: {**check(found, rows), "useful_flops": useful_flops(found, rows)},
        ours=lambda: ours(found.model, rows, found.roles["mask"]),
        other=lambda: _grouped(found),
        bound=lambda: gemm_bound(found, rows),
        target=">= 1.2, and >= 0.75 of the bound",
    )
