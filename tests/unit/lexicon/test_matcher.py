"""Where the matcher finds terms: whole words, leftmost and longest, with offsets into the text as given."""

import pickle
import re
import sys

import pytest
from clinical_modernbert.lexicon import Matcher
from hypothesis import given
from hypothesis import strategies as st

TERMS = ["flu", "heart", "heart failure", "congestive heart failure", "failure to thrive", "beta-blocker", "ménière's disease",
         "mi", "biopsy", "metastasis", "PE", "aspirin", "abscess", "vitamin b12", "5-fu"]  # fmt: skip


@pytest.fixture(scope="module")
def matcher() -> Matcher:
    return Matcher(TERMS)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("No flu today.", ["flu"]),
        ("influence of fluid, fluency and reflux", []),
        ("(flu)", ["flu"]),
        ("FLU/Aspirin-flu", ["FLU", "Aspirin", "flu"]),
        ("aspirin aspirin", ["aspirin", "aspirin"]),
        ("heart failure", ["heart failure"]),
        ("heart failing", ["heart"]),
        ("congestive heart failure", ["congestive heart failure"]),
        ("congestive heart failures", ["congestive heart failures"]),
        ("congestive heart fail", ["heart"]),
        ("heart failure to thrive", ["heart failure"]),
        ("heart\nfailure", ["heart\nfailure"]),
        ("the heart. Failure", ["heart"]),
        ("hearts and abscesses", ["hearts", "abscesses"]),
        ("heartsease, heartses", []),
        ("beta blockers", ["beta blockers"]),
        ("Ménière's disease", ["Ménière's disease"]),
        ("___ flu___", ["flu"]),
        ("vitamin B12 or vitamin b123", ["vitamin B12"]),
        ("5-FU", ["5-FU"]),
        ("MI's", ["MI"]),
        ("biopsies, metastases, biopsys", ["biopsies", "metastases", "biopsys"]),
        ("heart  failure, heart -\nfailure", ["heart  failure", "heart -\nfailure"]),
        ("heart, failure", ["heart"]),
        ("a PE, PEs, pe", ["PE", "PEs"]),
        ("congestive heart failure (CHF) and CHF; CHFx", ["congestive heart failure", "CHF", "CHF"]),
        ("flu (ABC), heart (H), ABC", ["flu", "heart"]),
        ("", []),
        (" ", []),
    ],
)
def test_found(matcher: Matcher, text: str, found: list[str]) -> None:
    assert [text[start:end] for start, end in matcher.spans(text)] == found


@pytest.mark.parametrize("before", ["İ", "İİİ ", "ǅ", "ß", "ΑΣ", "𝔸 ", "e\u0301", "\u00a0"])
def test_offsets_hold_after_characters_whose_lower_case_differs_in_length(matcher: Matcher, before: str) -> None:
    text = f"{before} aspirin {before} heart failure"
    assert [text[start:end] for start, end in matcher.spans(text)] == ["aspirin", "heart failure"]


def test_every_character_maps_to_one() -> None:
    # The matcher takes the first character of lower(): this is the whole of what it may lose.
    longer = [chr(code) for code in range(sys.maxunicode + 1) if len(chr(code).lower()) != 1]
    assert longer == ["İ"]


def test_no_terms_find_nothing() -> None:
    assert Matcher([]).spans("aspirin") == []
    assert Matcher(["", "--"]).spans("-- aspirin --") == []


def test_a_copy_made_by_pickle_finds_the_same(matcher: Matcher) -> None:
    text = "congestive heart failure, flu and aspirin"
    # Its own bytes, as Ray moves a matcher between the processes of one build.
    assert pickle.loads(pickle.dumps(matcher)).spans(text) == matcher.spans(text)  # noqa: S301


WORDS = ["ab", "abs", "a", "abes", "b", "es", "s", "c"]


@given(
    terms=st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(" ".join), max_size=6),
    words=st.lists(st.sampled_from(WORDS), max_size=12),
)
def test_equals_a_regular_expression(terms: list[str], words: list[str]) -> None:
    text = " ".join(words)
    # Longest alternative first; of one term, the longest plural first. Regular expressions take the leftmost match.
    forms = sorted({f"{term}{plural}" for term in terms for plural in ("", "s", "es")}, key=len, reverse=True)
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, forms))})(?!\w)") if forms else None
    expected = [match.span() for match in pattern.finditer(text)] if pattern else []
    assert Matcher(terms).spans(text) == expected
