"""Clinical words are whole tokens, never parts of others; ids, offsets and text survive."""

import json
import logging
from pathlib import Path

import pytest
from clinical_modernbert.errors import RecipeError
from clinical_modernbert.masking import token_ranges
from clinical_modernbert.recipe.corpus import TokenizerSection
from clinical_modernbert.tokenizer import (
    add_clinical_words,
    build_tokenizer,
    encode_with_offsets,
    load_base,
    load_tokenizer,
    padded_vocabulary_size,
    save_tokenizer,
    special_ids,
)
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

TEXTS = ["The patient with influenza took ibuprofen, then flushed.", "Naïve café, 5 µg of drug — ≥ 3 times."] * 5


@pytest.fixture(scope="module")
def base():
    section = TokenizerSection(base="train", vocabulary_size=320)
    return build_tokenizer(section, TEXTS, clinical_words=set())


@pytest.fixture(scope="module")
def clinical(base):
    return add_clinical_words(base, ["Ġflu", "flu", "Ġwarfarin"])


def pieces(tokenizer, text: str) -> list[str]:
    return tokenizer.convert_ids_to_tokens(tokenizer(text, add_special_tokens=False)["input_ids"])


def test_a_clinical_word_is_one_token_and_keeps_its_space(clinical) -> None:
    assert "Ġwarfarin" in pieces(clinical, "took warfarin daily")
    assert (
        clinical.decode(clinical("took warfarin daily", add_special_tokens=False)["input_ids"]) == "took warfarin daily"
    )


@pytest.mark.parametrize("text", ["influence", " influence", " flush", " warfarins", "flux", " influenza"])
def test_it_is_never_part_of_another_word(base, clinical, text: str) -> None:
    added = {"Ġflu", "flu", "Ġwarfarin"} - set(base.get_vocab())
    assert added, "the words must be new to this base"
    assert not set(pieces(clinical, text)) & added
    assert pieces(clinical, text) == pieces(base, text)


def test_other_ids_stay_as_they_are(base, clinical) -> None:
    before, after = base.get_vocab(), clinical.get_vocab()
    assert {token: after[token] for token in before} == before
    assert sorted(after.values()) == list(range(len(after)))


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=60))
def test_text_survives_the_round_trip(clinical, text: str) -> None:
    import unicodedata

    normal = unicodedata.normalize("NFC", text)
    ids = clinical(normal, add_special_tokens=False)["input_ids"]
    if not any(token in normal for token in ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]")):
        assert clinical.decode(ids, clean_up_tokenization_spaces=False) == normal


def test_offsets_point_at_the_text(clinical) -> None:
    text = "Naïve café: took warfarin"
    ((ids, offsets),) = encode_with_offsets(clinical, [text])
    where = dict(zip(clinical.convert_ids_to_tokens(ids), offsets, strict=True))
    start, end = where["Ġwarfarin"]
    assert text[start:end].strip() == "warfarin"


def test_special_tokens_frame_a_text_and_are_not_ordinary(clinical) -> None:
    roles = special_ids(clinical)
    ids = clinical("text")["input_ids"]
    assert ids[0] == roles["cls"] and ids[-1] == roles["sep"]
    assert not set(roles.values()) & set(token_ranges(clinical).ordinary_ids.tolist())
    assert padded_vocabulary_size(clinical) % 64 == 0
    assert max(clinical.get_vocab().values()) < padded_vocabulary_size(clinical)


def test_frequent_spellings_are_chosen_with_their_case(base) -> None:
    texts = ["took warfarin", "took warfarin", "Warfarin first", "ibuprofen"]
    section = TokenizerSection(base="train", vocabulary_size=320, num_clinical_tokens=1)
    tokenizer = build_tokenizer(section, texts + ["zzz"] * 3, clinical_words={"warfarin", "metformin"})
    assert "warfarin" in "".join(pieces(tokenizer, "took warfarin"))


def test_it_is_saved_and_loaded_whole(clinical, tmp_path: Path) -> None:
    clinical.save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert loaded.get_vocab() == clinical.get_vocab()
    text = "took warfarin for flu [MASK] influence"
    assert loaded(text)["input_ids"] == clinical(text)["input_ids"]


@pytest.mark.parametrize("text", ["took [MASK] daily", "took[MASK] daily", "took  [MASK] daily"])
def test_the_mask_takes_the_space_before_it_as_in_training(clinical, tmp_path: Path, text: str) -> None:
    """In training the space belongs to the masked token, so a lone space never stands beside a mask."""
    save_tokenizer(clinical, tmp_path)
    for tokenizer in (clinical, load_tokenizer(tmp_path), AutoTokenizer.from_pretrained(tmp_path)):
        assert pieces(tokenizer, text) == [*pieces(clinical, "took"), "[MASK]", *pieces(clinical, " daily")]


def test_a_base_whose_mask_leaves_the_space_is_repaired(base, tmp_path: Path) -> None:
    save_tokenizer(base, tmp_path)
    path = tmp_path / "tokenizer.json"
    path.write_text(path.read_text().replace('"lstrip": true', '"lstrip": false'))
    section = TokenizerSection(base=str(tmp_path), num_clinical_tokens=0)
    assert "Ġ" in pieces(load_base(str(tmp_path)), "took [MASK]")
    assert pieces(build_tokenizer(section, [], clinical_words=set()), "took [MASK]")[-2:] != ["Ġ", "[MASK]"]


def test_it_is_saved_for_transformers_4_too_and_cuts_where_the_model_ends(clinical, tmp_path: Path) -> None:
    save_tokenizer(clinical, tmp_path, max_tokens=20)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast" and config["model_max_length"] == 20
    assert len(load_tokenizer(tmp_path)("fever " * 99, truncation=True)["input_ids"]) == 20


def test_a_text_longer_than_the_model_gives_no_warning(clinical, tmp_path: Path, caplog) -> None:
    """Callers cut, divide or refuse such a text, so nothing runs beyond the model's positions."""
    save_tokenizer(clinical, tmp_path, max_tokens=20)
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    try:
        assert len(load_tokenizer(tmp_path)("fever " * 99)["input_ids"]) > 20
    finally:
        logger.removeHandler(caplog.handler)
    assert caplog.messages == []


def test_a_base_that_is_absent_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"tokenizer\.base: cannot load"):
        load_base(str(tmp_path / "nowhere"))
