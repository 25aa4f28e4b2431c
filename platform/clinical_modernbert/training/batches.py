"""From rows to packed batches of tensors: read, mask, remove the padding.

Legend: R rows, L places a row, T tokens, N predicted tokens, S segments, C corpora of the phase.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from clinical_modernbert.artifacts import Artifact
from clinical_modernbert.corpus.shards import PackedRows, RowBatch
from clinical_modernbert.encoder import PackedBatch, SegmentLayout
from clinical_modernbert.errors import ModelError
from clinical_modernbert.masking import Masker
from clinical_modernbert.training.phases import Phase, phase_at
from clinical_modernbert.training.row_order import RowOrder


@dataclass(frozen=True, slots=True)
class WorkerShare:
    """One worker's share of a step's global batch."""

    micro_batches: tuple[PackedBatch, ...]
    num_masked: int
    """Predicted tokens: masked ones, or in a causal phase every token but the first of its segment."""
    tokens_C: NDArray[np.int64]
    """Tokens of each corpus of the phase."""
    num_salient: int
    """Tokens of clinical terms."""
    num_salient_masked: int
    lengths_S: NDArray[np.int64]
    """Tokens of each segment."""
    global_rows_R: NDArray[np.int64]
    """Row numbers of the whole global batch, the same on every worker."""


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """Training rows of one length: of one corpus after the other, numbered through."""

    rows: PackedRows
    ranges: dict[str, range]
    """The rows of each corpus."""

    @classmethod
    def open(cls, corpora: Mapping[str, Artifact], *, row_length: int) -> "TrainingRows":
        """Open the rows of the corpora; raises ``ModelError`` where one has none."""
        rows = PackedRows(*corpora.values(), row_length=row_length, split="train")
        ranges = dict(zip(corpora, rows.ranges, strict=True))
        empty = [corpora[name].uri for name, numbers in ranges.items() if not numbers]
        if empty:
            raise ModelError(f"{empty[0]} has no training rows of {row_length} tokens")
        return cls(rows, ranges)


@dataclass(frozen=True, slots=True)
class BatchSource:
    """Makes each step's batches for one worker."""

    phases: tuple[Phase, ...]
    rows: dict[int, TrainingRows]
    """By row length."""
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
        rows = self.rows[phase.sequence_length].rows
        corpus_R, global_rows = self._global_rows(phase, step, skipped=skipped)
        num_rows = len(global_rows) // self.world_size
        first = self.rank * num_rows
        tokens_C = np.zeros(len(phase.mixture.corpora), dtype=np.int64)
        micro_batches, lengths, num_salient, num_salient_masked = [], [], 0, 0
        for start in range(first, first + num_rows, phase.micro_batch_rows):
            places = np.arange(start, start + phase.micro_batch_rows)
            batch = rows.read(global_rows[places])
            if phase.section.objective == "causal":
                micro_batches.append(pack_causal(batch, device=self.device))
            else:
                ids, selected = self.masker.mask(
                    batch.ids_RL, salient_RL=batch.salient_RL, valid_RL=batch.valid_RL, rows_R=places, step=step
                )
                micro_batches.append(pack_rows(batch, input_RL=ids, selected_RL=selected, device=self.device))
                num_salient_masked += int((batch.salient_RL & selected).sum())
            lengths.append(batch.lengths_S)
            np.add.at(tokens_C, corpus_R[places][batch.rows_S], batch.lengths_S)
            num_salient += int((batch.salient_RL & batch.valid_RL).sum())
        return WorkerShare(
            micro_batches=tuple(micro_batches),
            num_masked=sum(len(micro.labels_N) for micro in micro_batches),
            tokens_C=tokens_C,
            num_salient=num_salient,
            num_salient_masked=num_salient_masked,
            lengths_S=np.concatenate(lengths).astype(np.int64),
            global_rows_R=global_rows,
        )

    def _global_rows(self, phase: Phase, step: int, *, skipped: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the corpus and the row of each place of the step's global batch."""
        mixture, place = phase.mixture, phase.place(step, skipped=skipped)
        corpus_R = mixture.numbers(place, phase.batch_rows(step), seed=self.seed)
        taken_C = mixture.taken(place, seed=self.seed)
        found = np.empty(len(corpus_R), dtype=np.int64)
        for number, name in enumerate(mixture.corpora):
            of_corpus, numbers = corpus_R == number, self.rows[phase.sequence_length].ranges[name]
            # A corpus's rows of the batch follow each other in its own order.
            order = RowOrder(num_rows=len(numbers), batch_rows=int(of_corpus.sum()), seed=self.seed)
            found[of_corpus] = numbers.start + order.rows_from(int(taken_C[number]))
        return corpus_R, found


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


def pack_causal(batch: RowBatch, *, device: torch.device) -> PackedBatch:
    """Return the rows' segments concatenated without padding, each token's successor in its segment as its label.

    Example: segments a b c and d e have the labels b, c and e at the places of a, b and d.
    """
    ids_T = batch.ids_RL[batch.valid_RL]
    has_successor_T = np.ones(len(ids_T), dtype=bool)
    has_successor_T[np.cumsum(batch.lengths_S) - 1] = False
    place_N = np.flatnonzero(has_successor_T)
    return PackedBatch(
        input_ids_T=torch.from_numpy(ids_T).to(device),
        layout=SegmentLayout.build(batch.lengths_S.tolist(), device=device, causal=True),
        masked_N=torch.from_numpy(place_N).to(device),
        labels_N=torch.from_numpy(ids_T[place_N + 1]).to(device),
    )


def row_chunks(num_rows: int, *, size: int) -> Iterator[NDArray[np.int64]]:
    """Yield the row numbers 0 ... num_rows-1 in chunks of ``size``."""
    for start in range(0, num_rows, size):
        yield np.arange(start, min(start + size, num_rows))
