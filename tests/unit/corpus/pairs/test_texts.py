"""Pairs of texts: documents of a corpus, held out with it, and sets of queries and documents. All texts are made up."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from clinical_modernbert.artifacts import Artifact, Store, make_plan, open_store
from clinical_modernbert.corpus import is_held_out
from clinical_modernbert.corpus.fingerprint_inputs import fingerprint_inputs
from clinical_modernbert.corpus.pairs.build import build_pairs, pair_inputs
from clinical_modernbert.corpus.pairs.documents import note_sections
from clinical_modernbert.corpus.pairs.read import read_pair_set
from clinical_modernbert.errors import RecipeError, SourceError
from clinical_modernbert.recipe import CorpusRecipe, PairsRecipe
from pydantic import ValidationError

CITATION = """<PubmedArticle><MedlineCitation><PMID Version="{version}">{pmid}</PMID><Article><ArticleTitle>Blue fever {pmid}.
</ArticleTitle><Abstract><AbstractText>{text}</AbstractText></Abstract><Language>eng</Language></Article></MedlineCitation>
</PubmedArticle>"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def corpus_of(store: Store, tmp_path: Path, *sources: dict[str, Any], **fields: Any) -> Artifact:
    """Publish a corpus with its manifest; the readers of pairs need nothing else of it."""
    recipe = CorpusRecipe.model_validate({"name": "c", "sources": sources, **fields})
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "file").write_text("shards")
    plan = make_plan(recipe, store, raw_inputs=fingerprint_inputs(recipe))
    return plan.publish_folder(folder, summary={})


def built(store: Store, *sources: dict[str, Any], **fields: Any) -> Artifact:
    recipe = PairsRecipe.model_validate({"name": "p", "corpus": "c", "sources": sources, **fields})
    return build_pairs(make_plan(recipe, store, raw_inputs=pair_inputs(recipe)))


def citations(
    folder: Path, *records: tuple[int, int, str], name: str = "pubmed26n0001.xml", deleted: int = 0
) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    found = "".join(CITATION.format(pmid=pmid, version=version, text=text) for pmid, version, text in records)
    notice = f"<DeleteCitation><PMID>{deleted}</PMID></DeleteCitation>" if deleted else ""
    (folder / name).write_text(f'<?xml version="1.0"?><PubmedArticleSet>{found}{notice}</PubmedArticleSet>')
    return {"type": "pubmed", "name": "abstracts", "path": str(folder)}


def words(number: int, count: int = 30) -> str:
    return " ".join(f"word{number}x{n}" for n in range(count))


def test_titles_find_their_abstracts_and_are_held_out_with_the_corpus(store: Store, tmp_path: Path) -> None:
    source = citations(tmp_path / "pubmed", *((n, 1, words(n)) for n in range(1, 41)))
    corpus = corpus_of(store, tmp_path, source, held_out={"fraction": 0.3, "seed": 7})
    pairs = built(
        store,
        {
            "type": "corpus",
            "name": "titles",
            "documents": "abstracts",
            "relation": "title_abstract",
            "max_characters": 100,
        },
        held_out={"fraction": 0.4, "seed": 7},
    )

    section = CorpusRecipe.model_validate(corpus.manifest.recipe).held_out
    out = {f"pmid:{n}" for n in range(1, 41) if is_held_out(f"pmid:{n}", section)}
    train = read_pair_set(pairs, split="train")["titles"]
    assert out and not out & {lineage[0] for lineage in train.anchor_lineages}
    assert train.anchors[0].startswith("Blue fever") and len(train.positives[0]) <= 100
    account = pairs.summary["sources"]["titles"]
    assert (
        sum(account["pairs"].values()) == account["records"] == account["cut"] == 40
    )  # long abstracts are cut, not dropped
    card = pairs.file("README.md").read_text()
    assert "It holds texts of documents" in card and f"documents of abstracts (pubmed) in {corpus.manifest.id}" in card
    assert pairs.manifest.inputs[0].id == f"corpus/{corpus.manifest.id}"
    assert not pairs.file("terms.parquet").read_bytes().count(b"Blue fever")


def test_the_newest_version_stays_and_a_deleted_record_goes(store: Store, tmp_path: Path) -> None:
    citations(tmp_path / "pubmed", (1, 1, f"old {words(1)}"), (2, 1, words(2)), (3, 1, words(3)))
    source = citations(tmp_path / "pubmed", (1, 2, f"new {words(1)}"), name="pubmed26n0002.xml", deleted=2)
    corpus_of(store, tmp_path, source)
    pairs = built(store, {"type": "corpus", "name": "titles", "documents": "abstracts", "relation": "title_abstract"})

    found = read_pair_set(pairs, split="all")["titles"]
    assert sorted(text.split()[0] for text in found.positives) == ["new", "word3x0"]
    assert pairs.summary["sources"]["titles"]["dropped"] == {"deletion_notice": 1, "superseded": 1, "deleted": 1}


def test_a_note_that_was_withdrawn_or_replaced_is_in_no_pair(store: Store, tmp_path: Path) -> None:
    def note(number: int, day: int = 1, **fields: Any) -> str:
        text = f"HISTORY\n{words(number)}\nPLAN\n{words(10 * number)}"
        form = {"contentType": "text/plain", "data": base64.b64encode(text.encode()).decode()}
        names = {"resourceType": "DocumentReference", "id": f"n{number}", "subject": {"reference": f"Patient/{number}"}}
        stated = {"meta": {"lastUpdated": f"2180-01-0{day}"}, "content": [{"attachment": form}]}
        return json.dumps(names | stated | fields)

    replaces = [{"code": "replaces", "target": {"reference": "DocumentReference/n3"}}]
    lines = [note(1, 2, status="entered-in-error"), note(1), note(2, relatesTo=replaces), note(3), note(4)]
    folder = tmp_path / "fhir"
    folder.mkdir()
    (folder / "DocumentReference.ndjson").write_text("\n".join(lines))
    corpus_of(store, tmp_path, {"type": "fhir", "name": "notes", "path": str(folder)})
    pairs = built(store, {"type": "corpus", "name": "parts", "documents": "notes", "relation": "sections"})
    found = read_pair_set(pairs, split="all")["parts"]
    assert sorted(text.split()[0] for text in found.anchors) == ["word2x0", "word4x0"]
    dropped = {"withdrawn": 1, "deletion_notice": 1, "superseded": 1, "deleted": 1}
    assert pairs.summary["sources"]["parts"]["dropped"] == dropped


def test_more_documents_than_max_pairs_are_drawn_by_their_ids(store: Store, tmp_path: Path) -> None:
    source = citations(tmp_path / "pubmed", *((n, 1, words(n)) for n in range(1, 41)))
    corpus_of(store, tmp_path, source)
    titles = {"type": "corpus", "name": "titles", "documents": "abstracts", "relation": "title_abstract"}
    few, more = (
        read_pair_set(built(store, {**titles, "max_pairs": number}), split="all")["titles"].anchors
        for number in (10, 20)
    )
    assert len(few) == 10 and len(more) == 20 and set(few) < set(more)


NOTE = f"""Name: ___
Chief Complaint:
{words(1)}

HISTORY OF PRESENT ILLNESS
{words(2)}
Allergies:
None.
Physical Exam: GENERAL: {words(3)}
Discharge Condition:
{words(4)}
"""


def test_sections_are_paired_without_their_headers() -> None:
    found = note_sections(NOTE)
    assert [section.split()[0] for section in found] == ["word1x0", "word2x0", "word3x0", "word4x0"]
    assert note_sections("no header at all") == []


def mimic(folder: Path) -> dict[str, Any]:
    folder.mkdir()
    rows = [f'{n}-DS-1,{n},{100 + n},"{words(n)}"' for n in range(1, 31)] + [
        '99-DS-1,99,,"this note names no hospital stay"'
    ]
    (folder / "discharge.csv").write_text("\n".join(("note_id,subject_id,hadm_id,text", *rows)))
    return {"type": "mimic_note", "name": "notes", "path": str(folder)}


def test_a_note_finds_the_descriptions_of_its_stay(store: Store, tmp_path: Path) -> None:
    corpus_of(store, tmp_path, mimic(tmp_path / "notes"))
    rows = [
        "subject_id,hadm_id,seq_num,icd_code,icd_version",
        "1,101.0,2,e11.9,10.0",
        "1,101.0,1.0,586,9",
        "1,101,9,4019,9",
    ]
    rows += [f"{n},{100 + n},1,I10,10" for n in range(2, 31)]
    rows += ["2,102,2", "2,102,,,9", "2,102,first,I10,10", "2,102,2,NaN,10", "2,102,2,I10,11"]
    (tmp_path / "diagnoses_icd.csv").write_text("\n".join(rows))
    source = {"type": "corpus", "name": "stays", "documents": "notes", "relation": "diagnoses"}
    pairs = built(
        store, {**source, "diagnoses_path": "diagnoses_icd.csv"}, data=str(tmp_path), max_quarantined_fraction=0.2
    )

    everything = read_pair_set(pairs, split="all")["stays"]
    first = [
        (text, lineage[0])
        for text, lineage, note in zip(
            everything.positives, everything.positive_lineages, everything.anchor_lineages, strict=True
        )
        if list(note) == ["patient:1"]
    ]
    assert first == [
        ("Renal failure, unspecified", "icd9cm:586"),
        ("Type 2 diabetes mellitus without complications", "icd10cm:E11.9"),
    ]
    account = pairs.summary["sources"]["stays"]
    assert account["dropped"] == {"no_diagnoses": 1} and account["quarantined"] == 4
    with pytest.raises(ValidationError, match="diagnoses_path belongs to relation: diagnoses"):
        built(store, source)


def test_what_would_leak_or_mislead_is_refused(store: Store, tmp_path: Path) -> None:
    source = citations(tmp_path / "pubmed", (1, 1, words(1)))
    corpus = corpus_of(store, tmp_path, source, held_out={"fraction": 0.3, "seed": 7})
    titles = {"type": "corpus", "name": "titles", "documents": "abstracts", "relation": "title_abstract"}
    with pytest.raises(
        RecipeError, match=r"held_out: seed=0 and fraction=0.2 leave in .* take its seed=7, and a fraction of"
    ):
        built(store, titles)
    with pytest.raises(
        SourceError, match=f"'other' is not a source of {corpus.manifest.id}; its sources are abstracts"
    ):
        built(store, {**titles, "documents": "other"}, held_out={"fraction": 0.3, "seed": 7})
    citations(tmp_path / "pubmed", (1, 1, "changed"))
    with pytest.raises(SourceError, match=r"is not the file that c-.* was built from"):
        built(store, titles, held_out={"fraction": 0.3, "seed": 7})
    with pytest.raises(ValidationError, match="read documents of a corpus: name it in corpus"):
        PairsRecipe.model_validate({"name": "p", "sources": [titles]})


def retrieval(folder: Path, *grades: tuple[str, str, int]) -> dict[str, Any]:
    queries = [{"_id": f"q{n}", "text": f"question {n}"} for n in range(20)]
    documents = [{"_id": str(n), "title": f"Title {n}", "text": words(n)} for n in range(20)]
    for name, entries in (("queries", queries), ("corpus", documents)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, entries)))
    rows = ["query-id\tcorpus-id\tscore", *("\t".join(map(str, row)) for row in grades)]
    (folder / "train.tsv").write_text("\n".join(rows))
    paths = {"queries_path": "queries.jsonl", "corpus_path": "corpus.jsonl", "qrels_path": "train.tsv"}
    return {"type": "retrieval", "name": "questions", **paths}


def test_a_query_finds_each_document_that_answers_it(store: Store, tmp_path: Path) -> None:
    grades = [("q0", "0", 1), ("q0", "1", 2), ("q1", "2", 0), *((f"q{n}", str(n), 1) for n in range(2, 20))]
    source = retrieval(tmp_path, *grades)
    pairs = built(store, {**source, "system": "pmid"}, data=str(tmp_path), corpus=None)

    found = read_pair_set(pairs, split="all")["questions"]
    rows = sorted(zip(found.anchors, found.positives, found.positive_lineages, strict=True))
    assert rows[0] == ("question 0", f"Title 0 {words(0)}", ["pmid:0"]) and rows[1][1].startswith("Title 1 ")
    assert pairs.summary["sources"]["questions"]["dropped"] == {"grade": 1}
    held_out = read_pair_set(pairs, split="held_out")["questions"]
    section = PairsRecipe.model_validate(pairs.manifest.recipe).held_out
    assert {n for n in range(20) if is_held_out(f"pmid:{n}", section) and n != 1} <= {
        int(lineage[0].removeprefix("pmid:")) for lineage in held_out.positive_lineages
    }
    with pytest.raises(SourceError, match=r"sources\[questions\]: train.tsv, line 2: 'q77' is not in queries.jsonl"):
        built(store, retrieval(tmp_path, ("q77", "0", 1)), data=str(tmp_path), corpus=None)
