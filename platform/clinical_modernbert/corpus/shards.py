"""The shard format: fixed-length rows in memory-mappable NumPy files, read by row number.

A shard is four files below ``length-<L>/<split>/``, named by number and array:

    00000.ids.npy       [R, L]    token ids, uint16 where the vocabulary allows, else uint32
    00000.salient.npy   [R, L/8]  one bit a token: part of a clinical term
    00000.rows.npy      [R + 1]   first segment of each row
    00000.segments.npy  [S]       length, source and document key of each segment

Nothing in them is pickled. Legend: R rows, L places a row, S segments.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.artifacts import Artifact
from clinical_modernbert.corpus.packing import Segments
from clinical_modernbert.errors import ArtifactError

SEGMENT = np.dtype([("length", "<u4"), ("source", "<u2"), ("document", "<u8")])
ARRAYS = ("ids", "salient", "rows", "segments")


def shard_path(row_length: int, split: str, number: int, array: str) -> str:
    """Return the path of one of a shard's ``ARRAYS`` below its corpus."""
    return f"length-{row_length}/{split}/{number:05d}.{array}.npy"


def id_dtype(vocabulary_size: int) -> np.dtype[np.unsignedinteger]:
    """Return uint16 where every id fits, else uint32."""
    return np.dtype("<u2") if vocabulary_size <= 2**16 else np.dtype("<u4")


@dataclass(frozen=True, slots=True)
class TokenTable:
    """Tokenised documents as flat arrays, in their order: the input of packing."""

    ids_N: NDArray[np.unsignedinteger]  # uint16 or uint32
    salient_N: NDArray[np.bool_]
    lengths_D: NDArray[np.int64]
    sources_D: NDArray[np.int64]
    keys_D: NDArray[np.uint64]


def render_rows(
    table: TokenTable,
    segments: Segments,
    rows: list[list[int]],
    *,
    row_length: int,
    cls_id: int,
    sep_id: int,
    pad_id: int,
) -> dict[str, NDArray[np.generic]]:
    """Return the ``ARRAYS`` of a shard by name."""
    ids = np.full((len(rows), row_length), pad_id, dtype=table.ids_N.dtype)
    salient = np.zeros((len(rows), row_length), dtype=bool)
    records = np.empty(len(segments.length), dtype=SEGMENT)
    offsets = np.zeros(len(rows) + 1, dtype=np.int64)
    number = 0
    for r, row in enumerate(rows):
        place = 0
        for segment in row:
            start, length = int(segments.start[segment]), int(segments.length[segment])
            ids[r, place] = cls_id
            ids[r, place + 1 : place + 1 + length] = table.ids_N[start : start + length]
            ids[r, place + 1 + length] = sep_id
            salient[r, place + 1 : place + 1 + length] = table.salient_N[start : start + length]
            document = segments.document[segment]
            records[number] = (length + 2, table.sources_D[document], table.keys_D[document])
            number += 1
            place += length + 2
        offsets[r + 1] = number
    return {"ids": ids, "salient": np.packbits(salient, axis=1), "rows": offsets, "segments": records}


@dataclass(frozen=True, slots=True)
class RowBatch:
    """Rows read from a corpus, as arrays for masking and batching."""

    ids_RL: NDArray[np.int64]
    salient_RL: NDArray[np.bool_]
    valid_RL: NDArray[np.bool_]
    """True at tokens, False at the padding after the last segment."""
    lengths_S: NDArray[np.int64]
    """Tokens of each segment, row after row."""
    sources_S: NDArray[np.int64]
    documents_S: NDArray[np.uint64]
    rows_S: NDArray[np.int64]
    """Row of the batch that holds each segment."""


def row_lengths(corpus: Artifact) -> dict[int, dict[str, list[int]]]:
    """Return the row lengths of a corpus, each with its split -> rows of each shard."""
    return {int(length): of_length for length, of_length in corpus.summary["rows"].items()}


class PackedRows:
    """One split of one or more corpora at one row length; rows are numbered over all shards, corpus after corpus.

    Files are opened on their first use, checked against the manifest, and memory-mapped.
    """

    def __init__(self, *corpora: Artifact, row_length: int, split: str, cache_path: Path | None = None) -> None:
        self._cache_path = cache_path
        self._shards: list[tuple[Artifact, int]] = []
        """Corpus of each shard, and the shard's number in it."""
        self.ranges: list[range] = []
        """The rows of each corpus, in the order given."""
        counts: list[int] = []
        for corpus in corpora:
            available = row_lengths(corpus)
            if row_length not in available:
                raise ArtifactError(f"{corpus.uri} has rows of {sorted(available)} tokens, not of {row_length}: build it with "
                                    f"packing.sequence_lengths=[{row_length}]")  # fmt: skip
            of_corpus = available[row_length][split]
            self._shards += [(corpus, number) for number in range(len(of_corpus))]
            self.ranges.append(range(sum(counts), sum(counts) + sum(of_corpus)))
            counts += of_corpus
        self._counts = np.array(counts, dtype=np.int64)
        self.row_length = row_length
        self.split = split
        self._open: dict[int, dict[str, NDArray[np.generic]]] = {}

    def __len__(self) -> int:
        return int(self._counts.sum())

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        return np.cumsum(self._counts)

    def read(self, rows_R: NDArray[np.int64]) -> RowBatch:
        """Return the rows with these numbers, in this order."""
        if len(rows_R) and (rows_R.min() < 0 or rows_R.max() >= len(self)):
            raise IndexError(f"rows {rows_R.min()} to {rows_R.max()} of a split with {len(self)}")
        ids = np.empty((len(rows_R), self.row_length), dtype=np.int64)
        bits = np.empty((len(rows_R), self.row_length // 8), dtype=np.uint8)
        segments = []
        shards = np.searchsorted(self._ends, rows_R, side="right")
        for i, (shard, row) in enumerate(zip(shards.tolist(), rows_R.tolist(), strict=True)):
            arrays = self._shard(shard)
            local = row - int(self._ends[shard] - self._counts[shard])
            ids[i] = arrays["ids"][local]
            bits[i] = arrays["salient"][local]
            first, last = arrays["rows"][local : local + 2]
            segments.append(arrays["segments"][first:last])
        joined = np.concatenate(segments) if segments else np.empty(0, dtype=SEGMENT)
        lengths = joined["length"].astype(np.int64)
        rows_S = np.repeat(np.arange(len(rows_R)), [len(records) for records in segments])
        used = np.bincount(rows_S, weights=lengths, minlength=len(rows_R)).astype(np.int64)
        return RowBatch(
            ids_RL=ids,
            salient_RL=np.unpackbits(bits, axis=1).astype(bool),
            valid_RL=np.arange(self.row_length)[None, :] < used[:, None],
            lengths_S=lengths,
            sources_S=joined["source"].astype(np.int64),
            documents_S=joined["document"],
            rows_S=rows_S,
        )

    def _shard(self, number: int) -> dict[str, NDArray[np.generic]]:
        if number not in self._open:
            corpus, in_corpus = self._shards[number]
            paths = {name: shard_path(self.row_length, self.split, in_corpus, name) for name in ARRAYS}
            files = {name: corpus.file(path, cache_path=self._cache_path) for name, path in paths.items()}
            self._open[number] = {
                name: np.load(path, mmap_mode="r", allow_pickle=False) for name, path in files.items()
            }
        return self._open[number]
