"""Codes in one spelling: what a spreadsheet or another export makes of them is read right, quarantined or refused."""

from pathlib import Path

import pytest
from clinical_modernbert.errors import SourceError
from clinical_modernbert.sources.codes import code_table
from clinical_modernbert.sources.codes.relations import read_gem, read_hierarchy, tabular_location
from clinical_modernbert.sources.codes.shapes import has_shape
from clinical_modernbert.sources.document import Quarantined

from tests.helpers.code_tables import made, texts


def mimic(folder: Path, *rows: tuple[str, int], table: str = "mimic_diagnoses") -> list[object]:
    lines = "".join(f"{code},{version},A title\n" for code, version in rows)
    return list(made(folder, f"icd_code,icd_version,long_title\n{lines}", table))


def test_dots_and_case_do_not_make_other_codes(tmp_path: Path) -> None:
    rows = [("250.00", 9), ("E812.0", 9), ("v30", 9), ("E11.9", 10), ("e118", 10)]
    records = mimic(tmp_path, *rows)
    assert list(texts(records)) == [  # type: ignore[arg-type]
        "icd9cm:250.00",
        "icd9cm:E812.0",
        "icd9cm:V30",
        "icd10cm:E11.9",
        "icd10cm:E11.8",
    ]
    assert {record.group for record in records[3:]} == {"icd10cm:E11"}  # type: ignore[attr-defined]
    records = mimic(tmp_path, ("01.23", 9), ("0123", 9), table="mimic_procedures")
    assert list(texts(records)) == ["icd9pcs:01.23", "icd9pcs:01.23:2"]  # type: ignore[arg-type]


def test_what_is_no_code_is_quarantined(tmp_path: Path) -> None:
    records = mimic(tmp_path, ("NaN", 9), ("4019.0", 9), ("25000", 10), ("E119", 9), ("A note", 10))
    assert [type(record).__name__ for record in records] == ["Quarantined"] * 4 + ["Document"]
    (bad,) = made(tmp_path, "HCPC,LONG DESCRIPTION,SHORT DESCRIPTION\nA note,Long,\n", "hcpcs")
    assert isinstance(bad, Quarantined)


@pytest.mark.parametrize(
    ("table", "code"), [("mimic_diagnoses", "10"), ("mimic_procedures", "1")], ids=["001.0", "00.01"]
)
def test_lost_zeros_are_refused_with_a_hint(table: str, code: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"line 2: a code of \d digits?; leading zeros seem to be lost: export"):
        mimic(tmp_path, (code, 9), table=table)


def test_a_crosswalk_of_the_other_direction_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "2018_I10gem.txt"
    path.write_text("A000    0010  00000\nE030    243   10000\nE119    25000 10000\n")
    with pytest.raises(SourceError, match=r"0 of 3 rows .* other direction \(I10gem\)"):
        read_gem(path)


def test_a_byte_order_mark_costs_no_code(tmp_path: Path) -> None:
    records = made(tmp_path, "\ufeffA000   Cholera\nA001   Other cholera\n", "icd10cm")
    assert list(texts(records)) == ["icd10cm:A00.0", "icd10cm:A00.1"]


def test_every_code_of_the_tabular_list_is_one_also_in_a_list_or_order_file(tmp_path: Path) -> None:
    codes = [code.replace(".", "") for code in read_hierarchy(tabular_location(None))]
    assert [code for code in codes if not has_shape("icd10cm", code)] == []
    (tmp_path / "icd10cm-codes-2026.txt").write_text("QA00101 SCN2A-related neurodevelopmental disorder\n")
    (entry,) = code_table("icd10cm", str(tmp_path / "icd10cm-codes-2026.txt"))
    assert (entry.code, entry.chapter_id) == ("QA0.0101", "Q00-QA0")
    (record,) = mimic(tmp_path, ("QA0.8", 10))
    assert list(texts([record])) == ["icd10cm:QA0.8"]  # type: ignore[list-item]
    assert isinstance(*mimic(tmp_path, ("NaN", 10)), Quarantined)
