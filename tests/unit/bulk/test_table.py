"""Which files a bulk job reads, what it checks before it starts, and how rows become parts."""

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clinical_modernbert.bulk.table import TextRow, find_tables, fingerprint_inputs, quarantine_entry, read_table_rows
from clinical_modernbert.errors import SourceError
from clinical_modernbert.recipe import ExtractRecipe
from clinical_modernbert.sources.document import Quarantined
from pyarrow import csv
from pydantic import ValidationError

from tests.helpers.embed_recipes import recipe

CANARY = "Zebulon Quixworth"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.csv").write_text(f'note_id,ward,text\n1,icu,"{CANARY}\nwas seen"\n,icu,{CANARY}\n3,,\n4,er\n')
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(b"text,note_id,ward\nno acute distress,5,er\n"))
    pq.write_table(
        pa.table({"note_id": [6, 7], "ward": ["er", None], "text": ["afebrile", None]}), tmp_path / "c.parquet"
    )
    (tmp_path / "readme.md").write_text("not a table")
    return tmp_path


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_every_table_of_a_folder_is_found_and_named_by_its_content(folder: Path, form: str) -> None:
    before = fingerprint_inputs(recipe(form.format(folder)))
    assert [entry.name for entry in before] == ["a.csv", "b.csv.gz", "c.parquet"]
    (folder / "a.csv").write_text("note_id,ward,text\n1,icu,changed\n")
    assert [a.digest == b.digest for a, b in zip(before, fingerprint_inputs(recipe(folder)), strict=True)] == [
        False,
        True,
        True,
    ]
    assert [table.key for table in find_tables(recipe(form.format(folder / "c.parquet")))] == ["c.parquet"]


def test_a_folder_that_is_called_as_a_file_is_read_as_a_folder(tmp_path: Path) -> None:
    """Spark, Dask and pandas write ``notes.parquet`` as a folder of files."""
    spark = tmp_path / "notes.parquet"
    spark.mkdir()
    (spark / "_SUCCESS").touch()
    pq.write_table(pa.table({"note_id": [1], "ward": ["er"], "text": ["afebrile"]}), spark / "part-00000.parquet")
    for form in (str(spark), f"file://{spark}", f"{spark}/"):
        assert [table.key for table in find_tables(recipe(form))] == ["part-00000.parquet"]
    assert [entry.name for entry in fingerprint_inputs(recipe(spark))] == ["part-00000.parquet"]


@pytest.mark.parametrize(("id_type", "num_bad"), [("integer", 3), ("string", 0)])
def test_ids_that_are_no_numbers_are_seen_before_a_note_is_labelled(tmp_path: Path, id_type: str, num_bad: int) -> None:
    """The count of rows reads the table too, so a table of other ids ends the job before any actor starts."""
    ids = ["1", "-2", "3.5", "a7", "9" * 19, "0"]
    (tmp_path / "note.csv").write_text("note_id,note_text\n" + "".join(f"{i},x\n" for i in ids))
    extract = ExtractRecipe.model_validate(
        {"name": "t", "model": "ner", "input_uri": str(tmp_path), "id_column": "note_id", "text_column": "note_text",
         "id_type": id_type}
    )  # fmt: skip
    rows = list(read_table_rows(tmp_path / "note.csv", file="note.csv", recipe=extract))
    bad = [row for row in rows if isinstance(row, Quarantined)]
    assert (len(rows), len(bad)) == (6, num_bad)
    assert [row.position for row in bad] == ["line 4", "line 5", "line 6"][:num_bad]
    assert all(
        row.reason == "note_id is no whole number as OMOP's note_id is; id_type=string keeps others" for row in bad
    )


def test_rows_of_every_format_read_alike_and_bad_ones_are_named_by_their_place(folder: Path) -> None:
    found = [
        row
        for table in find_tables(recipe(folder))
        for row in read_table_rows(folder / table.key, file=table.key, recipe=recipe(folder))
    ]
    good = [(row.position, row.id, row.text, row.metadata) for row in found if isinstance(row, TextRow)]
    assert good == [
        ("line 2", "1", f"{CANARY}\nwas seen", ("icu",)),
        ("line 5", "3", "", (None,)),
        ("line 2", "5", "no acute distress", ("er",)),
        ("row 1", "6", "afebrile", ("er",)),
        ("row 2", "7", "", (None,)),
    ]
    bad = [(row.file, row.position, row.reason) for row in found if isinstance(row, Quarantined)]
    assert bad == [("a.csv", "line 4", "no note_id"), ("a.csv", "line 6", "2 columns where the header has 3")]


def test_a_broken_parquet_file_is_quarantined_where_it_breaks(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1 no table PAR1")
    (row,) = read_table_rows(tmp_path / "x.parquet", file="x.parquet", recipe=recipe(tmp_path))
    assert isinstance(row, Quarantined)
    assert (row.position, "the rest is not read" in row.reason) == ("row 1", True)


@pytest.mark.parametrize("name", ["x.parquet", "x.csv", "x.jsonl"])
def test_reading_begins_at_any_row_with_the_same_values(tmp_path: Path, name: str) -> None:
    table = pa.table({"note_id": list(range(50)), "ward": ["er"] * 50, "text": [f"note {i}" for i in range(50)]})
    if name == "x.csv":
        csv.write_csv(table, tmp_path / name)
    elif name == "x.jsonl":
        (tmp_path / name).write_text("\n".join(json.dumps(row) for row in table.to_pylist()))
    else:
        pq.write_table(table, tmp_path / name, row_group_size=7)
    whole = list(read_table_rows(tmp_path / name, file=name, recipe=recipe(tmp_path)))
    for start in (0, 1, 6, 7, 8, 21, 49, 50):
        assert list(read_table_rows(tmp_path / name, file=name, recipe=recipe(tmp_path), start=start)) == whole[start:]


def test_row_groups_before_the_first_row_are_not_read(tmp_path: Path) -> None:
    table = pa.table(
        {"note_id": list(range(20)), "ward": ["er"] * 20, "text": [f"note {i} {'x' * 50}" for i in range(20)]}
    )
    path = tmp_path / "x.parquet"
    pq.write_table(table, path, row_group_size=10, compression="none", use_dictionary=False)
    content = bytearray(path.read_bytes())
    at = content.index(b"note 0 ") - 30
    content[at : at + 30] = b"\xff" * 30
    path.write_bytes(content)
    (broken,) = [
        row for row in read_table_rows(path, file="x.parquet", recipe=recipe(tmp_path)) if isinstance(row, Quarantined)
    ]
    assert broken.position == "row 1"
    later = list(read_table_rows(path, file="x.parquet", recipe=recipe(tmp_path), start=12))
    assert [row.id for row in later if isinstance(row, TextRow)] == [str(i) for i in range(12, 20)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metadata_columns": ["unit"]}, "a.csv has no column 'unit'; its columns are 'note_id', 'ward', 'text'"),
        ({"input_uri": "{}/absent"}, "no .parquet, .csv, .csv.gz, .jsonl, .* file below"),
        ({"input_uri": "{}/absent.csv"}, "absent.csv does not exist"),
    ],
)
def test_what_is_not_there_is_said_before_anything_starts(folder: Path, changes: dict[str, Any], message: str) -> None:
    if "input_uri" in changes:
        changes = {"input_uri": changes["input_uri"].format(folder)}
    with pytest.raises(SourceError, match=message):
        fingerprint_inputs(recipe(folder, **changes))


@pytest.mark.parametrize("columns", [["text"], ["vector"], ["ward", "ward"]])
def test_texts_are_never_kept_and_columns_never_clash(columns: list[str]) -> None:
    with pytest.raises(ValidationError, match="metadata_columns"):
        recipe("notes", metadata_columns=columns)


def test_a_dry_run_needs_neither_torch_nor_ray() -> None:
    code = "import sys, clinical_modernbert.bulk.table; print({'torch', 'ray', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_poison_row_of_parquet_costs_itself(tmp_path: Path) -> None:
    texts = pa.array([b"ok", b"\xff\xfe", b"ok"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"note_id": [1, 2, 3], "ward": ["er"] * 3, "text": texts}), path := tmp_path / "c.parquet")
    rows = [*read_table_rows(path, file="c.parquet", recipe=recipe(path))]
    assert [type(row).__name__ for row in rows] == ["TextRow", "Quarantined", "TextRow"]


def test_a_sentence_is_no_id_of_a_quarantined_row() -> None:
    entries = [quarantine_entry(Quarantined("a.csv", "line 2", "no text", record_id=name)) for name in ("7", CANARY)]
    assert [entry[3] for entry in entries] == ["7", None]


def read_all(folder: Path, **changes: Any) -> list[TextRow | Quarantined]:
    chosen = recipe(folder, **changes)
    fingerprint_inputs(chosen)
    tables = find_tables(chosen)
    return [r for t in tables for r in read_table_rows(folder / t.key, file=t.key, recipe=chosen)]


def test_json_lines_read_as_other_formats_and_null_may_be_left_out(tmp_path: Path) -> None:
    lines = ['{"note_id": 1, "text": "chest pain"}', '{"note_id": 2.0, "ward": "er", "text": null}', "", "[1]", "{"]
    bad = ['{"text": "x"}', '{"note_id": {"a": 1}, "text": "x"}', '{"note_id": 3, "text": 7}']
    half = ['{"note_id": 4, "text": "a \\ud800 b"}', '{"note_id": 5, "ward": "\\udfff", "text": "x"}']
    (tmp_path / "a.jsonl").write_text("\n".join([*lines, *bad, *half]))
    (tmp_path / "b.json").write_text('[{"note_id": 8, "text": "x"}]')
    (tmp_path / "c.ndjson.gz").write_bytes(gzip.compress(b'{"note_id": 9, "text": "x"}\n'))
    found = read_all(tmp_path)
    assert [(row.position, row.id, row.text, row.metadata) for row in found if isinstance(row, TextRow)] == [
        ("line 1", "1", "chest pain", (None,)),
        ("line 2", "2", "", ("er",)),
        ("value 1", "8", "x", (None,)),
        ("line 1", "9", "x", (None,)),
    ]
    assert [(row.position, row.reason) for row in found if isinstance(row, Quarantined)] == [
        ("line 4", "no JSON object"),
        ("line 5", "no JSON"),
        ("line 6", "no note_id"),
        ("line 7", "note_id is no single value"),
        ("line 8", "text is no text"),
        ("line 9", "text is not Unicode"),
        ("line 10", "ward is not Unicode"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"id": 1, "text": "x"}\n', "a.jsonl has no column 'note_id'; its columns are 'id', 'text'"),
        ('{"note_id": 1, "text": "x"}\n', "metadata_columns: no file has 'ward' in its first 1000 values"),
        ("[1]\n[2]\n", "a.jsonl: expected JSON objects with 'note_id', 'text', 'ward'"),
    ],
)
def test_json_without_the_columns_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(SourceError, match=message):
        fingerprint_inputs(recipe(tmp_path))


def test_a_file_that_is_there_plain_and_as_gzip_is_refused(folder: Path) -> None:
    (folder / "b.csv").write_text("text,note_id,ward\n")
    with pytest.raises(SourceError, match=r"'b.csv' is below .* both plain and as .gz; remove one of the two"):
        find_tables(recipe(folder))


def test_columns_in_the_names_of_folders(tmp_path: Path) -> None:
    for folder, name, content in [
        ("ward=icu", "a.csv", "note_id,text,ward\n1,x,other\n"),
        ("Ward=a%2Fb", "b.jsonl", '{"note_id": 2, "text": "x"}\n'),
        ("ward=__HIVE_DEFAULT_PARTITION__", "c.csv", "note_id,text\n3,x\n"),
        ("_temporary", "d.csv", "no table"),
        ("ward=er", "_e.csv", "no table"),
    ]:
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / name).write_text(content)
    pq.write_table(pa.table({"note_id": [4], "text": ["x"]}), tmp_path / "ward=er" / "f.parquet")
    rows = [row for row in read_all(tmp_path) if isinstance(row, TextRow)]
    assert sorted((row.id, row.metadata[0]) for row in rows) == [("1", "icu"), ("2", "a/b"), ("3", None), ("4", "er")]
    (tmp_path / "empty" / "_x").mkdir(parents=True)
    (tmp_path / "empty" / "_x" / "a.csv").write_text("")
    with pytest.raises(SourceError, match="1 below names with a leading _"):
        find_tables(recipe(tmp_path / "empty"))
