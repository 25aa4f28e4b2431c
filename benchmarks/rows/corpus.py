"""PubMed files to packed rows of 1,024, against a script of pubmed_parser and ``datasets.map`` on the same two cores.

The script is what a researcher would write: ``parse_medline_xml`` in a pool of two, a data set, batched tokenising in the
library's threads, rows of 1,024 by concatenating and cutting, ``save_to_disk``. It has no filters, versions, duplicates,
identifiers, salience or manifest; ours has them all. The check proves that both have the same documents with the same token
ids.
"""

import os
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from clinical_modernbert.artifacts import Artifact, make_plan, open_store
from clinical_modernbert.corpus.build import build_corpus
from clinical_modernbert.corpus.fingerprint_inputs import fingerprint_inputs
from clinical_modernbert.corpus.shards import PackedRows
from clinical_modernbert.errors import SourceError
from clinical_modernbert.recipe import CorpusRecipe, build_recipe
from clinical_modernbert.recipe.corpus import TokenizerSection
from clinical_modernbert.sources.document import key_of
from clinical_modernbert.tokenizer import build_tokenizer, load_tokenizer
from transformers import PreTrainedTokenizerFast

from benchmarks.harness import Row
from benchmarks.kits.real_texts import real_texts, varied_citations, write_citations

FILES = 2
CITATIONS_A_FILE = 30_000  # as NLM's files hold
ROW_LENGTH = 1024


def build(scratch: Path) -> Row:
    """Write the files to ``scratch`` and return the row; ``SourceError`` where real data or the peer is missing."""
    try:
        import pubmed_parser  # type: ignore[import-untyped]  # noqa: F401 - its tasks need it
    except ImportError:
        raise SourceError("the peer is not installed: pip install clinical-modernbert[bench]") from None
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    datasets.disable_progress_bars()
    write_inputs(scratch, num_files=FILES, citations_a_file=CITATIONS_A_FILE)
    tokenizer = load_tokenizer(scratch / "tokenizer")
    files = sorted(map(str, (scratch / "raw").iterdir()))
    pool = ProcessPoolExecutor(2, mp_context=get_context("spawn"))
    runs = count()

    def ours() -> int:
        run_build(scratch, name=f"ours{next(runs)}")
        return FILES * CITATIONS_A_FILE

    def other() -> int:
        script(files, tokenizer, pool, scratch / f"peer{next(runs)}")
        return FILES * CITATIONS_A_FILE

    def check() -> dict[str, Any]:
        corpus = run_build(scratch, name="check")
        made = documents_of(corpus)
        theirs = script(files, tokenizer, pool, scratch / "peer")
        account = corpus.summary["sources"]["pubmed"]
        if set(made) - set(theirs) or len(made) != sum(account["documents"].values()):
            raise AssertionError("ours holds documents that the peer has not")
        if any(made[key] != theirs[key] for key in made):
            raise AssertionError("the token ids of a document differ")
        return {
            "documents": len(made),
            "peer_documents": len(theirs),
            "dropped": account["dropped"],
            "fill": corpus.summary["fill"],
        }

    return Row(
        name="corpus", unit="citations", check=check, ours=ours, other=other, target="3 times",
        peer=f"pubmed_parser {version('pubmed_parser')} + datasets.map {version('datasets')}",
    )  # fmt: skip


def write_inputs(scratch: Path, *, num_files: int, citations_a_file: int) -> None:
    """Write ``raw/`` with NLM's file names, and ``tokenizer/``."""
    (scratch / "raw").mkdir()
    citations = varied_citations(num_files * citations_a_file)
    for number in range(num_files):
        part = (next(citations) for _ in range(citations_a_file))
        write_citations(scratch / "raw" / f"pubmed26n{number + 1:04d}.xml.gz", part)
    texts = real_texts()["abstracts"]
    section = TokenizerSection(base="train", vocabulary_size=16_384)
    build_tokenizer(section, texts, clinical_words=set()).save_pretrained(scratch / "tokenizer")


def run_build(scratch: Path, *, name: str, raw: str = "raw") -> Artifact:
    """Build a corpus of the files of ``raw`` with the defaults of the recipe."""
    values = {
        "kind": "corpus",
        "name": name,
        "sources": [{"type": "pubmed", "name": "pubmed", "path": str(scratch / raw)}],
        "tokenizer": {"base": str(scratch / "tokenizer")},
        "packing": {"sequence_lengths": [ROW_LENGTH], "shard_tokens": 4_194_304},
    }
    recipe = build_recipe(CorpusRecipe, values, origin="bench")
    return build_corpus(make_plan(recipe, open_store(str(scratch / "store")), raw_inputs=fingerprint_inputs(recipe)))


def documents_of(corpus: Artifact) -> dict[int, list[int]]:
    """Return each document's sorted token ids by its key; sorted, since pieces of a document lie in several rows."""
    found: dict[int, list[int]] = {}
    for split in ("train", "held_out"):
        rows = PackedRows(corpus, row_length=ROW_LENGTH, split=split)
        for first in range(0, len(rows), 1000):
            batch = rows.read(np.arange(first, min(first + 1000, len(rows))))
            tokens = batch.ids_RL[batch.valid_RL]
            ends = np.cumsum(batch.lengths_S)
            for key, end, length in zip(
                batch.documents_S.tolist(), ends.tolist(), batch.lengths_S.tolist(), strict=True
            ):
                found.setdefault(key, []).extend(tokens[end - length + 1 : end - 1].tolist())
    return {key: sorted(ids) for key, ids in found.items()}


def script(
    files: list[str], tokenizer: PreTrainedTokenizerFast, pool: ProcessPoolExecutor, out: Path
) -> dict[int, list[int]] | None:
    """The peer: parse, tokenise, join and cut, save. Returns the documents' sorted ids for the check's folder ``peer`` only."""
    records = [record for part in pool.map(_parse, files) for record in part]
    texts = [f"{title}\n\n{abstract}" for _, title, abstract in records]
    table = datasets.Dataset.from_dict({"text": texts})
    encode = {"tokenizer": tokenizer}
    ids = table.map(_encode, batched=True, remove_columns=["text"], fn_kwargs=encode, load_from_cache_file=False)
    rows = ids.map(_group, batched=True, load_from_cache_file=False)
    rows.save_to_disk(str(out))
    if out.name != "peer":
        return None
    special = {tokenizer.cls_token_id, tokenizer.sep_token_id}
    return {
        key_of("pubmed", pmid): sorted(i for i in found if i not in special)
        for (pmid, _, _), found in zip(records, ids["input_ids"], strict=True)
    }


def _parse(file: str) -> list[tuple[str, str, str]]:
    from pubmed_parser import parse_medline_xml

    return [(r["pmid"], r["title"], r["abstract"]) for r in parse_medline_xml(file) if r["abstract"]]


def _encode(batch: dict[str, list[str]], tokenizer: PreTrainedTokenizerFast) -> dict[str, list[list[int]]]:
    return {"input_ids": [e.ids for e in tokenizer.backend_tokenizer.encode_batch_fast(batch["text"])]}


def _group(batch: dict[str, list[list[int]]]) -> dict[str, list[list[int]]]:
    flat = [i for ids in batch["input_ids"] for i in ids]
    return {"input_ids": [flat[at : at + ROW_LENGTH] for at in range(0, len(flat), ROW_LENGTH)]}
