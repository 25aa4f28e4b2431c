"""What is packed into a shard is read back token by token."""

from pathlib import Path

import numpy as np
import pytest
from clinical_modernbert.artifacts import open_store
from clinical_modernbert.corpus.shards import PackedRows, id_dtype
from clinical_modernbert.errors import ArtifactError
from clinical_modernbert.tokenizer import load_tokenizer, special_ids

from tests.helpers.tiny import DRUGS, publish_tiny_corpus, tiny_texts


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory):
    return publish_tiny_corpus(open_store(str(tmp_path_factory.mktemp("store"))))


def test_rows_hold_every_document_once_with_its_salience(corpus) -> None:
    tokenizer = load_tokenizer(corpus.folder("tokenizer"))
    roles = special_ids(tokenizer)
    texts = tiny_texts(120)
    found: dict[int, list[list[int]]] = {}
    for split in ("train", "held_out"):
        rows = PackedRows(corpus, row_length=64, split=split)
        batch = rows.read(np.arange(len(rows)))
        flat, salient = batch.ids_RL[batch.valid_RL], batch.salient_RL[batch.valid_RL]
        assert (batch.ids_RL[~batch.valid_RL] == roles["pad"]).all()
        ends = np.cumsum(batch.lengths_S)
        for start, end, document, source in zip(
            ends - batch.lengths_S, ends, batch.documents_S, batch.sources_S, strict=True
        ):
            segment = flat[start:end]
            assert segment[0] == roles["cls"] and segment[-1] == roles["sep"]
            assert not salient[start] and not salient[end - 1]
            assert source == document % 2
            assert (document % 5 == 0) == (split == "held_out")
            found.setdefault(int(document), []).append(segment[1:-1].tolist())
            words = tokenizer.decode(segment[1:-1][salient[start + 1 : end - 1]]).split()
            assert set(words) <= set(DRUGS)
    assert sorted(found) == list(range(120))
    for document, pieces in found.items():
        whole = tokenizer(texts[document], add_special_tokens=False)["input_ids"]
        # Rows come longest piece first, so pieces of a document may be read in any order.
        assert sorted(i for piece in pieces for i in piece) == sorted(whole)


def test_reading_order_is_the_callers(corpus) -> None:
    rows = PackedRows(corpus, row_length=64, split="train")
    assert (rows.read(np.array([7, 3])).ids_RL == rows.read(np.arange(8)).ids_RL[[7, 3]]).all()


def test_a_row_that_does_not_exist_is_refused(corpus) -> None:
    rows = PackedRows(corpus, row_length=64, split="train")
    with pytest.raises(IndexError):
        rows.read(np.array([len(rows)]))


def test_a_length_that_was_not_built_is_named(corpus) -> None:
    with pytest.raises(ArtifactError, match=r"rows of \[64\] tokens, not of 128"):
        PackedRows(corpus, row_length=128, split="train")


def test_a_damaged_shard_is_refused(tmp_path: Path) -> None:
    corpus = publish_tiny_corpus(open_store(str(tmp_path)))
    shard = next(tmp_path.rglob("train/00000.ids.npy"))
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    with pytest.raises(ArtifactError, match=r"train/00000\.ids\.npy differs from its manifest"):
        PackedRows(corpus, row_length=64, split="train").read(np.array([0]))


def test_ids_are_two_bytes_where_the_vocabulary_allows() -> None:
    assert id_dtype(65_536).itemsize == 2
    assert id_dtype(65_600).itemsize == 4
