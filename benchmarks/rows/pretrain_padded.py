"""Pretraining against the paper's recipe: transformers' Trainer on documents padded to 128, the head on every position.

The variants are the same Trainer on rows without padding, and on those with ``sparse_prediction``. They show how much of the gain
comes from padding, from the head, from kept memory, and from attention, layers and loss.
"""

from functools import partial
from pathlib import Path

from benchmarks.harness import Row
from benchmarks.kits.pretraining import (
    Ours,
    Peer,
    Texts,
    build_bench_model,
    check,
    gemm_bound,
    grouped_rows,
    packed_rows,
    padded_rows,
    rows_of_two_depths,
    transformers_version,
)


def build(scratch: Path) -> Row:
    """Return the row."""
    return rows_of_two_depths(partial(_row, scratch))


def _row(scratch: Path, texts: Texts, num_layers: int, also: Row | None) -> Row:
    model = build_bench_model(texts, num_layers=num_layers)
    ours = Ours(texts, model, packed_rows(texts))
    padded = Peer(texts, model, padded_rows(texts), sparse=False, folder=scratch)
    unpadded = Peer(texts, model, grouped_rows(texts), sparse=False, folder=scratch)
    sparse = Peer(texts, model, grouped_rows(texts), sparse=True, folder=scratch)
    batch = ours.batch()
    return Row(
        name="pretrain-padded",
        unit="real tokens",
        peer=f"{transformers_version()}, padded to 128, full head",
        check=lambda: {"num_layers": num_layers, **check(texts, ours)},
        ours=ours.run,
        other=padded.run,
        variants={
            "no padding, full head": unpadded.run,
            "no padding, sparse head": sparse.run,
            "no padding, sparse head, freed memory kept": lambda: sparse.run(keep_memory=True),
        },
        bound=lambda: gemm_bound(model, batch),
        target=">= 4 at 4 layers, >= 3.5 at 22",
        also=also,
    )
