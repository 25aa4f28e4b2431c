"""From rows to packed batches of tensors: read, mask, remove the padding.

Legend: R rows, L places a row, T tokens, N masked tokens.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from clinical_modernbert.corpus.shards import PackedRows, RowBatch
from clinical_modernbert.encoder import PackedBatch, SegmentLayout
from clinical_modernbert.masking import Masker
from clinical_modernbert.training.phases import Phase, phase_at
from clinical_modernbert.training.row_order import RowOrder


@dataclass(frozen=True, slots=True)
class WorkerShare:
    """One worker's share of a step's global batch."""

    micro_batches: tuple[PackedBatch, ...]
    num_masked: int
    num_tokens: int
    num_salient: int
    """Tokens of clinical terms."""
    num_salient_masked: int
    lengths_S: NDArray[np.int64]
    """Tokens of each segment."""
    global_rows_R: NDArray[np.int64]
    """Row numbers of the whole global batch, the same on every worker."""


@dataclass(frozen=True, slots=True)
class BatchSource:
    """Makes each step's batches for one worker."""

    phases: tuple[Phase, ...]
    rows: dict[int, PackedRows]
    """Training rows by their length."""
    seed: int
    masker: Masker
    rank: int
    world_size: int
    device: torch.device

    def share(self, step: int, *, skipped: int = 0) -> WorkerShare:
        """Return this worker's micro-batches of ``step``: a contiguous range of the global batch.

        ``skipped`` is the number of batches that rollbacks left out before this step.
        """
        phase = phase_at(self.phases, step)
        rows = self.rows[phase.sequence_length]
        order = RowOrder(num_rows=len(rows), batch_rows=phase.batch_rows(step), seed=self.seed)
        global_rows = order.rows_from(phase.place(step, skipped=skipped))
        num_rows = len(global_rows) // self.world_size
        first = self.rank * num_rows
        micro_batches, lengths, num_salient, num_salient_masked = [], [], 0, 0
        for start in range(first, first + num_rows, phase.micro_batch_rows):
            places = np.arange(start, start + phase.micro_batch_rows)
            batch = rows.read(global_rows[places])
            ids, selected = self.masker.mask(
                batch.ids_RL, salient_RL=batch.salient_RL, valid_RL=batch.valid_RL, rows_R=places, step=step
            )
            micro_batches.append(pack_rows(batch, input_RL=ids, selected_RL=selected, device=self.device))
            lengths.append(batch.lengths_S)
            num_salient += int((batch.salient_RL & batch.valid_RL).sum())
            num_salient_masked += int((batch.salient_RL & selected).sum())
        num_masked = sum(len(micro.labels_N) for micro in micro_batches)
        lengths_S = np.concatenate(lengths).astype(np.int64)
        return WorkerShare(
            micro_batches=tuple(micro_batches),
            num_masked=num_masked,
            num_tokens=int(lengths_S.sum()),
            num_salient=num_salient,
            num_salient_masked=num_salient_masked,
            lengths_S=lengths_S,
            global_rows_R=global_rows,
        )


def pack_rows(
    batch: RowBatch, *, input_RL: NDArray[np.int64], selected_RL: NDArray[np.bool_], device: torch.device
) -> PackedBatch:
    """Return the rows' segments concatenated without padding; labels are the original ids at the selected positions."""
    selected_T = selected_RL[batch.valid_RL]
    masked_N = np.flatnonzero(selected_T)
    return PackedBatch(
        input_ids_T=torch.from_numpy(input_RL[batch.valid_RL]).to(device),
        layout=SegmentLayout.build(batch.lengths_S.tolist(), device=device),
        masked_N=torch.from_numpy(masked_N).to(device),
        labels_N=torch.from_numpy(batch.ids_RL[batch.valid_RL][masked_N]).to(device),
    )


def row_chunks(num_rows: int, *, size: int) -> Iterator[NDArray[np.int64]]:
    """Yield the row numbers 0 ... num_rows-1 in chunks of ``size``."""
    for start in range(0, num_rows, size):
        yield np.arange(start, min(start + size, num_rows))
