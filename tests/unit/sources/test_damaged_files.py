"""Source types of one document a file, and of several files: what ``make drill ROW=bad-input`` does to the others."""

import gzip
import json
from pathlib import Path

import pytest
from clinical_modernbert.artifacts.work_area import WorkArea
from clinical_modernbert.corpus.documents import parse_unit, quarantine_name
from clinical_modernbert.corpus.refusals import refuse_bad_input
from clinical_modernbert.errors import CorpusError, SourceError
from clinical_modernbert.recipe import CorpusRecipe, build_recipe
from clinical_modernbert.sources import list_units

from benchmarks.kits.bad_files import CANARY

TEXT = f"{CANARY} was seen with " + " ".join(f"fever {number}" for number in range(30))
ROWS = range(50)
NOTES = "noteid,patientunitstayid,noteoffset,noteenteredoffset,notetype,notepath,notevalue,notetext\n" + "".join(
    f'{n},141,{n},{n},Admission,notes/Progress Notes/Plan/text,Plan,"{n} {TEXT}"\n' for n in ROWS
)
STAYS = "patientunitstayid,patienthealthsystemstayid,uniquepid\n141,1,002-34851\n"
CONDITIONS = "".join(
    json.dumps(
        {
            "resourceType": "Condition",
            "id": str(n),
            "subject": {"reference": f"Patient/{n}"},
            "code": {"text": f"{TEXT} {n}"},
        }
    )
    + "\n"
    for n in ROWS
)
CONCEPTS = "concept_id,concept_name\n" + "".join(f"{n},{TEXT} {n}\n" for n in ROWS)
PERSONS = "person_id,gender_concept_id,year_of_birth\n" + "".join(f"{n},0,1940\n" for n in ROWS)
OCCURRENCES = "person_id,condition_concept_id,condition_source_value,condition_start_date\n" + "".join(
    f"{n},{n},{TEXT},2180-01-02\n" for n in ROWS
)
ARTICLE = f"""<?xml version="1.0"?><article><front><article-meta><article-id pub-id-type="pmc">123</article-id>
<abstract><p>{TEXT}</p></abstract></article-meta></front><body><sec><title>A</title><p>{TEXT}</p></sec></body></article>"""
CDA = f"""<?xml version="1.0"?><ClinicalDocument xmlns="urn:hl7-org:v3"><id root="1.2.3" extension="d1"/>
<recordTarget><patientRole><id root="9.9" extension="12"/></patientRole></recordTarget><component><structuredBody>
<component><section><text>{TEXT}</text></section></component></structuredBody></component></ClinicalDocument>"""
SOURCES: dict[str, tuple[str, dict[str, str]]] = {
    "pmc": ("pmc", {"a.nxml": ARTICLE}),
    "ccda": ("ccda", {"a.xml": CDA}),
    "notes of eicu": ("eicu_note", {"note.csv": NOTES, "patient.csv": STAYS}),
    "patients of eicu": ("eicu_note", {"patient.csv": STAYS, "note.csv": NOTES}),
    "fhir_events": ("fhir_events", {"Condition.000.ndjson": CONDITIONS}),
    "events of omop": (
        "omop_events",
        {"condition_occurrence.csv": OCCURRENCES, "concept.csv": CONCEPTS, "person.csv": PERSONS},
    ),
    "concepts of omop": (
        "omop_events",
        {"concept.csv": CONCEPTS, "condition_occurrence.csv": OCCURRENCES, "person.csv": PERSONS},
    ),
}
"""Name -> the type of the source, and its files, of which the first one is damaged."""
DAMAGES = ("truncated", "wrong_magic", "empty", "not_utf8", "bomb")
# A table that is cut within a last cell without quotes cannot be told from a whole one.
READ = {("concepts of omop", "truncated")}


def damaged(kind: str, whole: bytes) -> bytes:
    if kind == "truncated":
        return whole[: len(whole) // 2 + 1]
    if kind == "wrong_magic":
        return b"\x89PNG\r\n\x1a\n" + whole[8:]
    if kind == "not_utf8":
        place = CANARY.encode() if CANARY.encode() in whole else b"002-"
        return whole.replace(place, place + b"\xff\xfe", 1)
    return b"" if kind == "empty" else gzip.compress(whole) + gzip.compress(b" " * (1 << 20)) * 64


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize("name", SOURCES)
def test_a_damaged_file_is_refused_by_its_name_without_its_text(name: str, kind: str, tmp_path: Path) -> None:
    source_type, files = SOURCES[name]
    broken = next(iter(files))
    (folder := tmp_path / "raw").mkdir()
    for file, content in files.items():
        (folder / file).write_text(content)
    (folder / broken).unlink()
    (folder / (f"{broken}.gz" if kind == "bomb" else broken)).write_bytes(damaged(kind, files[broken].encode()))
    source = {"type": source_type, "name": "s", "path": str(folder)}
    values = {"kind": "corpus", "name": "c", "sources": [source], "filters": {"min_characters": 10, "languages": None}}
    recipe = build_recipe(CorpusRecipe, values, origin="test")
    area = WorkArea(f"file://{tmp_path}/areas", "work/corpus/0")

    def parse() -> None:
        (unit,) = list_units(recipe.sources[0])
        parsed = parse_unit(area, recipe, unit, number=0)
        if parsed.count("quarantined"):
            assert CANARY not in area.store().read_bytes(f"{area.prefix}/{quarantine_name(0)}").decode()
        refuse_bad_input(recipe, [parsed])

    if (name, kind) in READ:
        parse()
        return
    with pytest.raises((SourceError, CorpusError)) as refused:
        parse()
    assert broken in str(refused.value) and CANARY not in str(refused.value)
