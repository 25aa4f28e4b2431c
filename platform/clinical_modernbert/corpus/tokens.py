"""Steps 3 and 4 of a build: documents -> token ids, salience and counts, one task a piece; tokens -> packed rows, one a
group of pieces."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from clinical_modernbert.artifacts import upload
from clinical_modernbert.artifacts.work_area import WorkArea
from clinical_modernbert.corpus import SPLITS
from clinical_modernbert.corpus.cut_points import covered, token_ends
from clinical_modernbert.corpus.dedup.exact import kept_rows, piece_drops
from clinical_modernbert.corpus.encoding import Encoded, WordEncoder
from clinical_modernbert.corpus.packing import pack_documents
from clinical_modernbert.corpus.piece_files import Piece, PieceId
from clinical_modernbert.corpus.results import Packed, PackedGroup, Partitions, Tokenised
from clinical_modernbert.corpus.shards import TokenTable, id_dtype, render_rows, shard_path
from clinical_modernbert.lexicon import Matcher
from clinical_modernbert.tokenizer import load_tokenizer, padded_vocabulary_size, special_ids

DOCUMENT = np.dtype([("length", "<u4"), ("key", "<u8"), ("held_out", "?")])
_BATCH = 512
_LENGTH_CLASSES = 24  # powers of two that a document's tokens stay below


@dataclass(frozen=True, slots=True)
class Tools:
    """What tokenising needs: the tokenizer, its table of words, and the matcher of the lexicon's terms."""

    tokenizer: PreTrainedTokenizerFast
    encoder: WordEncoder
    matcher: Matcher


@lru_cache(maxsize=1)
def load_tools(area: WorkArea) -> Tools:
    """Return the tools of a build; the worker process keeps them for its next pieces."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            local = area.get(f"tokenizer/{name}", Path(folder))
            (Path(folder) / name).write_bytes(local.read_bytes())
        tokenizer = load_tokenizer(Path(folder))
        terms = area.get("lexicon.txt", Path(folder)).read_text(encoding="utf-8").splitlines()
    return Tools(tokenizer, WordEncoder(tokenizer), Matcher(terms))


def read_texts(area: WorkArea, *, piece: PieceId, kept: NDArray[np.bool_]) -> Iterator[list[tuple[str, int, bool]]]:
    """Yield batches of (text, key, held_out) of a piece's kept documents."""
    with tempfile.TemporaryDirectory() as folder:
        path = area.get(f"documents/{piece}.parquet", Path(folder))
        row = 0
        for batch in pq.ParquetFile(path).iter_batches(batch_size=_BATCH):
            kept_batch = batch.filter(kept[row : row + len(batch)])
            row += len(batch)
            if len(kept_batch):
                yield list(zip(*(column.to_pylist() for column in kept_batch.columns), strict=True))


def salient_tokens(encoded: Encoded, spans_M2: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which tokens overlap a clinical term; ``spans_M2`` are offsets into the batch's joined texts."""
    first = np.searchsorted(encoded.ends_N, spans_M2[:, 0], "right")
    return covered(first, np.searchsorted(encoded.starts_N, spans_M2[:, 1], "left"), size=len(encoded.ids_N))


def joined_spans(matcher: Matcher, texts: list[str]) -> NDArray[np.int64]:
    """Return [start, end) of the clinical terms of a batch, as offsets into its joined texts."""
    spans = []
    base = 0
    for text in texts:
        spans += [(base + start, base + end) for start, end in matcher.spans(text)]
        base += len(text)
    return np.array(spans, dtype=np.int64).reshape(-1, 2)


def tokenise_piece(area: WorkArea, piece: Piece, *, partitions: Partitions) -> Tokenised:
    """Tokenise one piece's kept documents into ``tokens/<n>.*.npy``; return counts by split."""
    return area.once(f"tokenised/{piece.id}", lambda: tokenise(area, piece, partitions), Tokenised)


def tokenise(area: WorkArea, piece: Piece, partitions: Partitions) -> Tokenised:
    """As ``tokenise_piece``, without its done-marker."""
    tools = load_tools(area)
    size = padded_vocabulary_size(tools.tokenizer)
    ids, salient, ends, documents = [], [], [], []
    for batch in read_texts(area, piece=piece.id, kept=kept_rows(area, piece=piece, partitions=partitions)):
        texts = [text for text, _, _ in batch]
        encoded = tools.encoder.encode(texts)
        spans = joined_spans(tools.matcher, texts)
        ids.append(encoded.ids_N.astype(id_dtype(size)))
        salient.append(salient_tokens(encoded, spans))
        ends.append(token_ends(texts, encoded, spans))
        documents += [
            (n, key, held_out) for n, (_, key, held_out) in zip(encoded.lengths_D.tolist(), batch, strict=True)
        ]
    flat = np.concatenate(ids) if ids else np.empty(0, dtype=id_dtype(size))
    marks = np.concatenate(salient) if salient else np.empty(0, dtype=bool)
    table = np.array(documents, dtype=DOCUMENT)
    last = np.concatenate(ends) if ends else np.empty(0, dtype=np.uint8)
    # One file: a piece is read once for each split.
    area.put_arrays({"ids": flat, "ends": last, "salient": marks, "documents": table}, f"tokens/{piece.id}.npz")
    sides = {"train": ~table["held_out"], "held_out": table["held_out"]}
    return Tokenised(
        source=piece.source,
        documents={split: int(side.sum()) for split, side in sides.items()},
        tokens={split: int(table["length"][side].sum()) for split, side in sides.items()},
        salient_tokens=int(marks.sum()),
        longest=int(table["length"].max(initial=0)),
        lengths=tuple(np.bincount(np.frexp(table["length"])[1], minlength=_LENGTH_CLASSES).tolist()),
        dropped=piece_drops(area, piece=piece.id, partitions=partitions),
    )


@dataclass(frozen=True, slots=True)
class ShardSegment:
    """The documents of one piece in a shard."""

    piece: PieceId
    source: int
    """Number of its source in the recipe."""
    epochs: float
    """Times that each of its documents appears."""


@dataclass(frozen=True, slots=True)
class ShardGroup:
    """The documents of one shard of every row length: what one packing task makes, because it reads them once."""

    split: str
    number: int
    segments: tuple[ShardSegment, ...]


def pack_group(area: WorkArea, group: ShardGroup, *, row_lengths: Sequence[int], output_prefix: str) -> PackedGroup:
    """Pack the tokens of a group's pieces into rows of each length below ``output_prefix``; return counts and files."""
    step = f"packed/{group.split}-{group.number:05d}"
    return area.once(step, lambda: _pack(area, group, row_lengths, output_prefix), PackedGroup)


def unigram_name(group: ShardGroup) -> str:
    """Return the name of the file with how often each token is in a group's training text of each source."""
    return f"unigram/{group.number:05d}.npz"


def _pack(area: WorkArea, group: ShardGroup, row_lengths: Sequence[int], output_prefix: str) -> PackedGroup:
    assert group.split in SPLITS, group.split
    tokenizer = load_tools(area).tokenizer
    with tempfile.TemporaryDirectory() as folder:
        loaded = [_load(area, segment, split=group.split, folder=Path(folder)) for segment in group.segments]
    table = _joined([table for table, _ in loaded])
    ends_N = np.concatenate([ends for _, ends in loaded])
    copies_D = np.concatenate(
        [num_copies(t.keys_D, epochs=s.epochs) for (t, _), s in zip(loaded, group.segments, strict=True)]
    )
    if group.split == "train":
        tables = [table for table, _ in loaded]
        area.put_arrays(_unigrams(group.segments, tables, size=padded_vocabulary_size(tokenizer)), unigram_name(group))
    del loaded
    rows = _Rows(table, ends_N, copies_D, special_ids(tokenizer))
    return PackedGroup(tuple(_pack_rows(area, group, rows, length, output_prefix) for length in row_lengths))


def _unigrams(
    segments: Sequence[ShardSegment], tables: Sequence[TokenTable], *, size: int
) -> dict[str, NDArray[np.int64]]:
    """Return how often each token is in the text of each source, by the source's number; table by table, because a count takes
    eight bytes a token."""
    counts: dict[str, NDArray[np.int64]] = {}
    for segment, table in zip(segments, tables, strict=True):
        name = str(segment.source)
        counts[name] = counts.get(name, 0) + np.bincount(table.ids_N, minlength=size)
    return counts


@dataclass(frozen=True, slots=True)
class _Rows:
    """What the shards of all row lengths are made of."""

    table: TokenTable
    ends_N: NDArray[np.uint8]
    copies_D: NDArray[np.int64]
    roles: Mapping[str, int]


def _pack_rows(area: WorkArea, group: ShardGroup, made_of: _Rows, row_length: int, output_prefix: str) -> Packed:
    table, copies_D, roles = made_of.table, made_of.copies_D, made_of.roles
    segments, rows = pack_documents(table.lengths_D, row_length=row_length, ends_N=made_of.ends_N, copies_D=copies_D)
    arrays = render_rows(
        table,
        segments,
        rows,
        row_length=row_length,
        cls_id=roles["cls"],
        sep_id=roles["sep"],
        pad_id=roles["pad"],
    )
    entries = []
    with tempfile.TemporaryDirectory() as folder:
        for name, array in arrays.items():
            path = Path(folder) / f"{name}.npy"
            np.save(path, array, allow_pickle=False)
            target = shard_path(row_length, group.split, group.number, name)
            entries.append(upload(area.store(), output_prefix, target, path))
    tokens_D = table.lengths_D * copies_D
    return Packed(
        row_length=row_length,
        split=group.split,
        rows=len(rows),
        segments=len(segments.length),
        places_used=int(segments.length.sum()) + 2 * len(segments.length),
        source_tokens={n: int(tokens_D[table.sources_D == n].sum()) for n in np.unique(table.sources_D).tolist()},
        files=tuple(entries),
    )


def num_copies(keys_D: NDArray[np.uint64], *, epochs: float) -> NDArray[np.int64]:
    """Return how often each document appears: the whole part of ``epochs``, and once more where its key says so."""
    share = keys_D.astype(np.float64) / 2.0**64
    return int(epochs) + (share < epochs % 1.0).astype(np.int64)


def _load(area: WorkArea, segment: ShardSegment, *, split: str, folder: Path) -> tuple[TokenTable, NDArray[np.uint8]]:
    arrays = area.get_arrays(f"tokens/{segment.piece}.npz", folder)
    ids, salient, documents, ends = (arrays[name] for name in ("ids", "salient", "documents", "ends"))
    of_split_D = documents["held_out"] == (split == "held_out")
    of_split_N = np.repeat(of_split_D, documents["length"])
    table = TokenTable(
        ids_N=ids[of_split_N],
        salient_N=salient[of_split_N],
        lengths_D=documents["length"][of_split_D].astype(np.int64),
        sources_D=np.full(int(of_split_D.sum()), segment.source, dtype=np.int64),
        keys_D=documents["key"][of_split_D],
    )
    return table, np.asarray(ends[of_split_N])


def _joined(tables: Sequence[TokenTable]) -> TokenTable:
    return TokenTable(
        ids_N=np.concatenate([table.ids_N for table in tables]),
        salient_N=np.concatenate([table.salient_N for table in tables]),
        lengths_D=np.concatenate([table.lengths_D for table in tables]),
        sources_D=np.concatenate([table.sources_D for table in tables]),
        keys_D=np.concatenate([table.keys_D for table in tables]),
    )
