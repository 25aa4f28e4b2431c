"""Pretraining against transformers' Trainer at its best: grouped texts, ``sparse_prediction``, compiled layers.

Grouped texts need no padding and let documents attend to each other; ours keeps documents separate. The peer is the faster of
the compiled and the plain Trainer.
"""

import copy
from functools import partial
from pathlib import Path

from clinical_modernbert.encoder import compile_feed_forward

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
    rows_of_two_depths,
    transformers_version,
)


def build(scratch: Path) -> Row:
    """Return the row."""
    return rows_of_two_depths(partial(_row, scratch))


def _row(scratch: Path, texts: Texts, num_layers: int, also: Row | None) -> Row:
    model = build_bench_model(texts, num_layers=num_layers)
    ours = Ours(texts, model, packed_rows(texts))
    plain = Peer(texts, model, grouped_rows(texts), sparse=True, folder=scratch)
    squeezed = Ours(texts, copy.deepcopy(model), packed_rows(texts))
    compile_feed_forward(squeezed.model)
    compiled = Peer(texts, model, grouped_rows(texts), sparse=True, folder=scratch)
    compiled.compile_layers()
    batch, name = ours.batch(), f"{transformers_version()}, grouped texts, sparse_prediction"
    return Row(
        name="pretrain-grouped",
        unit="real tokens",
        peer=name,
        check=lambda: {"num_layers": num_layers, **check(texts, ours)},
        ours=ours.run,
        other=plain.run,
        other_peers={f"{name}, torch.compile": compiled.run},
        variants={
            "ours, scaling.compile": squeezed.run,
            "plain, freed memory kept": lambda: plain.run(keep_memory=True),
            "compiled, freed memory kept": lambda: compiled.run(keep_memory=True),
        },
        bound=lambda: gemm_bound(model, batch),
        target=">= 1.2, and >= 0.75 of the bound",
        also=also,
    )
