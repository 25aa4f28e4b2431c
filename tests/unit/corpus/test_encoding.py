"""The word table gives what the tokenizers library gives, ids and offsets, on real and on hostile text."""

import numpy as np
import pytest
from clinical_modernbert.corpus.encoding import UNUSUAL, WordEncoder
from clinical_modernbert.recipe.corpus import TokenizerSection
from clinical_modernbert.tokenizer import build_tokenizer, encode_with_offsets
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

from tests.helpers.tiny import tiny_texts

HARD = (
    "", " ", "a", "  two  blanks ", "isn't it's I'LL we'd 'tis o'clock 'em", "5mg/kg b.i.d. (p<0.05)",
    "tab\there\n\n\nline \r\n", "naïve café Ångström µg β-blocker ≥ 3 × 10⁶/L ½ ²", "e\u0301 is not NFC",
    "\u4f60\u597d and \u0939\u093f", "😀 emoji 👩‍⚕️ joined", "a\u00a0b\u2009c\u3000d", "x\x1cy\x85z",
    "[MASK] and  [MASK] [CLS]", "   ", "lead  ", "ward's\u2019s", "A1c2B3 ____ ___", "١٢٣ Ⅳ ⅷ",
)  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    section = TokenizerSection(base="train", vocabulary_size=640, num_clinical_tokens=16)
    return build_tokenizer(section, tiny_texts(60), clinical_words={"warfarin", "heparin"})


@pytest.fixture(scope="module")
def with_blanks(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """As ModernBERT's: runs of blanks are added tokens."""
    from copy import deepcopy

    found = deepcopy(tokenizer)
    found.add_tokens([AddedToken(" " * n, normalized=True) for n in (2, 3, 4)])
    return found


def assert_equal(tokenizer: PreTrainedTokenizerFast, encoder: WordEncoder, texts: list[str]) -> None:
    found = encoder.encode(texts)
    first = np.cumsum(found.lengths_D) - found.lengths_D
    base = 0
    for n, (text, (ids, offsets)) in enumerate(zip(texts, encode_with_offsets(tokenizer, texts), strict=True)):
        place = slice(int(first[n]), int(first[n] + found.lengths_D[n]))
        assert found.ids_N[place].tolist() == ids, text
        assert (found.starts_N[place] - base).tolist() == [start for start, _ in offsets], text
        assert (found.ends_N[place] - base).tolist() == [end for _, end in offsets], text
        base += len(text)


@pytest.mark.parametrize("name", ["tokenizer", "with_blanks"])
def test_hard_texts_and_plain_ones(name: str, request: pytest.FixtureRequest) -> None:
    tokenizer = request.getfixturevalue(name)
    encoder = WordEncoder(tokenizer)
    for texts in (list(HARD), tiny_texts(40), list(HARD)[::-1], [], [""]):
        assert_equal(tokenizer, encoder, texts)


@given(texts=st.lists(st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=40), max_size=4))
@settings(max_examples=150, deadline=None)
def test_any_text(with_blanks: PreTrainedTokenizerFast, texts: list[str]) -> None:
    assert_equal(with_blanks, WordEncoder(with_blanks), texts)


def test_every_usual_character_is_in_the_class_that_the_library_gives_it(tokenizer: PreTrainedTokenizerFast) -> None:
    texts = [f"a{c}1{c}.{c} {c}" for c in map(chr, range(0x2C00)) if not UNUSUAL.search(c)]
    assert len(texts) > 3000
    assert_equal(tokenizer, WordEncoder(tokenizer), texts)


def test_a_full_table_is_emptied(tokenizer: PreTrainedTokenizerFast) -> None:
    encoder = WordEncoder(tokenizer, most_tokens=50)
    for _ in range(3):
        assert_equal(tokenizer, encoder, tiny_texts(10))
        assert_equal(tokenizer, encoder, list(HARD))


def test_usual_text_does_not_go_through_the_library_whole(with_blanks: PreTrainedTokenizerFast) -> None:
    encoder = WordEncoder(with_blanks)
    assert encoder.split("Took 5 mg  of warfarin.") == ["Took", " 5", " mg", "  ", "of", " warfarin", "."]
    assert encoder.split("µg é") == ["µg", " é"]
    assert encoder.split("\u4f60 and") == ["\u4f60 and"]


def test_a_tokenizer_with_other_rules_goes_through_the_library(tokenizer: PreTrainedTokenizerFast) -> None:
    from copy import deepcopy

    from tokenizers import pre_tokenizers

    other = deepcopy(tokenizer)
    other.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    assert_equal(other, WordEncoder(other), list(HARD))
