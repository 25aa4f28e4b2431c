"""What leaves the explorer as a file: whole, and with the codes as they are."""

import csv
import io
import json
import zipfile
from xml.etree import ElementTree

import pyarrow as pa
import pytest
from panels.export import Export, content, provenance

from tests.helpers.explorer_page import PublishMap

CODES = pa.table({"code": ["250.00", "007.3", "E11.9"], "description": ["=cmd()", "a, b", "<c> & d\x07"]})
EXPORT = Export(CODES, "m-1", ["model m-1", "fingerprint abc"], codes_of="icd9cm")
_CELL = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}c"


def test_provenance_names_model_fingerprint_recipe_and_date(publish_map: PublishMap) -> None:
    artifact = publish_map()
    lines = provenance(artifact)
    assert lines[0] == "Clinical ModernBERT. Research use, not for care."
    for fact in ("model m-1", artifact.manifest.fingerprint, "recipe map/tiny", artifact.manifest.created_at[:10]):
        assert fact in lines[1]
    assert lines[-1].startswith("exported 20")


def test_csv_begins_with_its_header_and_runs_nothing_in_a_spreadsheet() -> None:
    lines = list(csv.reader(io.StringIO(content(EXPORT, "csv").decode())))
    assert lines[0] == ["code", "description"]
    assert lines[1] == ["250.00", "'=cmd()"]
    listed = pa.table({"id": ["+1", "x"], "n": [-1, 2], "l": [["a", "b"], []]})
    assert content(Export(listed, "f", []), "csv").decode().splitlines() == ["id,n,l", "'+1,-1,a; b", "x,2,"]


def test_a_workbook_keeps_codes_as_text_and_has_its_provenance() -> None:
    with zipfile.ZipFile(io.BytesIO(content(EXPORT, "xlsx"))) as archive:
        assert archive.testzip() is None
        for name in archive.namelist():
            ElementTree.fromstring(archive.read(name))
        cells = list(ElementTree.fromstring(archive.read("xl/worksheets/sheet1.xml")).iter(_CELL))
        second = ElementTree.fromstring(archive.read("xl/worksheets/sheet2.xml"))
    assert ["".join(cell.itertext()) for cell in cells[:4]] == ["code", "description", "250.00", "=cmd()"]
    assert {cell.get("t") for cell in cells} == {"inlineStr"} and {cell.get("s") for cell in cells} == {"1"}
    assert "".join(cells[-1].itertext()) == "<c> & d"
    assert ["".join(cell.itertext()) for cell in second.iter(_CELL)] == ["model m-1", "fingerprint abc"]


def test_a_bare_list_and_a_concept_set_hold_every_code() -> None:
    assert content(EXPORT, "txt") == b"250.00\n007.3\nE11.9\n"
    items = json.loads(content(EXPORT, "json"))["expression"]["items"]
    assert [item["concept"]["CONCEPT_CODE"] for item in items] == CODES["code"].to_pylist()
    assert {item["concept"]["VOCABULARY_ID"] for item in items} == {"ICD9CM"}
    assert not any(item["isExcluded"] for item in items)
    assert content(EXPORT, "provenance.txt").decode().splitlines() == EXPORT.provenance


def test_an_excluded_code_is_marked_where_it_can_be_and_left_out_elsewhere() -> None:
    table = CODES.append_column("excluded", pa.array([False, True, False]))
    export = Export(table, "m-1", [], codes_of="icd9cm")
    assert content(export, "txt") == b"250.00\nE11.9\n"
    items = json.loads(content(export, "json"))["expression"]["items"]
    assert [item["isExcluded"] for item in items] == [False, True, False]
    assert content(export, "csv").decode().splitlines()[2].endswith("True")


@pytest.mark.parametrize("count", [1, 501, 20_000])
def test_no_file_is_cut(count: int) -> None:
    table = pa.table({"code": [f"{n:05d}" for n in range(count)], "description": ["d"] * count})
    whole = Export(table, "f", [], codes_of="icd10cm")
    assert len(content(whole, "txt").splitlines()) == count == len(content(whole, "csv").splitlines()) - 1
    assert len(json.loads(content(whole, "json"))["expression"]["items"]) == count
    with zipfile.ZipFile(io.BytesIO(content(whole, "xlsx"))) as archive:
        assert archive.read("xl/worksheets/sheet1.xml").count(b"<row>") == count + 1
