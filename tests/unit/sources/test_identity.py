"""A patient is one group in every source, however a file spells the number; ids keep their digits."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clinical_modernbert.recipe.sources import (
    CcdaSource,
    DatasetSource,
    EicuNoteSource,
    FhirEventsSource,
    FhirSource,
    MedsSource,
    MimicNoteSource,
    OmopEventsSource,
    OmopNoteSource,
    Source,
    TableSource,
)
from clinical_modernbert.sources import list_units, read_unit
from clinical_modernbert.sources.document import Document, group_of


def documents(source: Source) -> list[Document]:
    found = [record for unit in list_units(source) for record in read_unit(source, unit)]
    assert all(isinstance(record, Document) for record in found)
    return [record for record in found if isinstance(record, Document)]


def table(path: Path, group_column: str, **settings: object) -> TableSource:
    return TableSource.model_validate(
        {"type": "table", "name": "t", "path": str(path), "text_column": "text", "group_column": group_column}
        | settings
    )


def sources(folder: Path) -> list[Source]:
    (folder / "a.csv").write_text("SUBJECT_ID,TEXT\n0012.0,Note one\n")
    pq.write_table(pa.table({"person_id": [12], "text": ["Note two"]}), folder / "b.parquet")
    (folder / "c.json").write_text(json.dumps([{"patient_id": "12", "text": "Note three"}]))
    (folder / "mimic").mkdir()
    (folder / "mimic" / "discharge.csv").write_text("note_id,subject_id,text\n1,12,Note four\n")
    (folder / "omop").mkdir()
    (folder / "omop" / "NOTE.csv").write_text("NOTE_ID\tPERSON_ID\tNOTE_TEXT\n1\t12\tNote five\n")
    note = {"contentType": "text/plain", "data": "Tm90ZSBzaXg="}
    resource = {
        "resourceType": "DiagnosticReport",
        "id": "1",
        "subject": {"reference": "Patient/12"},
        "presentedForm": [note],
    }
    (folder / "fhir").mkdir()
    (folder / "fhir" / "DiagnosticReport.ndjson").write_text(json.dumps(resource))
    events = {
        "subject_id": pa.array([12]),
        "time": pa.array([None], pa.timestamp("us")),
        "code": ["GENDER//F"],
        "numeric_value": pa.array([None], pa.float32()),
    }
    pq.write_table(pa.table(events), folder / "d.parquet")
    (folder / "fhir" / "Condition.ndjson").write_text(
        json.dumps(
            {"resourceType": "Condition", "id": "1", "subject": {"reference": "Patient/012"}, "code": {"text": "COPD"}}
        )
    )
    (folder / "omop" / "death.csv").write_text("person_id,death_date,cause_concept_id\n12.0,2180-01-01,0\n")
    (folder / "omop" / "concept.csv").write_text("concept_id\tconcept_name\n1\tCOPD\n")
    (folder / "ccda.xml").write_text(
        '<ClinicalDocument xmlns="urn:hl7-org:v3"><id root="1"/><recordTarget><patientRole><id extension="0012"/></patientRole>'
        "</recordTarget><component><structuredBody><component><section><text>Note seven</text></section></component>"
        "</structuredBody></component></ClinicalDocument>"
    )
    (folder / "eicu").mkdir()
    (folder / "eicu" / "patient.csv").write_text("patientunitstayid,uniquepid\n1,012\n")
    (folder / "eicu" / "note.csv").write_text(
        "patientunitstayid,noteenteredoffset,notetype,notepath,notevalue,notetext\n1,5,Admission,a/b/c,Note,eight\n"
    )
    return [
        table(folder / "a.csv", "subject_id"),
        table(folder / "b.parquet", "person_id"),
        table(folder / "c.json", "patient_id"),
        MimicNoteSource(type="mimic_note", name="m", path=str(folder / "mimic")),
        MedsSource(type="meds", name="e", path=str(folder / "d.parquet")),
        OmopNoteSource(type="omop_note", name="o", path=str(folder / "omop")),
        FhirSource(type="fhir", name="f", path=str(folder / "fhir")),
        FhirEventsSource(type="fhir_events", name="g", path=str(folder / "fhir")),
        OmopEventsSource(type="omop_events", name="p", path=str(folder / "omop")),
        CcdaSource(type="ccda", name="c", path=str(folder / "ccda.xml")),
        EicuNoteSource(type="eicu_note", name="i", path=str(folder / "eicu")),
    ]


def test_one_patient_in_every_source(tmp_path: Path) -> None:
    groups = [document.group for source in sources(tmp_path) for document in documents(source)]
    assert groups == ["patient:12"] * 11


def test_other_columns_are_groups_of_their_own_unless_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("encounter;text\nE007;Note\n")
    assert documents(table(path, "encounter"))[0].group == "encounter:E007"
    assert documents(table(path, "encounter", group_name="stay"))[0].group == "stay:E007"


@pytest.mark.parametrize(
    ("value", "group"), [("12", "12"), ("0012", "12"), ("12.0", "12"), ("12.5", "12.5"), ("000", "0"), (" A01 ", "A01")]
)
def test_whole_numbers_have_one_spelling(value: str, group: str) -> None:
    assert group_of("patient", value) == f"patient:{group}"


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.tsv"])
def test_ids_and_texts_of_a_data_set_of_csv_files_are_as_they_stand(tmp_path: Path, name: str) -> None:
    text = "id,patient,text\n0012,007,NA\n0013,7.0,None of it\n"
    content = (text.replace(",", "\t") if name == "a.tsv" else text).encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    source = DatasetSource(
        type="dataset", name="d", path=str(tmp_path), text_column="text", id_column="id", group_column="patient"
    )
    assert [(d.id, d.group, d.text) for d in documents(source)] == [
        ("0012", "patient:7", "NA"),
        ("0013", "patient:7", "None of it"),
    ]
