"""Step 3, one task a piece: documents -> token ids, salience and counts; step 4, one task a shard: tokens -> packed rows."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from clinical_modernbert.artifacts import upload
from clinical_modernbert.artifacts.work_area import StepResult, WorkArea
from clinical_modernbert.corpus.cut_points import covered, token_ends
from clinical_modernbert.corpus.dedup.exact import Parts, kept_rows, piece_drops
from clinical_modernbert.corpus.encoding import Encoded, WordEncoder
from clinical_modernbert.corpus.packing import pack_documents
from clinical_modernbert.corpus.shards import TokenTable, id_dtype, render_rows, shard_path
from clinical_modernbert.corpus.split import SPLITS
from clinical_modernbert.lexicon import Matcher
from clinical_modernbert.tokenizer import load_tokenizer, padded_vocabulary_size, special_ids

DOCUMENT = np.dtype([("length", "<u4"), ("key", "<u8"), ("held_out", "?")])
_BATCH = 512
_LENGTH_CLASSES = 24  # powers of two that a document's tokens stay below


def read_texts(area: WorkArea, *, piece: int, kept: NDArray[np.bool_]) -> Iterator[list[tuple[str, int, bool]]]:
    """Yield batches of (text, key, held_out) of a piece's kept documents."""
    with tempfile.TemporaryDirectory() as folder:
        path = area.get(f"documents/{piece:09d}.parquet", Path(folder))
        row = 0
        for batch in pq.ParquetFile(path).iter_batches(batch_size=_BATCH):
            chosen = batch.filter(kept[row : row + len(batch)])
            row += len(batch)
            if len(chosen):
                yield list(zip(*(column.to_pylist() for column in chosen.columns), strict=True))


@lru_cache(maxsize=1)
def _tools(store_uri: str, prefix: str) -> tuple[Any, WordEncoder, Matcher]:
    """Tokenizer, encoder and matcher of a build, kept by the worker process for its next pieces."""
    area = WorkArea(store_uri, prefix)
    with tempfile.TemporaryDirectory() as folder:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            local = area.get(f"tokenizer/{name}", Path(folder))
            (Path(folder) / name).write_bytes(local.read_bytes())
        tokenizer = load_tokenizer(Path(folder))
        terms = area.get("lexicon.txt", Path(folder)).read_text(encoding="utf-8").splitlines()
    return tokenizer, WordEncoder(tokenizer), Matcher(terms)


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


def tokenise_piece(area: WorkArea, *, piece: int, source: str, num_rows: int, parts: Parts) -> StepResult:
    """Tokenise one piece's kept documents into ``tokens/<n>.*.npy``; return counts by split."""
    return area.once(f"tokenised/{piece:09d}", lambda: _tokenise(area, piece, source, num_rows, parts))


def _tokenise(area: WorkArea, piece: int, source: str, num_rows: int, parts: Parts) -> StepResult:
    tokenizer, encoder, matcher = _tools(area.store_uri, area.prefix)
    size = padded_vocabulary_size(tokenizer)
    ids, salient, ends, documents = [], [], [], []
    for batch in read_texts(area, piece=piece, kept=kept_rows(area, piece=piece, num_rows=num_rows, parts=parts)):
        texts = [text for text, _, _ in batch]
        encoded = encoder.encode(texts)
        spans = joined_spans(matcher, texts)
        ids.append(encoded.ids_N.astype(id_dtype(size)))
        salient.append(salient_tokens(encoded, spans))
        ends.append(token_ends(texts, encoded, spans))
        documents += [
            (n, key, held_out) for n, (_, key, held_out) in zip(encoded.lengths_D.tolist(), batch, strict=True)
        ]
    flat = np.concatenate(ids) if ids else np.empty(0, dtype=id_dtype(size))
    marks = np.concatenate(salient) if salient else np.empty(0, dtype=bool)
    table = np.array(documents, dtype=DOCUMENT)
    held_out_N = np.repeat(table["held_out"], table["length"])
    area.put_array(flat, f"tokens/{piece:09d}.ids.npy")
    area.put_array(np.concatenate(ends) if ends else np.empty(0, dtype=np.uint8), f"tokens/{piece:09d}.ends.npy")
    area.put_array(marks, f"tokens/{piece:09d}.salient.npy")
    area.put_array(table, f"tokens/{piece:09d}.documents.npy")
    area.put_array(np.bincount(flat[~held_out_N], minlength=size), f"tokens/{piece:09d}.unigram.npy")
    sides = {"train": ~table["held_out"], "held_out": table["held_out"]}
    return {
        "source": source,
        "documents": {split: int(side.sum()) for split, side in sides.items()},
        "tokens": {split: int(table["length"][side].sum()) for split, side in sides.items()},
        "salient_tokens": int(marks.sum()),
        "longest": int(table["length"].max(initial=0)),
        "lengths": np.bincount(np.frexp(table["length"])[1], minlength=_LENGTH_CLASSES).tolist(),
        "dropped": piece_drops(area, piece=piece, parts=parts),
    }


@dataclass(frozen=True, slots=True)
class ShardPiece:
    """One piece's part in a shard."""

    piece: int
    source: int
    """Number of its source in the recipe."""
    epochs: float
    """Times that each of its documents appears."""


def pack_shard(
    area: WorkArea, *, pieces: list[ShardPiece], split: str, row_length: int, number: int, output_prefix: str
) -> StepResult:
    """Pack the tokens of ``pieces`` into one shard of the corpus; return its rows and files."""
    step = f"packed/{row_length}-{split}-{number:05d}"
    return area.once(step, lambda: _pack(area, pieces, split, row_length, number, output_prefix))


def _pack(
    area: WorkArea, pieces: list[ShardPiece], split: str, row_length: int, number: int, output_prefix: str
) -> StepResult:
    assert split in SPLITS, split
    tokenizer, _, _ = _tools(area.store_uri, area.prefix)
    roles = special_ids(tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        loaded = [_load(area, piece, split=split, folder=Path(folder)) for piece in pieces]
        tables = [table for table, _ in loaded]
        ends_N = np.concatenate([ends for _, ends in loaded])
        table = TokenTable(
            ids_N=np.concatenate([t.ids_N for t in tables]),
            salient_N=np.concatenate([t.salient_N for t in tables]),
            lengths_D=np.concatenate([t.lengths_D for t in tables]),
            sources_D=np.concatenate([t.sources_D for t in tables]),
            keys_D=np.concatenate([t.keys_D for t in tables]),
        )
    copies = [num_copies(t.keys_D, epochs=piece.epochs) for t, piece in zip(tables, pieces, strict=True)]
    copies_D = np.concatenate(copies)
    segments, rows = pack_documents(table.lengths_D, row_length=row_length, ends_N=ends_N, copies_D=copies_D)
    arrays = render_rows(
        table, segments, rows, row_length=row_length, cls_id=roles["cls"], sep_id=roles["sep"], pad_id=roles["pad"]
    )
    entries = []
    with tempfile.TemporaryDirectory() as folder:
        for part, array in arrays.items():
            path = Path(folder) / f"{part}.npy"
            np.save(path, array, allow_pickle=False)
            name = shard_path(row_length, split, number, part)
            entries.append(upload(area.store(), output_prefix, name, path).model_dump(mode="json"))
    tokens_D = table.lengths_D * copies_D
    by_source = {str(n): int(tokens_D[table.sources_D == n].sum()) for n in np.unique(table.sources_D).tolist()}
    places = int(segments.length.sum()) + 2 * len(segments.length)
    return {
        "rows": len(rows),
        "segments": len(segments.length),
        "places_used": places,
        "source_tokens": by_source,
        "files": entries,
    }


def num_copies(keys_D: NDArray[np.uint64], *, epochs: float) -> NDArray[np.int64]:
    """Return how often each document appears: the whole part of ``epochs``, and once more where its key says so."""
    share = keys_D.astype(np.float64) / 2.0**64
    return int(epochs) + (share < epochs % 1.0).astype(np.int64)


def _load(area: WorkArea, piece: ShardPiece, *, split: str, folder: Path) -> tuple[TokenTable, NDArray[np.uint8]]:
    ids, salient, documents, ends = (
        area.get_array(f"tokens/{piece.piece:09d}.{p}.npy", folder) for p in ("ids", "salient", "documents", "ends")
    )
    chosen_D = documents["held_out"] == (split == "held_out")
    chosen_N = np.repeat(chosen_D, documents["length"])
    table = TokenTable(
        ids_N=ids[chosen_N],
        salient_N=salient[chosen_N],
        lengths_D=documents["length"][chosen_D].astype(np.int64),
        sources_D=np.full(int(chosen_D.sum()), piece.source, dtype=np.int64),
        keys_D=documents["key"][chosen_D],
    )
    return table, np.asarray(ends[chosen_N])
