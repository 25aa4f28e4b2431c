"""Each field of a recipe that takes a path takes an address in S3: the same records, files and examples as from a folder."""

import gzip
import importlib
import inspect
import json
import pkgutil
import re
import uuid
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clinical_modernbert import recipe as recipes
from clinical_modernbert.artifacts import open_store
from clinical_modernbert.artifacts.s3_store import S3Store
from clinical_modernbert.corpus.checks import checked_inputs
from clinical_modernbert.corpus.decontamination import bounded_texts, listed_ids
from clinical_modernbert.corpus.pairs.sources import source_files
from clinical_modernbert.errors import RecipeError, SourceError
from clinical_modernbert.evaluation.codes.search_terms import synonym_inputs
from clinical_modernbert.evaluation.fingerprint_inputs import missing_path, task_inputs
from clinical_modernbert.evaluation.tasks import load_task
from clinical_modernbert.lexicon import build_terms
from clinical_modernbert.recipe import CorpusRecipe, MapRecipe, PairsRecipe, build_recipe
from clinical_modernbert.recipe.section import Section
from clinical_modernbert.recipe.tasks import SentenceRolesTask, TimeToEventTask
from clinical_modernbert.sources import list_units, read_unit
from clinical_modernbert.sources.document import Document
from clinical_modernbert.sources.generated.hospital import write_hospital
from clinical_modernbert.sources.terms.rows import with_local_paths

from tests.helpers.s3_server import S3Server

# Sources that are copied to the disk of the worker, as docs/sources.md says; the others are read in ranges.
COPIED = ("codes", "dataset", "duckdb")
SOURCES: list[dict[str, Any]] = [
    {"type": "pubmed", "path": "{top}/pubmed"},
    {"type": "pmc", "path": "{top}/pmc"},
    {"type": "mimic_note", "path": "{top}/mimic"},
    {"type": "meds", "path": "{top}/meds"},
    {"type": "eicu_note", "path": "{top}/eicu"},
    {"type": "omop_note", "path": "{top}/omop"},
    {"type": "omop_events", "path": "{top}/omop"},
    {"type": "omop_note", "name": "duckdb", "path": "{top}/cdm.duckdb"},
    {"type": "omop_events", "name": "duckdb", "path": "{top}/cdm.duckdb"},
    {"type": "fhir", "path": "{top}/fhir"},
    {"type": "fhir_events", "path": "{top}/fhir"},
    {"type": "ccda", "path": "{top}/ccda"},
    {"type": "table", "path": "{top}/notes.csv", "text_column": "text"},
    {"type": "table", "path": "{top}/notes.parquet", "text_column": "text"},
    {"type": "dataset", "path": "{top}/dataset", "text_column": "text"},
    {"type": "codes", "path": "{top}/codes.txt", "table": "icd10cm", "templates": ["readme", "hierarchy", "crosswalk"],
     "hierarchy_path": "{top}/tabular.xml", "crosswalk_path": "{top}/gem.txt"},
]  # fmt: skip
TERMS: list[dict[str, Any]] = [
    {"type": "icd10cm_tabular", "path": "{top}/tabular.xml", "codes_path": "{top}/codes.txt", "relation": "parent"},
    {"type": "gem", "path": "{top}/gem.txt", "icd9_path": "{top}/icd9.txt", "icd10_path": "{top}/codes.txt"},
    {"type": "lay_words", "icd9_path": "{top}/icd9.txt", "tabular_path": "{top}/tabular.xml"},
    {"type": "disease_ontology", "path": "{top}/a.tsv", "references_path": "{top}/b.tsv", "icd9_path": "{top}/icd9.txt"},
    {"type": "obo", "path": "{top}/a.tsv"},
    {"type": "rrf", "path": "{top}/a.tsv", "system": "umls"},
    {"type": "snomed", "path": "{top}/a.tsv"},
    {"type": "mesh", "path": "{top}/a.tsv", "relation": "parent"},
    {"type": "term_table", "path": "{top}/a.tsv", "term_column": "a", "name_column": "b"},
    {"type": "corpus", "documents": "d", "relation": "diagnoses", "diagnoses_path": "{top}/a.tsv"},
    {"type": "retrieval", "queries_path": "{top}/a.tsv", "corpus_path": "{top}/b.tsv", "qrels_path": "{top}/icd9.txt"},
]  # fmt: skip
TASKS = (
    SentenceRolesTask(name="roles", type="sentence_roles", train="rct/train.txt"),
    TimeToEventTask(
        name="stays", type="time_to_event", path="stays", predict_at=("ED_OUT",), event=("ADMISSION",), horizon_days=1
    ),
)
OTHER_FIELDS = {
    "DecontaminationSection.paths", "DecontaminationSection.id_lists", "LexiconSection.vocabularies",
    "LexiconSection.terms_path", "PairsRecipe.data", "EvaluateRecipe.data", "_Run.data", "TimeToEventTask.path",
    "DispositionTask.path",  # as that of a disposition task: `task_folder` copies what any task names
    "TableRecipe.input_uri",  # tests/integration/test_bulk.py
    "LoggingSection.trackers_path",  # written, on the machine that starts the run
}  # fmt: skip


def write_raw(top: Path) -> None:
    write_hospital(top, num_patients=2)
    for name in ("pmc", "mimic/note", "eicu", "meds/data", "ccda", "dataset", "sets", "rct", "stays/data"):
        (top / name).mkdir(parents=True)
    meta = '<front><article-meta><article-id pub-id-type="pmcid">PMC1</article-id></article-meta></front>'
    (top / "pmc/1.nxml").write_text(f"<article>{meta}<body><p>One paragraph.</p></body></article>")
    (top / "mimic/note/discharge.csv").write_text("note_id,subject_id,text\n1,12,Note one\n")
    (top / "eicu/note.csv.gz").write_bytes(
        gzip.compress(
            b"patientunitstayid,noteenteredoffset,notetype,notepath,notevalue,notetext\n141,1,Adm,notes/a/b/c,HR,88\n"
        )
    )
    (top / "eicu/patient.csv").write_text("patientunitstayid,uniquepid\n141,002-34851\n")
    (top / "ccda/a.xml").write_text(
        '<ClinicalDocument xmlns="urn:hl7-org:v3"><id root="1" extension="d"/><recordTarget><patientRole><id root="2" '
        'extension="12"/></patientRole></recordTarget><component><structuredBody><component><section><text>Seen.</text>'
        "</section></component></structuredBody></component></ClinicalDocument>"
    )
    binary = {"resourceType": "Binary", "id": "b", "data": "U2Vlbi4="}
    (top / "fhir/Binary.ndjson.gz").write_bytes(gzip.compress(json.dumps(binary).encode()))
    form = {"contentType": "text/plain", "url": "Binary/b"}
    report = {
        "resourceType": "DiagnosticReport",
        "id": "r",
        "subject": {"reference": "Patient/1"},
        "presentedForm": [form],
    }
    (top / "fhir/DiagnosticReport.ndjson").write_text(json.dumps(report))
    (top / "cdm.duckdb").touch()
    if find_spec("duckdb"):
        write_duckdb(top)
    events = {"subject_id": pa.array([12]), "time": pa.array([None], pa.timestamp("us")), "code": ["GENDER//F"]}
    pq.write_table(pa.table(events), top / "meds/data/0.parquet")
    days = pa.array([n * 86_400_000_000 for n in (0, 1, 2)], pa.timestamp("us"))
    codes = [code for n in range(30) for code in ("ED_IN", "ED_OUT", ("ADMISSION", "VISIT")[n % 2])]
    subjects, numbers = [n for n in range(30) for _ in range(3)], pa.nulls(90, pa.float32())
    times = pa.concat_arrays([days] * 30)
    stays = pa.table({"subject_id": subjects, "time": times, "code": codes, "numeric_value": numbers})
    pq.write_table(stays, top / "stays/data/0.parquet")
    (top / "notes.csv").write_text("id,text\n1,Note three\n")
    pq.write_table(pa.table({"text": ["Note four"]}), top / "notes.parquet")
    (top / "dataset/train.jsonl").write_text('{"text": "Note five"}\n')
    (top / "codes.txt").write_text("E119    Type 2 diabetes mellitus without complications\n")
    (top / "icd9.txt").write_text("25000 Diabetes mellitus without mention of complication\n")
    (top / "gem.txt").write_text("25000 E119  10000\n")
    (top / "tabular.xml").write_text(
        '<ICD10CM.tabular><chapter><desc>Endocrine (E00-E89)</desc><section id="E08-E13"><desc>Diabetes (E08-E13)</desc><diag>'
        "<name>E11</name><desc>Type 2 diabetes</desc><diag><name>E11.9</name><desc>Without complications</desc></diag></diag>"
        "</section></chapter></ICD10CM.tabular>"
    )
    for name in ("a.tsv", "b.tsv"):
        (top / name).write_text(f"{name}\n")
    (top / "terms.txt").write_text("Quixworth sign\n")
    (top / "mtrees.bin").write_text("Neoplasms;C04\n")
    (top / "sets/dev.tsv").write_text("word\tO\n" * 20)
    (top / "ids.txt").write_text("7\n")
    (top / "rct/train.txt").write_text(
        "\n".join(f"###{n}\nMETHODS\tWe gave drug {n}.\nRESULTS\tIt helped.\n" for n in range(30))
    )


def write_duckdb(top: Path) -> None:
    import duckdb

    (top / "cdm.duckdb").unlink()
    with duckdb.connect(str(top / "cdm.duckdb")) as connection:
        for table in (top / "omop").iterdir():
            connection.execute(f"CREATE TABLE {table.stem} AS SELECT * FROM read_csv('{table}', all_varchar=true)")


@pytest.fixture(scope="module")
def tops(tmp_path_factory: pytest.TempPathFactory, s3_server: S3Server) -> Iterator[tuple[str, str]]:
    """A folder, and the address of the same files."""
    folder = tmp_path_factory.mktemp("raw")
    write_raw(folder)
    address = f"s3://{s3_server.bucket}/{uuid.uuid4().hex}/raw data"
    with pytest.MonkeyPatch.context() as patched:
        for name, value in s3_server.environment().items():
            patched.setenv(name, value)
        store = open_store(address)
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                store.put_file(path, path.relative_to(folder).as_posix())
        yield str(folder), address


def placed(section: dict[str, Any], top: str) -> dict[str, Any]:
    return {"name": "s"} | {
        key: value.format(top=top) if isinstance(value, str) else value for key, value in section.items()
    }


def fields_of_paths() -> set[str]:
    """Return each field of a recipe's sections that names a path, with the class that states it."""
    fields = set()
    for module in pkgutil.iter_modules(recipes.__path__, f"{recipes.__name__}."):
        for _, found in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(found, Section):
                stated = inspect.get_annotations(found)
                fields |= {f"{found.__name__}.{name}" for name in stated if re.search(PATH_NAMES, name)}
    return fields


PATH_NAMES = r"(?:^|_)(?:paths?|uri|data|id_lists|vocabularies)$"


def test_each_field_with_a_path_is_in_these_tables() -> None:
    types = {
        found.model_fields["type"].annotation.__args__[0]: found  # type: ignore[union-attr]
        for name in ("sources", "terms", "texts")
        for _, found in inspect.getmembers(importlib.import_module(f"{recipes.__name__}.{name}"), inspect.isclass)
        if issubclass(found, Section) and "type" in inspect.get_annotations(found)
    }
    tabled = {
        f"{types[section['type']].__name__}.{name}"
        for section in (*SOURCES, *TERMS)
        for name in section
        if re.search(PATH_NAMES, name)
    }
    other = {"RrfTerms.vocabularies"}  # names of vocabularies, not files
    assert fields_of_paths() - other == tabled | OTHER_FIELDS


@pytest.mark.parametrize(
    "section", SOURCES, ids=lambda section: f"{section['type']} {section['path'].rpartition('/')[2]}"
)
def test_a_source(section: dict[str, Any], tops: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    if section.get("name") == "duckdb":
        pytest.importorskip("duckdb")
    records = []
    for top in tops:
        settings = placed(section, top)
        if section["type"] not in COPIED and section.get("name") not in COPIED:
            monkeypatch.setattr(S3Store, "get_file", None)
        (source,) = build_recipe(
            CorpusRecipe, {"kind": "corpus", "name": "t", "sources": [settings]}, origin="test"
        ).sources
        records.append([record for unit in list_units(source) for record in read_unit(source, unit)])
    assert records[0] == records[1]
    assert any(isinstance(record, Document) for record in records[0])
    absent = placed(section, f"{tops[1]}/none")
    (source,) = build_recipe(CorpusRecipe, {"kind": "corpus", "name": "t", "sources": [absent]}, origin="test").sources
    with pytest.raises(SourceError, match=r"^sources.*path: 's3://.*/none/.*' (does not exist|is not a file)"):
        list_units(source)


def test_lexicon_and_evaluation_sets_of_a_corpus(tops: tuple[str, str]) -> None:
    found = []
    for top in tops:
        values: dict[str, Any] = {
            "kind": "corpus",
            "name": "t",
            "sources": [{"type": "synthetic_notes", "name": "n", "num_documents": 1}],
            "tokenizer": {"base": "train", "vocabulary_size": 512},
            "lexicon": {"code_tables": False, "drug_names": False, "terms_path": f"{top}/terms.txt"},
            "decontamination": {"paths": [f"{top}/sets"], "id_lists": [f"{top}/ids.txt"]},
        }
        values["lexicon"]["vocabularies"] = [f"{top}/mtrees.bin"]
        recipe = build_recipe(CorpusRecipe, values, origin="test")
        section = recipe.decontamination
        sets = [list(bounded_texts(path)) for path in section.paths], [listed_ids(path) for path in section.id_lists]
        found.append((build_terms(recipe.lexicon), sets, checked_inputs(recipe)))
    assert found[0] == found[1] and found[0][0] == ["neoplasm", "neoplasms", "quixworth sign"]


@pytest.mark.parametrize("section", TERMS, ids=lambda section: section["type"])
def test_a_source_of_pairs(section: dict[str, Any], tops: tuple[str, str]) -> None:
    files = []
    for top in tops:
        relative = placed(section, ".") | {"name": "s"}
        for settings, data in ((placed(section, top), "."), (relative, top)):
            (source,) = PairsRecipe.model_validate(
                {"name": "t", "data": data, "sources": [settings], "corpus": "c"}
            ).located_sources
            files.append([(file.name, file.read_bytes()) for file in source_files(with_local_paths(source))])
    assert files[0] and all(found == files[0] for found in files)
    if section["type"] not in ("corpus", "retrieval"):
        settings = {"name": "m", "model": "m", "synonyms": [placed(section, tops[1])]}
        assert len(synonym_inputs(MapRecipe.model_validate(settings).synonyms)) == len(files[0])


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_the_data_of_an_evaluation(task: SentenceRolesTask | TimeToEventTask, tops: tuple[str, str]) -> None:
    local, remote = tops
    assert missing_path(task, local) is None and missing_path(task, remote) is None
    assert task_inputs(task, local) == task_inputs(task, remote)
    assert load_task(task, local) == load_task(task, f"{remote}/")
    assert missing_path(task, f"{remote}/none") in ("rct/train.txt", "stays")


def test_a_task_is_relative_to_its_data(tops: tuple[str, str]) -> None:
    task = TASKS[0].model_copy(update={"train": f"{tops[1]}/rct/train.txt"})
    with pytest.raises(RecipeError, match=r"^tasks\[roles\]: 's3://.*' is an address; set data to its prefix"):
        missing_path(task, "data")
