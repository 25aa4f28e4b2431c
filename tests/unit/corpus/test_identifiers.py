"""The guard finds what was planted, takes little else, and hands out counts only."""

from collections import Counter

import pytest
from clinical_modernbert.corpus.identifiers import PATTERNS, mask_identifiers

from tests.helpers.planted_identifiers import HARMLESS, PLANTED

# Found of planted; the others have no pattern, and docs/results/corpus.md names them.
FOUND = {
    "date": 18,
    "telephone": 14,
    "record_number": 18,
    "ssn": 5,
    "name": 25,
    "address": 6,
    "url": 3,
    "ip_address": 2,
    "email": 2,
    "age_over_89": 6,
}


def in_sentence(case: str) -> str:
    return f"Seen today, {case}, and well."


@pytest.mark.parametrize("kind", PLANTED)
def test_planted_cases_are_found_and_masked_whole(kind: str) -> None:
    found = 0
    for case in PLANTED[kind]:
        masked, counts = mask_identifiers(in_sentence(case))
        found += bool(counts[kind])
        if counts[kind] and kind == "name":
            assert not set("áíéüßŁ") & set(masked), "the mask leaves the end of a name"
    assert found == FOUND[kind]


@pytest.mark.parametrize("text", HARMLESS)
def test_clinical_values_are_left_alone(text: str) -> None:
    assert mask_identifiers(text) == (text, Counter())


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Seen 03/14/2019, call 617-555-0188. Stable.", "Seen ___, call ___. Stable."),
        ("MRN: 4471902; Dr. García and Mr. José Ramírez", "MRN: ___; Dr. ___ and Mr. ___"),
        ("Patient:John Smith, IP 10.0.0.1, aged 93", "Patient:___, IP ___, aged ___"),
        ("a 92-year-old of 12 Oak Street", "a ___-year-old of ___"),
    ],
)
def test_masking_leaves_the_rest_and_nothing_to_find(text: str, masked: str) -> None:
    assert mask_identifiers(text)[0] == masked
    assert not mask_identifiers(masked)[1]


def test_the_plain_checks_hide_no_match() -> None:
    texts = [case for cases in PLANTED.values() for case in cases] + list(HARMLESS)
    for text in [*texts, *map(in_sentence, texts), *(text.replace("1", "\u0661") for text in texts)]:
        counts, rest = Counter[str](), text
        for kind, pattern in PATTERNS.items():
            number = sum(1 for _ in pattern.finditer(rest))
            counts[kind] += number
            if number:
                break
        found = mask_identifiers(text)[1]
        assert not +counts or found[next(iter(+counts))], text
