"""Codes in a text are terms; what only looks like one is not."""

import pytest
from clinical_modernbert.lexicon import Matcher, build_terms
from clinical_modernbert.lexicon.codes import code_names
from clinical_modernbert.recipe.corpus import LexiconSection


@pytest.fixture(scope="module")
def matcher() -> Matcher:
    """The terms of the installed tables."""
    return Matcher(build_terms(LexiconSection(drug_names=False)))


def codes_in(matcher: Matcher, text: str) -> list[str]:
    found = [text[start:end] for start, end in matcher.spans(text)]
    return [term for term in found if any(map(str.isdigit, term))]


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("Type 2 diabetes (E11.9), hypertension I10.", ["E11.9", "I10"]),
        ("E11.9", ["E11.9"]),
        ("J18.9; S72.001A, V45.81", ["J18.9", "S72.001A", "V45.81"]),
        ("Dx: N18.6/Z79.4", ["N18.6", "Z79.4"]),
        # Three characters, in a text that cites codes in one way or another.
        ("J90 and J18.9", ["J90", "J18.9"]),
        ("ICD-10: J90", ["J90"]),
        ("The ICD-10-CM code J90 represents pleural effusion.", ["J90"]),
        ("ICD 10 code for J90: pleural effusion.", ["J90"]),
        # Numbers, after the name of the system only.
        ("ICD-9 410.0", ["410.0"]),
        ("ICD-9-CM codes 410.0, 428.0 and 36.15 at 250.00", ["410.0", "428.0", "36.15"]),
        ("ICD-10 QA0.0101 (from October 2025 on)", ["QA0.0101"]),
        ("ICD-9 codes (410, E849.0)", ["410", "E849.0"]),
        ("platelets 150.0, glucose 250.00 and WBC 10.5", []),
        # Traps: spine levels, vitamins, temperatures, gravida, lumbar levels, near vision, proteins, days, chains, cell lines.
        ("fracture of T12 and L5, herniation at L45, C3 to C7", []),
        ("vitamin B12 and T36.8C, T 37.5, T38.5", []),
        ("She is G10, P7. Visual acuity 6/18 N12. P53 was negative, C20 acids on D45, embryos at E11.5", []),
        ("K562 and L929 cells, N95 masks, Q12H, HbA1C, CD4, 5A11.0", []),
        ("warfarin 2.5 mg, INR 1.8, 120.80 kg", []),
        # Longer words and numbers are other words.
        ("XE11.9 E11.91 e11.9 E11.9x", []),
        ("an ICD was implanted in 410 patients; ICD 410", []),
        ("ICD-10 criteria for 410 patients", []),
    ],
)
def test_codes_are_terms_and_what_looks_like_one_is_not(matcher: Matcher, text: str, codes: list[str]) -> None:
    assert codes_in(matcher, text) == codes


def test_what_remains_is_known(matcher: Matcher) -> None:
    """In a text that cites codes, a level or a protein that is a code in the table counts; codes without dots never do."""
    assert codes_in(matcher, "E11.9. Herniation at L45; P53 negative.") == ["E11.9", "L45", "P53"]
    assert codes_in(matcher, "E119 and 4280") == []


def test_codes_of_a_table_get_their_dots() -> None:
    assert code_names(["E119", "I10", "J90", "V4581", "S72001A"]) == {"E11.9", "I10", "ICD J90", "V45.81", "S72.001A"}


def test_without_tables_nothing_is_a_code() -> None:
    assert Matcher(["pneumonia"]).spans("ICD-10 J18.9, E11.9") == []
