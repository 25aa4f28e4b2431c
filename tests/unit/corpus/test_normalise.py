"""Normalisation keeps every visible character and joins nothing."""

import re
import unicodedata

import pytest
from clinical_modernbert.corpus.normalise import normalise
from hypothesis import given
from hypothesis import strategies as st

CONTROLS = [chr(code) for code in (*range(0x20), 0x7F, 0x85, 0x200B, 0x2028, 0x2029, 0xFEFF, 0xFFFE, 0xD800)]
# Of the C1 controls, those that Windows-1252 has as punctuation or not at all.
PUNCTUATION = [chr(code) for code in (0x80, 0x81, 0x82, 0x84, 0x8B, 0x8D, 0x91, 0x92, 0x95, 0x96, 0x97, 0x9D)]
RUNS = re.compile(r"\d+|[^\W\d_]+")


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("cafe\u0301", "café"),
        ("a\x00b\u200bc\ufeff", "a b c"),
        ("one  \r\ntwo\t\rthree", "one\ntwo\nthree"),
        ("a\n\n\n\n\nb", "a\n\nb"),
        ("5 µg/m² ≥ 3 ½ Ménière", "5 µg/m² ≥ 3 ½ Ménière"),
        ("page one ends here\x0cpage two", "page one ends here\npage two"),
        ("a\x0bb\x85c\u2028d\u2029e\x1ef", "a\nb\nc\nd\ne\nf"),
        # Windows-1252 that was decoded as Latin-1.
        ("insulin 5\x9610 units", "insulin 5–10 units"),
        ("patient\x92s \x93note\x94\x85", "patient’s “note”…"),
        ("\x8a na\x9fve \x81 x", "Š naŸve  x"),
        ("hyper\u00adtension, 5\u00ad10 mg", "hypertension, 5-10 mg"),
    ],
)
def test_known_texts(raw: str, clean: str) -> None:
    assert normalise(raw) == clean


@given(st.text())
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once


@given(st.text(alphabet=st.sampled_from([*CONTROLS, *PUNCTUATION, *"aZé19 \u00a0-.,\u0663中"])))
def test_the_sequence_of_numbers_and_words_is_kept(text: str) -> None:
    assert RUNS.findall(normalise(text)) == RUNS.findall(text)


@given(st.text())
def test_any_text_keeps_its_words_but_for_soft_hyphens_and_composition(text: str) -> None:
    text = text.replace("\u00ad", "")
    if not any("\x80" <= character < "\xa0" for character in text):
        assert RUNS.findall(normalise(text)) == RUNS.findall(unicodedata.normalize("NFC", text))
