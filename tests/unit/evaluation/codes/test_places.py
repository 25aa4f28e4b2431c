"""The card of a code: its way down the classification and its counterparts, from the real tables."""

from clinical_modernbert.evaluation.codes.places import code_paths, counterparts
from clinical_modernbert.sources import CodeEntry


def entry(code: str) -> CodeEntry:
    return CodeEntry(code, "description", "chapter id", "Chapter")


def test_icd9_stands_in_chapter_and_category() -> None:
    assert code_paths("icd9cm", [entry("250.00")]) == [["chapter id Chapter", "250 (category)"]]


def test_icd10_stands_below_its_block_and_headings_also_with_a_seventh_character() -> None:
    whole, seventh, category = code_paths("icd10cm", [entry("E11.21"), entry("S72.001A"), entry("I10")])
    assert [step.split()[0] for step in whole] == ["chapter", "E08-E13", "E11", "E11.2"]
    assert whole[2] == "E11 Type 2 diabetes mellitus"
    assert [step.split()[0] for step in seventh][1:] == ["S70-S79", "S72", "S72.0", "S72.00", "S72.001"]
    assert [step.split()[0] for step in category] == ["chapter", "I10-I1A"]


def test_counterparts_are_found_from_both_sides() -> None:
    assert counterparts("icd9cm", [entry("001.0"), entry("250.00"), entry("999.99")]) == [
        ["A00.0"],
        ["E11.9 (approximately)"],
        [],
    ]
    assert "001.0" in counterparts("icd10cm", [entry("A00.0")])[0]
