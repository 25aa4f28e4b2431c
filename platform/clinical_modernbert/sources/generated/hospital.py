"""The folder of a hospital that does not exist: a FHIR export, an OMOP CDM, a CSV file of notes and PubMed abstracts.

The patients are the same in all of it, under the number 0012345 in FHIR's identifier, 12345 in OMOP and 12345.0 in the CSV file.
``python -m clinical_modernbert.sources.generated.hospital hospital`` writes it, and docs/hospital.md builds a corpus of it.
"""

import argparse
import base64
import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from clinical_modernbert.sources.generated.conditions import CONDITIONS, NORMAL_LABS, Condition
from clinical_modernbert.sources.generated.notes import make_note
from clinical_modernbert.sources.generated.pubmed import make_citation

_FIRST_PATIENT = 12_345
_CITATIONS_A_PATIENT = 2
_FEMALE, _MALE = 8532, 8507
_VISIT, _FIRST_CONDITION, _FIRST_DRUG, _FIRST_LAB = 9201, 1000, 2000, 3000
_DRUGS = sorted({drug for condition in CONDITIONS for drug in condition.new_drugs})


def write_hospital(folder: Path, *, num_patients: int, seed: int = 0) -> None:
    """Write ``fhir/``, ``omop/``, ``notes.csv`` and ``pubmed/`` below ``folder``."""
    for name in ("fhir", "omop", "pubmed"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    _write_fhir(folder / "fhir", num_patients, seed)
    _write_omop(folder / "omop", num_patients, seed)
    with (folder / "notes.csv").open("w", newline="", encoding="utf-8") as out:
        rows = ((f"n{n}", f"{_FIRST_PATIENT + n}.0", make_note(seed + 1, n).text) for n in range(num_patients))
        csv.writer(out).writerows([("note_id", "patient_id", "text"), *rows])
    citations = "".join(make_citation(seed, n) for n in range(num_patients * _CITATIONS_A_PATIENT))
    (folder / "pubmed" / "pubmed26n0001.xml").write_text(f"<PubmedArticleSet>\n{citations}</PubmedArticleSet>\n")


def _condition(number: int) -> Condition:
    return CONDITIONS[number % len(CONDITIONS)]


def _labs(number: int, seed: int) -> Iterator[tuple[int, float]]:
    """Yield (number of the value, drawn value) for a patient."""
    rng = np.random.default_rng((seed, number))
    for n, lab in enumerate(NORMAL_LABS):
        yield n, round(float(rng.uniform(lab.low, lab.high)), lab.decimals)


def _day(number: int) -> str:
    return f"2180-{1 + number % 12:02d}-{1 + number % 28:02d}"


def _write_fhir(folder: Path, num_patients: int, seed: int) -> None:
    resources: dict[str, list[dict[str, Any]]] = {}
    for number in range(num_patients):
        for resource in _resources(number, seed):
            resources.setdefault(resource["resourceType"], []).append(resource)
    for kind, found in resources.items():
        lines = "".join(f"{json.dumps(resource)}\n" for resource in found)
        (folder / f"{kind}.000.ndjson").write_text(lines, encoding="utf-8")


def _resources(number: int, seed: int) -> Iterator[dict[str, Any]]:
    condition, day, name = _condition(number), _day(number), f"pat-{number:06d}"
    subject = {"subject": {"reference": f"Patient/{name}"}}

    def resource(kind: str, part: int = 0, **fields: Any) -> dict[str, Any]:
        return {"resourceType": kind, "id": f"{kind.lower()}-{number}-{part}", **subject, **fields}

    identifier = {"type": {"coding": [{"code": "MR"}]}, "value": f"{_FIRST_PATIENT + number:07d}"}
    yield {"resourceType": "Patient", "id": name, "identifier": [identifier], "gender": ("female", "male")[number % 2]}
    stay = {"start": f"{day}T08:00:00Z", "end": f"{day}T20:00:00Z"}
    yield resource("Encounter", 0, **{"class": {"code": "IMP", "display": "inpatient encounter"}}, period=stay)
    yield resource("Condition", code={"text": condition.name}, recordedDate=day)
    for part, drug in enumerate(condition.new_drugs):
        yield resource(
            "MedicationRequest", part, medicationCodeableConcept={"text": drug}, authoredOn=f"{day}T18:00:00Z"
        )
    for part, value in _labs(number, seed):
        lab = NORMAL_LABS[part]
        quantity = {"value": value, "unit": lab.unit}
        yield resource(
            "Observation", part, code={"text": lab.name}, effectiveDateTime=f"{day}T09:00:00Z", valueQuantity=quantity
        )
    text = base64.b64encode(make_note(seed, number).text.encode()).decode()
    yield resource("DocumentReference", content=[{"attachment": {"contentType": "text/plain", "data": text}}])


def _write_omop(folder: Path, num_patients: int, seed: int) -> None:
    people = [(n, _FIRST_PATIENT + n, _day(n)) for n in range(num_patients)]
    drugs = [(p, day, drug) for n, p, day in people for drug in _condition(n + 1).new_drugs]
    labs = [(p, day, lab, value) for n, p, day in people for lab, value in _labs(n, seed + 1)]
    names = {_FEMALE: "FEMALE", _MALE: "MALE", _VISIT: "Inpatient Visit"}
    names |= {_FIRST_CONDITION + n: condition.name for n, condition in enumerate(CONDITIONS)}
    names |= {_FIRST_DRUG + n: drug for n, drug in enumerate(_DRUGS)}
    names |= {_FIRST_LAB + n: lab.name for n, lab in enumerate(NORMAL_LABS)}
    tables: dict[str, tuple[str, list[tuple[Any, ...]]]] = {
        "person": ("person_id gender_concept_id", [(p, (_FEMALE, _MALE)[n % 2]) for n, p, _ in people]),
        "visit_occurrence": (
            "person_id visit_concept_id visit_start_date",
            [(p, _VISIT, day) for _, p, day in people],
        ),
        "condition_occurrence": (
            "person_id condition_concept_id condition_start_date",
            [(p, _FIRST_CONDITION + (n + 1) % len(CONDITIONS), day) for n, p, day in people],
        ),
        "drug_exposure": (
            "person_id drug_concept_id drug_exposure_start_date",
            [(p, _FIRST_DRUG + _DRUGS.index(drug), day) for p, day, drug in drugs],
        ),
        "measurement": (
            "person_id measurement_concept_id measurement_date value_as_number unit_source_value",
            [(p, _FIRST_LAB + lab, day, value, NORMAL_LABS[lab].unit) for p, day, lab, value in labs],
        ),
        "note": ("note_id person_id note_text", [(n, p, make_note(seed + 2, n).text) for n, p, _ in people]),
        "concept": ("concept_id concept_name", sorted(names.items())),
    }
    for name, (columns, rows) in tables.items():
        with (folder / f"{name.upper()}.csv").open("w", newline="", encoding="utf-8") as out:
            csv.writer(out).writerows([columns.upper().split(), *rows])


def main() -> None:
    """Write the folder that the command line names."""
    parser = argparse.ArgumentParser(description="Write the folder of a hospital that does not exist.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--patients", type=int, default=200)
    options = parser.parse_args()
    write_hospital(options.folder, num_patients=options.patients)


if __name__ == "__main__":
    main()
