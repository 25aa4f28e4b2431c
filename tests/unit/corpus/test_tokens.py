"""Tokens and rows: salience by offsets, the split kept apart, duplicates left out, documents repeated as epochs say."""

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clinical_modernbert.artifacts.work_area import WorkArea
from clinical_modernbert.corpus.dedup.exact import DROP
from clinical_modernbert.corpus.encoding import Encoded
from clinical_modernbert.corpus.piece_files import SCHEMA, Piece, PieceId
from clinical_modernbert.corpus.results import Packed, Partitions, Tokenised
from clinical_modernbert.corpus.tokens import (
    ShardGroup,
    ShardSegment,
    joined_spans,
    num_copies,
    pack_group,
    read_texts,
    salient_tokens,
    tokenise_piece,
)
from clinical_modernbert.corpus.training_texts import draw_texts, drawn_texts
from clinical_modernbert.lexicon import Matcher
from clinical_modernbert.recipe.corpus import TokenizerSection
from clinical_modernbert.tokenizer import build_tokenizer, load_tokenizer, special_ids

from tests.helpers.tiny import tiny_texts

TEXTS = tiny_texts(30)
PIECE = PieceId(0, 0)
HELD_OUT = [n % 3 == 0 for n in range(len(TEXTS))]
DUPLICATE = 7
KEYS = [n << 58 for n in range(len(TEXTS))]  # spread over the 64 bits, as hashes are


@pytest.fixture
def area(tmp_path: Path) -> WorkArea:
    """A work area as the first three passes leave it: one unit, one of its documents a duplicate."""
    area = WorkArea(f"file://{tmp_path}", "work/corpus/test")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        columns = [pa.array(c, t.type) for c, t in zip((TEXTS, KEYS, HELD_OUT), SCHEMA, strict=True)]
        pq.write_table(pa.table(columns, schema=SCHEMA), folder / "documents.parquet")
        area.put(folder / "documents.parquet", "documents/000000000.parquet")
        section = TokenizerSection(base="train", vocabulary_size=512)
        build_tokenizer(section, TEXTS, clinical_words=frozenset()).save_pretrained(folder)
        for file in ("tokenizer.json", "tokenizer_config.json"):
            area.put(folder / file, f"tokenizer/{file}")
        (folder / "lexicon.txt").write_text("warfarin\nheparin\n")
        area.put(folder / "lexicon.txt", "lexicon.txt")
    area.put_array(np.array([(0, DUPLICATE, 2)], dtype=DROP), "drops/duplicates-0000.npy")
    return area


@pytest.fixture
def step(area: WorkArea) -> Tokenised:
    return tokenise_piece(area, Piece(PIECE, "notes", len(TEXTS)), partitions=Partitions(duplicates=1))


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([], [False, False, False, False]),
        ([(0, 4)], [True, False, False, False]),
        ([(4, 5)], [False, False, False, False]),  # between two tokens
        ([(5, 11)], [False, True, True, False]),
        ([(6, 7)], [False, True, False, False]),
        ([(0, 4), (11, 13)], [True, False, False, True]),
        ([(3, 12)], [True, True, True, True]),
    ],
)
def test_a_token_that_overlaps_a_term_is_salient(spans: list[tuple[int, int]], expected: list[bool]) -> None:
    starts, ends = np.array([(0, 4), (5, 8), (8, 11), (11, 13)]).T
    encoded = Encoded(ids_N=np.zeros(4, np.int32), starts_N=starts, ends_N=ends, lengths_D=np.array([4]))
    assert salient_tokens(encoded, np.array(spans, dtype=np.int64).reshape(-1, 2)).tolist() == expected


def test_terms_of_a_batch_have_offsets_into_its_joined_texts() -> None:
    texts = ["took warfarin", "", "heparin and warfarin"]
    spans = joined_spans(Matcher(["warfarin", "heparin"]), texts)
    assert ["".join(texts)[start:end] for start, end in spans.tolist()] == ["warfarin", "heparin", "warfarin"]
    assert joined_spans(Matcher(["warfarin"]), [""]).shape == (0, 2)


def test_texts_come_in_order_without_duplicates(area: WorkArea) -> None:
    kept = np.array([n != DUPLICATE for n in range(len(TEXTS))])
    read = [row for batch in read_texts(area, piece=PIECE, kept=kept) for row in batch]
    assert read == [row for n, row in enumerate(zip(TEXTS, KEYS, HELD_OUT, strict=True)) if n != DUPLICATE]


def test_counts_are_by_split_and_the_unigram_is_of_training_text_alone(
    area: WorkArea, step: Tokenised, tmp_path: Path
) -> None:
    assert step.documents == {"train": 19, "held_out": 10}
    assert step.dropped == {"duplicate": 1}
    arrays = area.get_arrays("tokens/000000000.npz", tmp_path)
    ids, salient, documents = (arrays[part] for part in ("ids", "salient", "documents"))
    pack(area, "train", epochs=2.0)
    unigram = area.get_arrays("unigram/00000.npz", tmp_path)["2"]
    assert len(ids) == len(salient) == documents["length"].sum() == sum(step.tokens.values())
    assert documents["key"].tolist() == [key for n, key in enumerate(KEYS) if n != DUPLICATE]
    held_out = np.repeat(documents["held_out"], documents["length"])
    assert (unigram == np.bincount(ids[~held_out], minlength=len(unigram))).all()
    assert unigram.sum() == step.tokens["train"] and len(unigram) % 64 == 0
    named = sum(text.count("warfarin") + text.count("heparin") for n, text in enumerate(TEXTS) if n != DUPLICATE)
    assert step.salient_tokens == salient.sum() >= named > 0
    assert step.longest == documents["length"].max()


def test_a_tokenizer_is_trained_on_a_share_of_what_stays_for_training(area: WorkArea) -> None:
    train = [text for n, text in enumerate(TEXTS) if not HELD_OUT[n] and n != DUPLICATE]
    share = sum(len(text.encode()) for text in train[:3])
    for group, limit in enumerate((1 << 30, share)):
        pieces = [Piece(PIECE, "notes", len(TEXTS))]
        draw_texts(area, pieces=pieces, group=group, partitions=Partitions(duplicates=1), share=limit)
    assert drawn_texts(area, 1) == train
    assert drawn_texts(area, 2) == train + train[:3]


def pack(area: WorkArea, split: str, *, epochs: float = 1.0, row_length: int = 64) -> tuple[Packed, dict[int, int]]:
    """Pack the unit and return the step with how often each document's tokens are in the rows."""
    group = ShardGroup(split, 0, (ShardSegment(PIECE, source=2, epochs=epochs),))
    _, step = pack_group(area, group, row_lengths=(128, row_length), output_prefix=f"out-{epochs}").shards
    assert (step.split, step.row_length) == (split, row_length)
    store = area.store()
    with tempfile.TemporaryDirectory() as folder:
        arrays = {}
        for entry in step.files:
            name = entry.path.rsplit(".", 2)[-2]
            arrays[name] = np.load(
                store.get_file(f"out-{epochs}/{entry.path}", Path(folder) / name), allow_pickle=False
            )
    assert (arrays["segments"]["source"] == 2).all()
    tokens: dict[int, int] = {}
    for document, length in zip(
        arrays["segments"]["document"].tolist(), arrays["segments"]["length"].tolist(), strict=True
    ):
        tokens[document] = tokens.get(document, 0) + length - 2
    assert step.places_used == arrays["segments"]["length"].sum() <= step.rows * row_length
    return step, tokens


def test_rows_hold_one_side_of_the_split_whole(area: WorkArea, step: Tokenised, tmp_path: Path) -> None:
    documents = area.get_arrays("tokens/000000000.npz", tmp_path)["documents"]
    for split in ("train", "held_out"):
        side = documents[documents["held_out"] == (split == "held_out")]
        expected = dict(zip(side["key"].tolist(), side["length"].tolist(), strict=True))
        assert pack(area, split)[1] == expected


def test_epochs_repeat_whole_documents(area: WorkArea, step: Tokenised, tmp_path: Path) -> None:
    documents = area.get_arrays("tokens/000000000.npz", tmp_path)["documents"]
    length_of = dict(zip(documents["key"].tolist(), documents["length"].tolist(), strict=True))
    _, tokens = pack(area, "train", epochs=2.5)
    copies = {key: count / length_of[key] for key, count in tokens.items()}
    train = [key for key, held_out in zip(KEYS, HELD_OUT, strict=True) if not held_out and key != KEYS[DUPLICATE]]
    assert copies == {key: 3 if key < 2**63 else 2 for key in train}


def test_copies_are_the_whole_part_and_a_share_by_key() -> None:
    keys = np.random.default_rng(0).integers(0, 2**64, size=20_000, dtype=np.uint64)
    assert set(num_copies(keys, epochs=3.0).tolist()) == {3}
    drawn = num_copies(keys, epochs=0.2)
    assert set(drawn.tolist()) == {0, 1}
    assert abs(drawn.mean() - 0.2) < 4 * (0.2 * 0.8 / 20_000) ** 0.5
    assert (num_copies(keys, epochs=0.5) >= drawn).all()  # a larger share holds the smaller one


def test_special_tokens_frame_every_segment(area: WorkArea, step: Tokenised) -> None:
    packed, _ = pack(area, "held_out")
    store = area.store()
    entry = next(entry for entry in packed.files if entry.path.endswith(".ids.npy"))
    with tempfile.TemporaryDirectory() as folder:
        for file in ("tokenizer.json", "tokenizer_config.json"):
            (Path(folder) / file).write_bytes(area.get(f"tokenizer/{file}", Path(folder)).read_bytes())
        roles = special_ids(load_tokenizer(Path(folder)))
        ids = np.load(store.get_file(f"out-1.0/{entry.path}", Path(folder) / "ids.npy"), allow_pickle=False)
    assert (ids[:, 0] == roles["cls"]).all()
    assert (ids == roles["cls"]).sum() == (ids == roles["sep"]).sum() == packed.segments
