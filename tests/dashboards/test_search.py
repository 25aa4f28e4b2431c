"""The browser's search, run in Node: forms of codes, words, other names; and everyday phrases on the real tables."""

from typing import Any

import pytest

from benchmarks.kits.explorer_search import run_search, whole_table
from benchmarks.kits.search_phrases import PHRASES, is_answered
from tests.helpers.component_js import run_js

CODES = {
    "I21.01": "ST elevation (STEMI) myocardial infarction involving left main coronary artery",
    "I21.9": "Acute myocardial infarction, unspecified",
    "I25.2": "Old myocardial infarction",
    "D50.9": "Iron deficiency anemia, unspecified",
    "E11.9": "Type 2 diabetes mellitus without complications",
    "E10.9": "Type 1 diabetes mellitus without complications",
    "K22.3": "Perforation of esophagus",
    "K76.9": "Liver disease, unspecified",
    "O80.0": "Delivered by forceps",
    "A41.9": "Infections, unspecified organism",
    "S72.0": "Fractures of neck of femur",
    "J45.90": "Unspecified asthma",
    "N20.0": "Calculus of kidney",
    "E88.01": "Alpha-1-antitrypsin deficiency",
    "V45.0": "Car driver in a collision with a train",
    "W10.1": "Slip on a sidewalk curb",
    "Z95.0": "Presence of cardiac pacemaker",
}
OTHERS = {"E11.9": ["25000"], "W10.1": ["E8801"], "Z95.0": ["V4501"]}  # ICD-9-CM
TERMS = {
    "texts": ["Acute myocardial infarction", "Renal stone", "Hip region"],
    "nodes": {"I21": [0], "S72": [2], "N20": [1]},
    "headings": ["I21", "S72"],
    "lay": [["heart attack", "I21"], ["old heart attack", "I252"], ["sugar", "E1"]],
    "names": [["cardiac infarct", "myocardial infarction"]],
}
CASES = {
    # Words: beginnings and whole words, never letters inside a word.
    "liver": ["K76.9"],
    "fract": ["S72.0"],
    "fracture femur": ["S72.0"],
    "hip fracture": ["S72.0"],
    "renal stones": ["N20.0"],
    "asthma of zebras": ["J45.90"],
    "MYOCARDIAL": ["I25.2", "I21.9", "I21.01"],
    # British and American, plural, numerals, one edit, an accent.
    "anaemia": ["D50.9"],
    "oesophagus": ["K22.3"],
    "infection": ["A41.9"],
    "type II diabetes": ["E11.9"],
    "diabetes, type 1": ["E10.9"],
    "astma": ["J45.90"],
    "œsophagus": ["K22.3"],
    # Other names, alone and with another word; nothing at all.
    "heart attack": ["I21.9", "I21.01"],
    "old heart attack": ["I25.2"],
    "sugar type 2": ["E11.9"],
    "cardiac infarct": ["I25.2", "I21.9", "I21.01"],
    "zzzz": [],
    ".*": [],
    "<b>": [],
    # Codes in every form.
    "I21": ["I21.01", "I21.9"],
    "i219": ["I21.9"],
    "I21.": ["I21.01", "I21.9"],
    "I21*": ["I21.01", "I21.9"],
    "I21.-": ["I21.01", "I21.9"],
    "I21.x": ["I21.01", "I21.9"],
    "I2%": ["I21.01", "I21.9", "I25.2"],
    "E10-E11": ["E10.9", "E11.9"],
    "E10.9 - E11.9": ["E10.9", "E11.9"],
    "E10 to E11": ["E10.9", "E11.9"],
    # The dot tells ICD-9's E880.1 from E88.01; V45.0 is what most of the others are.
    "E88.01": ["E88.01"],
    "E880.1": ["W10.1"],
    "V45.0": ["V45.0"],
    "V45.0 J45.90": ["V45.0", "J45.90"],
    "V45.0 250.00 E880.1": ["Z95.0", "E11.9", "W10.1"],
    "'I21.9', \"E11.9\"": ["I21.9", "E11.9"],
    "ICD10: I21.9; ICD-10-CM:E11.9": ["I21.9", "E11.9"],
    "I219X E119": ["I21.9", "E11.9"],
    "250.00": ["E11.9"],
    "250.0*|K76.9": ["E11.9", "K76.9"],
    "CODE,DESCRIPTION\nI21.9,heart attack\nE11.9,type II": ["I21.9", "E11.9"],
    "CODE\tDESCRIPTION ⏎ I21.9\theart attack ⏎ E11.9\ttype II": ["I21.9", "E11.9"],
    # Counts, numbers of rows and versions are no beginnings of codes: 25 is not 250.00.
    "I21.9\t25\nK76.9\t8": ["I21.9", "K76.9"],
    "row,code\n1,I21.9\n25,K76.9": ["I21.9", "K76.9"],
    "version\tcode\tdescription\n10\tI219\theart attack\n10\tK769\t": ["I21.9", "K76.9"],
    "1. I21.9\n25. K76.9": ["I21.9", "K76.9"],
    "- I21.9 heart attack\n- K76.9 - liver": ["I21.9", "K76.9"],
    "I21.9, 25": ["I21.9"],
    "- I21.9\n- K76.9": ["I21.9", "K76.9"],
    "E11.9; I21.9\n999.99; ABC; K76.9": ["E11.9"],
}


def small_table() -> dict[str, Any]:
    others = [OTHERS.get(code, []) for code in CODES]
    table = {"codes": list(CODES), "descriptions": list(CODES.values()), "rows": None, "others": others}
    return {"table": table, "terms": TERMS}


@pytest.fixture(scope="module")
def answers() -> dict[str, dict[str, Any]]:
    queries = [*CASES, "I21.9 Z99.9 250.00"]
    return dict(zip(queries, run_search(small_table(), queries)["answers"], strict=True))


@pytest.mark.parametrize("query", CASES)
def test_a_query_finds_its_codes(answers: dict[str, dict[str, Any]], query: str) -> None:
    found = answers[query]
    expected = CASES[query]
    assert sorted(found["codes"]) == sorted(expected)
    if query in ("heart attack", "old heart attack", "MYOCARDIAL"):
        assert found["codes"][0] == expected[0]


def test_what_was_understood_is_told(answers: dict[str, dict[str, Any]]) -> None:
    assert answers["heart attack"]["meant"] == [{"text": "heart attack", "codes": ["I21"]}]
    assert answers["astma"]["typed"] == [["astma", "asthma"]]
    listed = answers["I21.9 Z99.9 250.00"]
    assert (listed["read"], listed["unknown"], listed["mapped"]) == (3, ["Z99.9"], ["250.00"])
    assert (answers["asthma of zebras"]["fewer"], answers["hip fracture"]["fewer"]) == (True, False)
    assert answers["CODE,DESCRIPTION\nI21.9,heart attack\nE11.9,type II"]["passed"] == 1
    assert answers["E11.9; I21.9\n999.99; ABC; K76.9"]["beside"] == ["I21.9", "K76.9"]
    both = answers["V45.0 250.00 E880.1"]
    assert (both["both"], both["first"], both["mapped"]) == (["V45.0"], "mapped", ["V45.0", "250.00", "E880.1"])


@pytest.mark.parametrize(
    ("code", "query", "name"),
    [
        ("N20.0", "renal stone", "Renal stone"),
        ("S72.0", "hip fract", "Hip region"),
        ("N20.0", "kidney", ""),
        ("J45.90", "hip", ""),
    ],
)
def test_the_other_name_that_was_found_is_told(code: str, query: str, name: str) -> None:
    body = "return otherName(buildIndex(data.table, data.terms), data.entry, data.query);"
    asked = {**small_table(), "entry": list(CODES).index(code), "query": query}
    assert run_js("codes search", body, asked) == name


@pytest.mark.slow
@pytest.mark.parametrize(("table", "column", "least"), [("icd10cm", 1, 62), ("icd9cm", 2, 58)])
def test_everyday_phrases_are_answered(table: Any, column: int, least: int) -> None:
    assert len(PHRASES) == 67
    found = run_search(whole_table(table), [phrase[0] for phrase in PHRASES])["answers"]
    wrong = [
        (phrase[0], answer["codes"][:10])
        for phrase, answer in zip(PHRASES, found, strict=True)
        if not is_answered(answer["codes"], phrase[column])
    ]
    assert len(PHRASES) - len(wrong) >= least, wrong
