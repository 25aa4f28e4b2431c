"""Normalisation keeps every visible character."""

import pytest
from clinical_modernbert.corpus.documents import normalise
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
