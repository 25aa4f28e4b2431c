"""Held-out figures while training: loss and top-k on both frozen masks, on the same rows at every call."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clinical_modernbert.artifacts import Artifact
from clinical_modernbert.corpus.shards import PackedRows
from clinical_modernbert.masking import TokenRanges
from clinical_modernbert.training.batches import row_chunks
from clinical_modernbert.training.phases import Phase
from clinical_modernbert.training.scoring import MaskKind, score_rows
from clinical_modernbert.training.worker import Worker, sum_over_workers

TOP_K = (1, 5, 10, 25)
_KINDS: tuple[MaskKind, ...] = ("uniform", "entity")


def sample_rows(num_rows: int, *, max_rows: int) -> NDArray[np.int64]:
    """Return the rows to score. They are packed longest segment first: every n-th is a fair sample, the first n are not."""
    return np.linspace(0, num_rows - 1, min(num_rows, max_rows)).astype(np.int64)


def score_phase(
    model: Any, corpus: Artifact, phase: Phase, *, max_rows: int, tokens: TokenRanges, worker: Worker
) -> dict[str, float]:
    """Return ``<mask>_loss`` and ``<mask>_top<k>`` over up to ``max_rows`` held-out rows of the phase's length.

    Every worker calls it and scores its part; a mask that hides nothing in these rows has no figures.
    """
    rows = PackedRows(corpus, row_length=phase.sequence_length, split="held_out")
    numbers_R = sample_rows(len(rows), max_rows=max_rows)
    chunks = [numbers_R[chunk] for chunk in row_chunks(len(numbers_R), size=phase.micro_batch_rows)]
    figures = {}
    for kind in _KINDS:
        found = score_rows(model, rows, chunks[worker.rank :: worker.world_size], kind=kind, tokens=tokens)
        sums = [float(found.losses_N.sum()), *(float((found.ranks_N < k).sum()) for k in TOP_K), len(found.labels_N)]
        *totals, count = sum_over_workers(torch.tensor(sums, dtype=torch.float64), worker).tolist()
        if count:
            names = [f"{kind}_loss", *(f"{kind}_top{k}" for k in TOP_K)]
            figures.update({name: total / count for name, total in zip(names, totals, strict=True)})
    return figures
