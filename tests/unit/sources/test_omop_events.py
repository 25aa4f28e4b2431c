# ruff: noqa: E501 - records of the formats stay on one line
"""Events of an OMOP CDM with the names of its concepts, from every form of its tables."""

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clinical_modernbert.errors import SourceError
from clinical_modernbert.recipe.sources import OmopEventsSource, OmopNoteSource
from clinical_modernbert.sources import list_units, read_unit
from clinical_modernbert.sources.document import Document, Dropped, Quarantined, Record

Table = list[dict[str, Any]]
TABLES: dict[str, Table] = {
    "person": [
        {"person_id": 12, "gender_concept_id": 8532, "year_of_birth": 1940, "month_of_birth": 2, "race_concept_id": 0},
        {"person_id": 13, "gender_concept_id": 0, "year_of_birth": None, "month_of_birth": None, "race_concept_id": 0},
    ],
    "visit_occurrence": [
        {"person_id": 12, "visit_concept_id": 9203, "visit_start_date": "2180-01-02", "visit_start_datetime": "2180-01-02 08:00:00",
         "visit_end_date": "2180-01-03", "discharged_to_concept_id": 581476},
    ],
    "condition_occurrence": [
        {"person_id": 12, "condition_concept_id": 317009, "condition_start_date": "2180-01-02", "condition_source_value": "J45"},
        {"person_id": 12, "condition_concept_id": 0, "condition_start_date": "2180-01-02", "condition_source_value": "cough, dry"},
    ],
    "measurement": [
        {"person_id": 12, "measurement_concept_id": 3004249, "measurement_date": "2180-01-02", "value_as_number": 88.1,
         "unit_concept_id": 8876, "operator_concept_id": 4172703, "value_as_concept_id": 0, "value_source_value": "88.1"},
        {"person_id": 12, "measurement_concept_id": 3019800, "measurement_date": "2180-01-02", "value_as_number": 0.01,
         "unit_concept_id": 0, "operator_concept_id": 4171756, "value_as_concept_id": 0, "value_source_value": "<0.01"},
        {"person_id": 12, "measurement_concept_id": 3005705, "measurement_date": "2180-01-03", "value_as_number": None,
         "unit_concept_id": None, "operator_concept_id": None, "value_as_concept_id": 9191, "value_source_value": "POS"},
    ],
    "death": [{"person_id": 12, "death_date": "2180-02-01", "cause_concept_id": 0}],
    "concept": [
        {"concept_id": number, "concept_name": name}
        for number, name in ((8532, "FEMALE"), (9203, "Emergency Room Visit"), (317009, "Asthma"), (8876, "mm[Hg]"),
                             (3004249, "Systolic  blood pressure"), (3019800, 'Troponin "T"'), (3005705, "NA"), (9191, "Positive"),
                             (581476, "Home"), (0, "No matching concept"))
    ],
}  # fmt: skip
TEXT = [
    "GENDER FEMALE",
    "1940-02: MEDS_BIRTH",
    '2180-01-02: CONDITION Asthma; CONDITION cough, dry; MEASUREMENT Systolic blood pressure mm[Hg] 88.1; MEASUREMENT Troponin "T" <0.01',
    "2180-01-02 08:00: VISIT Emergency Room Visit",
    "2180-01-03: VISIT_END Home; MEASUREMENT NA Positive",
    "2180-02-01: MEDS_DEATH",
]  # fmt: skip


def csv_text(rows: Table, delimiter: str, *, quoted: bool = True, upper: bool = False) -> str:
    out = io.StringIO()
    style: Any = {} if quoted else {"quoting": csv.QUOTE_NONE, "quotechar": None}
    writer = csv.writer(out, delimiter=delimiter, lineterminator="\n", **style)
    writer.writerow([name.upper() if upper else name for name in rows[0]])
    writer.writerows([row.values() for row in rows])
    return out.getvalue()


def as_csv(folder: Path, tables: dict[str, Table]) -> Path:
    for name, rows in tables.items():
        # Athena's CONCEPT has tabs and no quotes, whatever the other tables are.
        tabbed = name == "concept"
        text = csv_text(rows, "\t" if tabbed else ",", quoted=not tabbed, upper=True)
        (folder / f"{name.upper()}.csv").write_text(text)
    return folder


def as_bars(folder: Path, tables: dict[str, Table]) -> Path:
    for name, rows in tables.items():
        (folder / f"{name.title()}.txt").write_text(csv_text(rows, "|"))
    return folder


def as_parquet(folder: Path, tables: dict[str, Table]) -> Path:
    for name, rows in tables.items():
        table = pa.Table.from_pylist(rows)
        if "value_as_number" in table.column_names:
            at = table.column_names.index("value_as_number")
            table = table.set_column(at, "value_as_number", table.column(at).cast(pa.float32()))
        (folder / name).mkdir()
        for part, start in enumerate(range(0, len(rows), 2)):
            pq.write_table(table.slice(start, 2), folder / name / f"part-{part}.parquet")
    return folder


def as_duckdb(folder: Path, tables: dict[str, Table]) -> Path:
    duckdb = pytest.importorskip("duckdb")
    path = folder / "hospital.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE SCHEMA cdm")
        for name, rows in tables.items():
            connection.register("rows", pa.Table.from_pylist(rows))
            connection.execute(f'CREATE TABLE cdm."{name.upper()}" AS SELECT * FROM rows')
    return path


def read(path: Path, **settings: object) -> list[Record]:
    source = OmopEventsSource.model_validate({"type": "omop_events", "name": "o", "path": str(path), **settings})
    (unit,) = list_units(source)
    return list(read_unit(source, unit))


def as_pandas(folder: Path, tables: dict[str, Table]) -> Path:
    """Whole numbers of a column that has empty values are floats in files that pandas wrote."""
    for name, rows in tables.items():
        nullable = [{key: float(v) if isinstance(v, int) else v for key, v in row.items()} for row in rows]
        (folder / f"{name}.csv").write_text(csv_text(nullable, ","))
    return folder


def as_spark(folder: Path, tables: dict[str, Table]) -> Path:
    for name, rows in tables.items():
        if name == "measurement":
            (folder / "measurement" / "year=2180").mkdir(parents=True)
            pq.write_table(
                pa.Table.from_pylist(rows), folder / "measurement" / "year=2180" / "part-00000.snappy.parquet"
            )
        else:
            (folder / f"{name}.csv").mkdir()
            (folder / f"{name}.csv" / "part-00000-c000.csv").write_text(csv_text(rows, ","))
            (folder / f"{name}.csv" / "_SUCCESS").touch()
    return folder


@pytest.mark.parametrize("write", [as_csv, as_bars, as_parquet, as_duckdb, as_pandas, as_spark])
def test_tables_of_every_form_are_one_text_a_person(
    write: Callable[[Path, dict[str, Table]], Path], tmp_path: Path
) -> None:
    first, second = read(write(tmp_path, TABLES))
    assert isinstance(first, Document) and (first.id, first.group) == ("12", "patient:12")
    assert first.text.split("\n") == TEXT
    assert second == Dropped("empty")


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"value_as_concept_id": "9191"}, "NA Positive"),
        ({"value_as_concept_id": "9191.0"}, "NA Positive"),
        ({"value_as_concept_id": " 9191 "}, "NA Positive"),
        ({"value_as_concept_id": "777"}, "NA pos"),  # CONCEPT has no name of it
        ({"value_as_concept_id": "0.0"}, "NA pos"),
        ({"value_as_concept_id": "777", "value_as_string": "weak"}, "NA weak"),
        ({"value_as_number": "5.0", "operator_concept_id": "4171756.0", "unit_concept_id": "8876.0"}, "NA mm[Hg] <5"),
    ],
)
def test_no_value_is_lost_by_its_spelling_or_by_a_concept_without_name(
    tmp_path: Path, fields: dict[str, str], shown: str
) -> None:
    empty = dict.fromkeys(("value_as_number", "value_as_string", "operator_concept_id", "unit_concept_id"), "")
    row = {"person_id": "12.0", "measurement_concept_id": "3005705.0", "measurement_date": "2180-01-02"}
    row |= {"measurement_datetime": "2180-01-02 08:00:00", "value_source_value": "pos"} | empty | fields
    (document,) = read(as_csv(tmp_path, {"measurement": [row], "concept": TABLES["concept"]}))
    assert isinstance(document, Document) and document.text == f"2180-01-02 08:00: MEASUREMENT {shown}"


@pytest.mark.parametrize("zone", ["", " UTC", " -0500", "+00", "-05:00"])  # of BigQuery, Snowflake, Postgres
def test_times_of_databases_have_zones(tmp_path: Path, zone: str) -> None:
    row = {"person_id": 12, "condition_concept_id": 317009, "condition_start_date": "2180-01-02"}
    row["condition_start_datetime"] = f"2180-01-02 08:00:00.000{zone}"
    (document,) = read(as_csv(tmp_path, {"condition_occurrence": [row], "concept": TABLES["concept"]}))
    assert isinstance(document, Document) and document.text == "2180-01-02 08:00: CONDITION Asthma"


@pytest.mark.parametrize("missing", ["NA", "NULL", "\\N", "nan"])
def test_what_r_python_and_databases_write_for_a_missing_value_is_none(tmp_path: Path, missing: str) -> None:
    absent = (
        "measurement_datetime",
        "value_as_string",
        "operator_concept_id",
        "value_as_concept_id",
        "unit_source_value",
    )
    row = {"person_id": 12, "measurement_concept_id": 3019800, "measurement_date": "2180-01-02", "value_as_number": 5}
    person = {"person_id": 12, "year_of_birth": 1940, "month_of_birth": missing, "gender_concept_id": 0}
    tables = {"person": [person | {"gender_source_value": missing}], "concept": TABLES["concept"]}
    sodium = {"person_id": 12, "measurement_concept_id": 0, "measurement_date": "2180-01-03", "value_as_number": 140}
    sodium |= dict.fromkeys(absent, "") | {"measurement_source_value": "NA"}
    rows = [row | dict.fromkeys((*absent, "measurement_source_value"), missing), sodium]
    (document,) = read(as_csv(tmp_path, tables | {"measurement": rows}))
    assert isinstance(document, Document)
    assert document.text.split("\n") == [
        "1940: MEDS_BIRTH",
        '2180-01-02: MEASUREMENT Troponin "T" 5',
        "2180-01-03: MEASUREMENT NA 140",
    ]


def test_labels_are_left_out(tmp_path: Path) -> None:
    document = read(as_csv(tmp_path, TABLES), leave_out=["VISIT_END", "MEDS_DEATH", "CONDITION//Asthma"])[0]
    assert isinstance(document, Document)
    assert "Home" not in document.text and "Asthma" not in document.text and "cough" in document.text


def test_rows_that_make_no_event_are_counted_without_their_values(tmp_path: Path) -> None:
    bad = {
        "condition_occurrence": [
            {"person_id": 12, "condition_concept_id": 317009, "condition_start_date": "Jane Roe", "condition_source_value": ""},
            {"person_id": "", "condition_concept_id": 317009, "condition_start_date": "2180-01-02", "condition_source_value": ""},
            {"person_id": 12, "condition_concept_id": 555, "condition_start_date": "2180-01-02", "condition_source_value": ""},
        ],
        "measurement": [
            {"person_id": 12, "measurement_concept_id": 317009, "measurement_date": "2180-01-02", "value_as_number": "Jane Roe",
             "operator_concept_id": ""},
            {"person_id": 12, "measurement_concept_id": 317009, "measurement_date": "2180-01-02", "value_as_number": 3,
             "operator_concept_id": 77},
        ],
        "concept": TABLES["concept"],
    }  # fmt: skip
    records = read(as_csv(tmp_path, bad))
    assert {(r.file, r.position, r.reason) for r in records if isinstance(r, Quarantined)} == {
        ("CONDITION_OCCURRENCE.csv", "line 2", "no date, or one that is not of the form YYYY-MM-DD"),
        ("CONDITION_OCCURRENCE.csv", "line 3", "no person_id"),
        ("concept", "concept 555", "a concept without a name in CONCEPT, and no source value"),
        ("MEASUREMENT.csv", "line 2", "value_as_number is no number"),
        ("concept", "concept 317009", "an unknown operator"),
    }
    assert "Jane" not in repr(records)


def test_a_cdm_without_concepts_or_with_other_columns_is_refused(tmp_path: Path) -> None:
    without = {name: rows for name, rows in TABLES.items() if name != "concept"}
    with pytest.raises(
        SourceError, match=r"^sources\[o\]\.path: .* needs CONCEPT and one of condition_occurrence, .*person"
    ):
        read(as_csv(tmp_path, without))
    as_csv(tmp_path, {"concept": TABLES["concept"], "death": [{"person_id": 1}]})
    with pytest.raises(SourceError, match=r"DEATH\.csv has no column 'cause_concept_id', 'death_date'"):
        read(tmp_path)


def test_notes_in_a_duckdb_file(tmp_path: Path) -> None:
    notes = [
        {"note_id": 7, "person_id": 12, "note_text": "Seen today."},
        {"note_id": 8, "person_id": 12, "note_text": " "},
    ]
    source = OmopNoteSource(type="omop_note", name="o", path=str(as_duckdb(tmp_path, {"note": notes})))
    (unit,) = list_units(source)
    assert list(read_unit(source, unit)) == [Document("7", "o", "patient:12", "Seen today."), Dropped("empty")]
    (tmp_path / "hospital.duckdb").unlink()
    as_duckdb(tmp_path, {"person": TABLES["person"]})
    with pytest.raises(SourceError, match="has no table note"):
        list_units(source)


def test_a_duckdb_file_without_the_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cdm.db"
    path.write_bytes(b"\0" * 8 + b"DUCK" + b"\0" * 100)
    monkeypatch.setitem(__import__("sys").modules, "duckdb", None)
    with pytest.raises(SourceError, match=r"install the package duckdb \(clinical-modernbert\[duckdb\]\)"):
        read(path)
