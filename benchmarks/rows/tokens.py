"""Texts to token files in two processes, as two workers do it, against ``datasets.map`` at its best on the same two cores.

Ours is the build's step: from a Parquet file of documents to files of ids, salience, sentence ends and counts. The peer
turns an Arrow table of the same texts into one of ids, by the tokenizers library without offsets; both ways that its
maintainers name are timed in the check, batches with the library's threads and ``num_proc=2``, and the faster one is measured.
The bound is the library alone: ``encode_batch_fast`` in its threads, without storing the result.

Every round begins with an empty word table, without the words of the round before.
"""

import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from clinical_modernbert.artifacts.work_area import WorkArea
from clinical_modernbert.corpus.piece_files import SCHEMA, Piece, PieceId
from clinical_modernbert.corpus.results import Partitions
from clinical_modernbert.corpus.tokens import load_tools, tokenise
from clinical_modernbert.lexicon import build_terms
from clinical_modernbert.recipe.corpus import LexiconSection, TokenizerSection
from clinical_modernbert.tokenizer import build_tokenizer
from transformers import PreTrainedTokenizerFast

from benchmarks.harness import Row
from benchmarks.kits.real_texts import real_texts, varied

_UNITS = 2
_COPIES = 8
_BATCH = 1000


def build(scratch: Path) -> Row:
    """Write the documents to ``scratch`` and return the row; ``SourceError`` where real data is missing."""
    datasets.disable_progress_bars()
    real = [text for texts in real_texts().values() for text in texts]
    texts = [text for text in varied(real, copies=_COPIES) if text]
    tokenizer = build_tokenizer(TokenizerSection(base="train", vocabulary_size=32_768), texts, clinical_words=set())
    area = _prepare(scratch, tokenizer, texts)
    num_tokens = sum(len(e.ids) for e in tokenizer.backend_tokenizer.encode_batch_fast(texts, add_special_tokens=False))
    table = datasets.Dataset.from_dict({"text": texts})
    table.save_to_disk(str(scratch / "texts"))
    table = datasets.load_from_disk(str(scratch / "texts"))
    pool = ProcessPoolExecutor(_UNITS, mp_context=get_context("spawn"))

    def ours() -> int:
        return sum(pool.map(_tokenise, [area] * _UNITS, range(_UNITS), _rows(len(texts))))

    def mapped(num_proc: int | None) -> datasets.Dataset:
        _use_threads()
        return table.map(
            _encode, batched=True, batch_size=_BATCH, num_proc=num_proc, remove_columns=["text"],
            load_from_cache_file=False, fn_kwargs={"tokenizer": tokenizer},
            features=datasets.Features({"ids": datasets.Sequence(datasets.Value("uint16"))}),
        )  # fmt: skip

    ways: dict[str, int | None] = {"threads": None, "num_proc=2": 2}
    chosen: list[int | None] = []

    def check() -> dict[str, Any]:
        ours()
        made = [area.get_array(f"tokens/{PieceId(0, unit)}.ids.npy", scratch) for unit in range(_UNITS)]
        flat = np.concatenate(made)
        for name, num_proc in ways.items():
            found = mapped(num_proc).with_format("numpy")["ids"]
            if not (np.concatenate(list(found)) == flat).all() or len(flat) != num_tokens:
                raise AssertionError(f"the ids of datasets.map ({name}) differ")
        seconds = {name: _seconds(lambda n=num_proc: mapped(n)) for name, num_proc in ways.items()}
        chosen.append(ways[min(seconds, key=lambda name: seconds[name])])
        return {"texts": len(texts), "tokens": num_tokens, "peer_seconds": seconds, "peer_chosen": str(chosen[0])}

    def other() -> int:
        mapped(chosen[0])
        return num_tokens

    def bound() -> int:
        _use_threads()
        for at in range(0, len(texts), _BATCH):
            tokenizer.backend_tokenizer.encode_batch_fast(texts[at : at + _BATCH], add_special_tokens=False)
        return num_tokens

    return Row(
        name="tokens", unit="tokens", peer=f"datasets.map {version('datasets')}", check=check, ours=ours, other=other,
        bound=bound, target="1.3 times; 0.95 of tokenizers alone",
    )  # fmt: skip


def _prepare(scratch: Path, tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> WorkArea:
    """Return a work area as the passes before leave it."""
    area = WorkArea(f"file://{scratch / 'store'}", "work/corpus/bench")
    tokenizer.save_pretrained(scratch / "tokenizer")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        area.put(scratch / "tokenizer" / file, f"tokenizer/{file}")
    (scratch / "lexicon.txt").write_text("\n".join(build_terms(LexiconSection())))
    area.put(scratch / "lexicon.txt", "lexicon.txt")
    first = 0
    for unit, rows in enumerate(_rows(len(texts))):
        columns = [pa.array(texts[first : first + rows]), pa.array(range(first, first + rows), pa.uint64())]
        documents = pa.table([*columns, pa.array([False] * rows)], schema=SCHEMA)
        pq.write_table(documents, scratch / "documents.parquet", compression="zstd")
        area.put(scratch / "documents.parquet", f"documents/{PieceId(0, unit)}.parquet")
        first += rows
    return area


def _rows(num_texts: int) -> list[int]:
    return [num_texts // _UNITS + (unit < num_texts % _UNITS) for unit in range(_UNITS)]


def _tokenise(area: WorkArea, unit: int, num_rows: int) -> int:
    load_tools(area).encoder.forget()
    step = tokenise(area, Piece(PieceId(0, unit), "bench", num_rows), Partitions())
    return int(sum(step.tokens.values()))


def _encode(batch: dict[str, list[str]], tokenizer: PreTrainedTokenizerFast) -> dict[str, list[list[int]]]:
    encoded = tokenizer.backend_tokenizer.encode_batch_fast(batch["text"], add_special_tokens=False)
    return {"ids": [encoding.ids for encoding in encoded]}


def _use_threads() -> None:
    """``datasets`` switches the library's threads off for its own processes, and does not switch them on again."""
    os.environ["TOKENIZERS_PARALLELISM"] = "true"


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
