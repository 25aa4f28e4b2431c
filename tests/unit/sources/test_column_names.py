"""Messages about missing columns: they help where the names are names, and never quote a record."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clinical_modernbert.bulk.table import fingerprint_inputs
from clinical_modernbert.errors import SourceError
from clinical_modernbert.recipe.sources import MimicNoteSource, TableSource
from clinical_modernbert.sources import list_units
from clinical_modernbert.sources.column_names import check_names, described
from clinical_modernbert.sources.evaluation_sets.ed import read_stays

from tests.helpers.embed_recipes import recipe

NOTE = "Patient Jane Roe, MRN 4455667, seen 03/14/2019 for chest pain"
HEADLESS = f'1001,"{NOTE}"\n'


def table(folder: Path) -> None:
    list_units(TableSource(type="table", name="t", path=str(folder / "discharge.csv"), text_column="text"))


def mimic(folder: Path) -> None:
    list_units(MimicNoteSource(type="mimic_note", name="m", path=str(folder)))


def bulk(folder: Path) -> None:
    fingerprint_inputs(recipe(folder / "discharge.csv"))


def stays(folder: Path) -> None:
    (folder / "triage.csv").write_text(HEADLESS)
    list(read_stays(folder))


@pytest.mark.parametrize("read", [table, mimic, bulk, stays])
def test_a_file_without_header_never_puts_its_first_record_into_the_message(
    read: Callable[[Path], None], tmp_path: Path
) -> None:
    (tmp_path / "discharge.csv").write_text(HEADLESS)
    with pytest.raises(SourceError, match=r"it has 2 columns, whose names are not shown: .* no header") as error:
        read(tmp_path)
    assert not {"Jane", "4455667", "1001"} & set(str(error.value).replace(",", " ").split())


def test_a_parquet_file_whose_columns_are_a_record(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({NOTE: ["x"], "id": ["1"]}), path)
    with pytest.raises(SourceError, match="2 columns") as error:
        list_units(TableSource(type="table", name="t", path=str(path), text_column="text"))
    assert "Jane" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (b"PK\x03\x04\x14\x00\x06\x00\x08\x00 sheet1.xml\n", "a zip archive or an Excel workbook"),
        ("id,text\n1,Jane Roe\n".encode("utf-16"), "UTF-16"),
        ("id,text\n1,Jane Roe\n".encode("utf-16-be"), "UTF-16"),
        (b"\x89\x01\x02,\x03Jane\n", "binary or in another encoding"),
    ],
)
def test_the_kind_of_a_file_that_is_no_csv_is_named(content: bytes, hint: str, tmp_path: Path) -> None:
    (tmp_path / "discharge.csv").write_bytes(content)
    with pytest.raises(SourceError, match=hint) as error:
        table(tmp_path)
    assert "Jane" not in str(error.value) and "sheet1" not in str(error.value)


def test_names_are_quoted_only_where_all_are_names() -> None:
    assert described(["note_id", "Text", "chart.time"]) == "its columns are 'note_id', 'Text', 'chart.time'"
    for names in (["note_id", "Jane Roe"], ["a", "4455667"], ["a", "x" * 40], ["a", ""], []):
        assert "not shown" in described(names)
    check_names(["1001", "Jane Roe"], ["1001"], "f")
