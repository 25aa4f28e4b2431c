"""Raw files in S3 that are missing, differ or change, and a pair set of files in S3 (paths: ``test_recipe_paths``)."""

import gzip
import hashlib
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from clinical_modernbert.artifacts import make_plan, open_store
from clinical_modernbert.corpus.pairs.build import build_pairs, pair_inputs
from clinical_modernbert.errors import SourceError
from clinical_modernbert.recipe import CorpusRecipe, PairsRecipe, build_recipe
from clinical_modernbert.recipe.sources import FhirEventsSource
from clinical_modernbert.sources import list_units, read_unit
from clinical_modernbert.sources.document import Document

from tests.helpers.s3_server import S3Server

CITATION = (
    "<PubmedArticleSet><PubmedArticle><MedlineCitation><PMID Version='1'>{0}</PMID><Article>"
    "<ArticleTitle>Title {0}.</ArticleTitle><Abstract><AbstractText>Text.</AbstractText></Abstract>"
    "</Article></MedlineCitation></PubmedArticle></PubmedArticleSet>"
)


def write_raw(folder: Path) -> None:
    for name in ("pubmed", "mimic/note"):
        (folder / name).mkdir(parents=True)
    packed = gzip.compress(CITATION.format(7).encode())
    (folder / "pubmed" / "pubmed26n0001.xml.gz").write_bytes(packed)
    (folder / "pubmed" / "pubmed26n0001.xml.gz.md5").write_text(hashlib.md5(packed).hexdigest())
    (folder / "mimic/note/discharge.csv").write_text("note_id,subject_id,text\n1,12,Note one\n")


def recipe(top: str) -> CorpusRecipe:
    sources = [
        {"type": "pubmed", "name": "pubmed", "path": f"{top}/pubmed"},
        {"type": "mimic_note", "name": "mimic", "path": f"{top}/mimic"},
    ]
    return build_recipe(CorpusRecipe, {"kind": "corpus", "name": "t", "sources": sources}, origin="test")


@pytest.fixture
def uploaded(tmp_path: Path, s3_environment: S3Server) -> Callable[[], str]:
    def upload() -> str:
        top = f"s3://{s3_environment.bucket}/{uuid.uuid4().hex}/raw data"
        store = open_store(top)
        for path in sorted(tmp_path.rglob("*")):
            if path.is_file():
                store.put_file(path, path.relative_to(tmp_path).as_posix())
        return top

    return upload


def test_what_is_missing_or_differs_is_named(tmp_path: Path, uploaded: Callable[[], str]) -> None:
    write_raw(tmp_path)
    (tmp_path / "pubmed" / "pubmed26n0001.xml.gz.md5").write_text("0" * 32)
    (tmp_path / "mimic/note/discharge.csv").write_text("note_id,text\n")
    sources = recipe(uploaded()).sources
    (unit,) = list_units(sources[0])  # nothing is read before the task
    with pytest.raises(SourceError, match=r"pubmed26n0001\.xml\.gz: the MD5 sum is"):
        list(read_unit(sources[0], unit))
    with pytest.raises(SourceError, match=r"discharge\.csv has no column 'subject_id'"):
        list_units(sources[1])


def test_a_file_that_changes_after_it_was_listed_is_refused(tmp_path: Path, uploaded: Callable[[], str]) -> None:
    write_raw(tmp_path)
    top = uploaded()
    for source in recipe(top).sources:
        (unit,) = list_units(source)
        before = unit.digest
        bucket, _, key = unit.location.removeprefix("s3://").partition("/")
        open_store(f"s3://{bucket}").write_bytes(key, b"note_id,subject_id,text\n")
        with pytest.raises(SourceError, match=f"{source.name}/{unit.name} changed since it was listed"):
            list(read_unit(source, unit))
        (unit,) = list_units(source)
        assert unit.digest != before
        open_store(f"s3://{bucket}").delete(key)
        with pytest.raises(SourceError, match=f"{source.name}/{unit.name} is no longer there"):
            list(read_unit(source, unit))


def test_a_table_of_several_that_changes_is_refused(tmp_path: Path, uploaded: Callable[[], str]) -> None:
    condition = (
        '{"resourceType": "Condition", "id": "1", "subject": {"reference": "Patient/1"}, "code": {"text": "Asthma"}}'
    )
    (tmp_path / "Condition.ndjson").write_text(condition)
    (tmp_path / "Patient.ndjson").write_text('{"resourceType": "Patient", "id": "1"}')
    source = FhirEventsSource(type="fhir_events", name="e", path=uploaded())
    (unit,) = list_units(source)
    (document,) = read_unit(source, unit)
    assert isinstance(document, Document) and document.text == "CONDITION Asthma"
    address = unit.files[0][1]
    bucket, _, key = address.removeprefix("s3://").partition("/")
    open_store(f"s3://{bucket}").write_bytes(key, condition.replace("Asthma", "Cough!").encode())
    with pytest.raises(SourceError, match="e/events changed since it was listed"):
        list(read_unit(source, unit))


def pairs_recipe(data: str, path: str = "terms.tsv") -> PairsRecipe:
    source = {"type": "term_table", "name": "own", "path": path, "term_column": "term", "name_column": "name"}
    return PairsRecipe.model_validate({"name": "t", "data": data, "sources": [source]})


def test_a_pair_set_of_s3_is_that_of_a_folder(tmp_path: Path, uploaded: Callable[[], str]) -> None:
    rows = [f"term {n}\tname {n}\n" for n in range(40)]
    (tmp_path / "terms.tsv").write_text("term\tname\n" + "".join(rows))
    top = uploaded()
    made = []
    for recipe in (pairs_recipe(str(tmp_path)), pairs_recipe(top), pairs_recipe(".", f"{top}/terms.tsv")):
        store = open_store(str(tmp_path / f"store{len(made)}"))
        made.append(build_pairs(make_plan(recipe, store, raw_inputs=pair_inputs(recipe))))
    digests = [artifact.manifest.entry("pairs.parquet").sha256 for artifact in made]
    assert digests[0] == digests[1] == digests[2]
    assert made[0].manifest.fingerprint == made[1].manifest.fingerprint
    with pytest.raises(SourceError, match=r"sources\[own\]\.path: 's3://.*/none\.tsv' is not an object"):
        pair_inputs(pairs_recipe(top, "none.tsv"))
