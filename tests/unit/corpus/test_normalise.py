"""Normalisation keeps every visible character, and filters name their reason."""

import pytest
from clinical_modernbert.corpus.normalise import drop_reason, normalise
from clinical_modernbert.recipe.corpus import FilterSection
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("cafe\u0301", "café"),
        ("a\x00b\u200bc\ufeff", "abc"),
        ("one  \r\ntwo\t\rthree", "one\ntwo\nthree"),
        ("a\n\n\n\n\nb", "a\n\nb"),
        ("5 µg/m² ≥ 3 ½ Ménière", "5 µg/m² ≥ 3 ½ Ménière"),
    ],
)
def test_known_texts(raw: str, clean: str) -> None:
    assert normalise(raw) == clean


@given(st.text())
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once


def test_reasons() -> None:
    section = FilterSection(min_characters=5, max_characters=10)
    assert drop_reason("abcd", section) == "too_short"
    assert drop_reason("abcde", section) is None
    assert drop_reason("a" * 11, section) == "too_long"
