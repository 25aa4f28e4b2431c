# ruff: noqa: E501 - records of the formats stay on one line
"""Events of a FHIR export: one text a patient, and what is dropped, replaced or left out."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from clinical_modernbert.errors import SourceError
from clinical_modernbert.recipe.sources import FhirEventsSource, FhirSource
from clinical_modernbert.sources import list_units, read_unit
from clinical_modernbert.sources.document import Document, Dropped, Quarantined, Record
from clinical_modernbert.sources.files import Progress

SUBJECT = {"subject": {"reference": "Patient/0012"}}
ASTHMA = {"code": {"coding": [{"code": "195967001", "display": "Asthma"}]}}


def resource(kind: str, name: str = "1", **fields: Any) -> dict[str, Any]:
    return {"resourceType": kind, "id": name, **SUBJECT, **fields}


def write(folder: Path, *resources: dict[str, Any]) -> None:
    files: dict[str, list[str]] = {}
    for item in resources:
        files.setdefault(item["resourceType"], []).append(json.dumps(item))
    for kind, lines in files.items():
        (folder / f"{kind}.000.ndjson").write_text("\n".join(lines) + "\n")


def read(folder: Path, **settings: object) -> list[Record]:
    source = FhirEventsSource.model_validate({"type": "fhir_events", "name": "e", "path": str(folder), **settings})
    (unit,) = list_units(source)
    return list(read_unit(source, unit))


def only_text(folder: Path, **settings: object) -> str:
    (document,) = read(folder, **settings)
    assert isinstance(document, Document) and (document.id, document.group) == ("0012", "patient:12")
    return document.text


EVERYTHING = (
    resource("Patient", "0012", gender="female", birthDate="1940-02", deceasedDateTime="2180-03-01"),
    resource("Condition", **ASTHMA, recordedDate="2180-01-02"),
    resource("Encounter", **{"class": {"code": "EMER", "display": "emergency"}}, type=[{"text": "Urgent visit"}],
             period={"start": "2180-01-02T08:00:00-05:00", "end": "2180-01-02T17:30:00-05:00"}, reasonCode=[{"text": "Cough"}],
             hospitalization={"dischargeDisposition": {"text": "Home"}}),
    resource("Observation", code={"text": "Blood pressure"}, effectiveDateTime="2180-01-02T08:00:00-05:00",
             component=[{"code": {"text": name}, "valueQuantity": {"value": value, "unit": "mm[Hg]"}}
                        for name, value in (("Systolic", 120), ("Diastolic", 80.0))]),
    resource("Observation", "2", code={"text": "Troponin T"}, effectiveDateTime="2180-01-02T13:30:00Z",
             valueQuantity={"value": 0.01, "unit": "ng/mL", "comparator": "<"}),
    resource("MedicationRequest", status="active", authoredOn="2180-01-03", medicationReference={"reference": "Medication/m"},
             dosageInstruction=[{"text": "2 puffs daily"}]),
    {"resourceType": "Medication", "id": "m", "code": {"text": "Albuterol 90 mcg"}},
    resource("Procedure", code={"text": "Spirometry"}, performedPeriod={"start": "2180-01-03"}),
)  # fmt: skip


def test_all_kinds_of_events_are_one_text_in_time_order(tmp_path: Path) -> None:
    write(tmp_path, *EVERYTHING)
    assert only_text(tmp_path).split("\n") == [
        "GENDER female",
        "1940-02: MEDS_BIRTH",
        "2180-01-02: CONDITION Asthma",
        "2180-01-02 08:00: ENCOUNTER emergency Urgent visit Cough; OBSERVATION Systolic mm[Hg] 120; "
        "OBSERVATION Diastolic mm[Hg] 80",
        "2180-01-02 13:30: OBSERVATION Troponin T ng/mL <0.01",
        "2180-01-02 17:30: ENCOUNTER_END Home",
        "2180-01-03: MEDICATION Albuterol 90 mcg 2 puffs daily; PROCEDURE Spirometry",
        "2180-03-01: MEDS_DEATH",
    ]
    assert "Home" not in only_text(tmp_path, leave_out=["ENCOUNTER_END", "MEDS_DEATH"])


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"valueCodeableConcept": {"coding": [{"display": "Positive"}]}}, "X Positive"),
        ({"valueString": "see  note"}, "X see note"),
        ({"valueBoolean": False}, "X false"),
        ({"valueInteger": 7}, "X 7"),
        ({"valueRatio": {"numerator": {"value": 1}, "denominator": {"value": 128}}}, "X 1:128"),
        ({"valueRange": {"low": {"value": 2, "unit": "h"}, "high": {"value": 4.50}}}, "X h 2 to 4.5"),
        ({"valuePeriod": {"start": "2180-01-02", "end": "2180-01-05"}}, "X 2180-01-02 to 2180-01-05"),
        ({"valueQuantity": {"value": 1234567.95, "code": "/uL"}}, "X /uL 1234567.95"),
        ({"dataAbsentReason": {"text": "unknown"}}, "X"),
    ],
)
def test_values_of_observations(tmp_path: Path, value: dict[str, Any], shown: str) -> None:
    write(tmp_path, resource("Observation", code={"text": "X"}, **value))
    assert only_text(tmp_path) == f"OBSERVATION {shown}"


@pytest.mark.parametrize(
    "fields",
    [
        {"medicationCodeableConcept": {"text": "Aspirin"}},
        {"medicationCodeableConcept": [{"text": "Aspirin"}]},  # as some exporters write it
        {"medicationReference": {"reference": "Medication/x", "display": "Aspirin"}},
        {"medicationReference": {"reference": "#1"}, "contained": [{"id": "1", "code": {"text": "Aspirin"}}]},
    ],
)
def test_names_of_medications(tmp_path: Path, fields: dict[str, Any]) -> None:
    write(tmp_path, resource("MedicationRequest", **fields))
    assert only_text(tmp_path) == "MEDICATION Aspirin"


MIX = [{"itemReference": {"reference": "Medication/m"}}, {"itemCodeableConcept": {"text": "NaCl 0.9 %"}}]


@pytest.mark.parametrize(
    ("reference", "shown"),
    [
        ("Medication/mix", "Heparin + NaCl 0.9 %"),
        ("Medication/bag", "Heparin + NaCl 0.9 % + Insulin"),
        ("#1", "NaCl 0.9 % + Heparin"),
        ("Medication/itself", None),
        ("Medication/unknown", None),
    ],
)
def test_a_mixture_has_the_names_of_its_ingredients(tmp_path: Path, reference: str, shown: str | None) -> None:
    """As MIMIC-IV on FHIR has them, in a file of their own; four in five of its orders refer to a Medication."""
    bag = [
        {"itemReference": {"reference": "Medication/mix"}},
        {"itemReference": {"reference": "x", "display": "Insulin"}},
    ]
    itself = [{"itemReference": {"reference": "Medication/itself"}}]
    mixes = {"mix": MIX, "bag": bag, "itself": itself}
    lines = [json.dumps({"resourceType": "Medication", "id": n, "ingredient": items}) for n, items in mixes.items()]
    (tmp_path / "MimicMedicationMix.ndjson").write_text("\n".join(lines))
    (tmp_path / "MimicMedicationAdministration.ndjson").write_text("not read")
    write(tmp_path, {"resourceType": "Medication", "id": "m", "code": {"text": "Heparin"}})
    contained = [{"resourceType": "Medication", "id": "1", "ingredient": MIX[::-1]}]
    write(tmp_path, resource("MedicationRequest", medicationReference={"reference": reference}, contained=contained))
    records = read(tmp_path)
    texts = [record.text for record in records if isinstance(record, Document)]
    assert texts == ([f"MEDICATION {shown}"] if shown else [])
    assert [r.reason for r in records if isinstance(r, Quarantined)] == (
        [] if shown else ["neither a text nor a display nor a code"]
    )


def test_resources_without_an_id_are_no_versions_of_each_other(tmp_path: Path) -> None:
    names = ("Fever", "Cough")
    write(tmp_path, *({"resourceType": "Condition", **SUBJECT, "code": {"text": name}} for name in names))
    assert only_text(tmp_path) == "CONDITION Fever; CONDITION Cough"


def test_the_first_moment_of_a_timing_is_the_time(tmp_path: Path) -> None:
    write(
        tmp_path, resource("Observation", code={"text": "X"}, effectiveTiming={"event": ["2180-01-02", "2180-01-03"]})
    )
    assert only_text(tmp_path) == "2180-01-02: OBSERVATION X"


def test_what_did_not_happen_is_dropped_and_a_resource_counts_once(tmp_path: Path) -> None:
    old, new = ({"meta": {"lastUpdated": f"2180-01-0{day}T00:00:00Z"}} for day in (1, 2))
    write(
        tmp_path,
        resource("Condition", "a", **ASTHMA, **old),
        resource("Condition", "b", **ASTHMA, verificationStatus={"coding": [{"code": "refuted"}]}),
        resource("MedicationRequest", "c", medicationCodeableConcept={"text": "Morphine"}, doNotPerform=True),
        resource("MedicationRequest", "p", medicationCodeableConcept={"text": "Morphine"}, intent="proposal"),
        resource("Observation", "d", code={"text": "X"}, status="entered-in-error"),
    )
    (tmp_path / "2.Condition.ndjson.gz").write_bytes(
        gzip.compress(
            "\n".join(json.dumps(resource("Condition", "a", code={"text": "COPD"}, **new)) for _ in "12").encode()
        )
    )
    *dropped, document = read(tmp_path)
    assert isinstance(document, Document) and document.text == "CONDITION COPD"
    assert dropped == [Dropped("withdrawn")] * 4 + [Dropped("superseded")] * 2


def test_unusable_resources_are_counted_by_reason_without_their_text(tmp_path: Path) -> None:
    good = [resource("Condition", f"g{n}", **ASTHMA, subject={"reference": f"Patient/{n}"}) for n in range(20)]
    bad = [
        *[resource("Condition", f"t{n}", **ASTHMA, recordedDate="Jane Roe") for n in range(5)],
        resource("Condition", "s", **ASTHMA, subject={"reference": "Group/7"}),
        resource("Condition", "n", code={}),
        resource("Condition", "c", code="Jane Roe", subject="Jane Roe"),
        resource("Observation", "o", code={"text": "X"}, valueQuantity={"value": "Jane Roe"}),
        resource("Condition", "u", code={"text": "Jane Roe \ud800"}),
    ]
    write(tmp_path, *good, *bad)
    records = read(tmp_path)
    assert sum(isinstance(record, Document) for record in records) == 20
    left = {(r.file.partition(".")[0], r.position, r.reason, r.num_lost) for r in records if isinstance(r, Quarantined)}
    assert left == {
        # 5 of 30 resources of 20 patients are about 3 patients.
        ("Condition", "line 21, line 22, line 23 and 2 more", "a time that is not of FHIR's form", 2),
        ("Condition", "line 26", "no subject that is a patient", 0),
        ("Condition", "line 27", "neither a text nor a display nor a code", 0),
        ("Condition", "line 28", "not of FHIR R4's structure", 0),
        ("Condition", "line 29", "a text that is not Unicode", 0),
        ("Observation", "line 1", "a quantity that is no number", 0),
    }
    assert "Jane" not in repr(records)


def test_withdrawn_resources_do_not_hide_a_loss(tmp_path: Path) -> None:
    """A tenth of the conditions is a fortieth of all resources: as large a share of the records is lost."""
    subjects = [{"reference": f"Patient/{n % 20}"} for n in range(600)]
    times = [{"recordedDate": "soon"} if n % 10 == 0 else {} for n in range(200)]
    write(
        tmp_path,
        *(resource("Condition", f"c{n}", **ASTHMA, **time, subject=subjects[n]) for n, time in enumerate(times)),
        *(resource("MedicationRequest", f"m{n}", status="cancelled", subject=subjects[n]) for n in range(600)),
    )
    records = read(tmp_path)
    (bad,) = (record for record in records if isinstance(record, Quarantined))
    assert (1 + bad.num_lost) / len(records) == pytest.approx(20 / 800, rel=0.1)


def test_a_torn_file_of_an_export_counts_its_unread_bytes(tmp_path: Path) -> None:
    write(
        tmp_path, *(resource("Condition", str(n), **ASTHMA, subject={"reference": f"Patient/{n}"}) for n in range(500))
    )
    packed = gzip.compress(
        "\n".join(json.dumps(resource("Observation", str(n), code={"text": "X"})) for n in range(900)).encode()
    )
    (tmp_path / "Observation.ndjson.gz").write_bytes(packed[: len(packed) // 3])
    source = FhirEventsSource(type="fhir_events", name="e", path=str(tmp_path))
    (unit,) = list_units(source)
    progress = Progress()
    records = list(read_unit(source, unit, progress=progress))
    assert any(isinstance(r, Quarantined) and "truncated" in r.reason for r in records)
    # The file, and as much again because what it lacks is unknown, but for what was read of it.
    assert len(packed) // 3 * 0.9 < progress.unread_bytes < len(packed)


PATIENTS = (
    resource("Patient", "u1", identifier=[{"system": "urn:x", "value": "9"}, {"type": {"coding": [{"code": "MR"}]}, "value": "0012"}]),
    resource("Patient", "u2", link=[{"type": "replaced-by", "other": {"reference": "Patient/u1"}}], identifier=[]),
    resource("Patient", "u3", identifier=[{"use": "old", "type": {"coding": [{"code": "MR"}]}, "value": "12"}]),
)  # fmt: skip


@pytest.mark.parametrize(("identifier", "group"), [("MR", "patient:12"), ("urn:x", "patient:9"), (None, "patient:u1")])
def test_patients_have_the_number_of_an_identifier_and_of_those_that_replace_them(
    tmp_path: Path, identifier: str | None, group: str
) -> None:
    conditions = [resource("Condition", n, **ASTHMA, subject={"reference": f"Patient/{n}"}) for n in ("u1", "u2", "u3")]
    note = {"contentType": "text/plain", "data": "Tm90ZQ=="}
    report = resource(
        "DiagnosticReport", "r", presentedForm=[note], subject={"reference": "https://h/Patient/u2/_history/3"}
    )
    write(tmp_path, *PATIENTS, *conditions, report)
    found = [record for record in read(tmp_path, patient_identifier=identifier) if isinstance(record, Document)]
    assert [record.group for record in found] == ([group] if identifier else [group, "patient:u3"])
    assert found[0].text == "CONDITION Asthma; CONDITION Asthma"
    source = FhirSource(type="fhir", name="f", path=str(tmp_path), patient_identifier=identifier)
    (unit,) = list_units(source)
    (document,) = read_unit(source, unit)
    assert isinstance(document, Document) and document.group == group


def test_a_broken_patient_stops_the_build_because_it_decides_groups(tmp_path: Path) -> None:
    write(tmp_path, *EVERYTHING)
    (tmp_path / "Patient.000.ndjson").write_text('{"resourceType": "Patient", "link": "Jane Roe", "id": "1"}\n')
    with pytest.raises(SourceError, match=r"^Patient\.000\.ndjson, line 1: the patient is not of FHIR R4's structure"):
        read(tmp_path)


def test_the_digest_of_notes_covers_what_they_refer_to(tmp_path: Path) -> None:
    write(tmp_path, resource("DiagnosticReport", "r", presentedForm=[]))
    source = FhirSource(type="fhir", name="f", path=str(tmp_path))
    digests = set()
    for change in ("", "Patient.ndjson", "Binary.ndjson", "a.txt"):
        if change:
            (tmp_path / change).write_text("{}")
        digests.add(list_units(source)[0].digest)
    assert len(digests) == 4
    (tmp_path / "Observation.ndjson").write_text("{}")
    assert list_units(source)[0].digest in digests


def test_real_exports_of_synthea(shared_data: Path) -> None:
    folder = shared_data / "ehr" / "fhir"
    if not folder.is_dir():
        pytest.skip("no FHIR export below shared/data/ehr/fhir")
    records = read(folder)
    assert sum(isinstance(record, Document) for record in records) > 1
    assert not any(isinstance(record, Quarantined) for record in records)
