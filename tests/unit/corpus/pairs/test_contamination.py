"""Pairs that hold texts of evaluation sets are dropped, counted by set. All texts are made up."""

import json
from pathlib import Path

import pytest
from clinical_modernbert.artifacts import make_plan, open_store
from clinical_modernbert.corpus.pairs.build import build_pairs, pair_inputs
from clinical_modernbert.corpus.pairs.contamination import Contamination
from clinical_modernbert.corpus.pairs.read import read_pair_set
from clinical_modernbert.errors import SourceError
from clinical_modernbert.recipe import PairsRecipe
from clinical_modernbert.recipe.corpus import DecontaminationSection
from clinical_modernbert.sources.terms import Term, TermPair


def jsonl(path: Path, *entries: tuple[str, str]) -> str:
    path.write_text("\n".join(json.dumps({"_id": name, "text": text}) for name, text in entries))
    return str(path)


def words(number: int) -> str:
    return " ".join(f"word{number}x{n}" for n in range(20))


def test_pairs_with_a_text_of_an_evaluation_set_are_dropped_and_counted(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    terms = [(f"term {n}", f"name {n}", str(n)) for n in range(40)]
    (tmp_path / "terms.tsv").write_text("\n".join("\t".join(row) for row in (("term", "name", "id"), *terms)))
    jsonl(tmp_path / "queries.jsonl", *((f"q{n}", f"question {n}") for n in range(40)))
    jsonl(tmp_path / "corpus.jsonl", *((f"{n}", words(n)) for n in range(40)))
    (tmp_path / "train.tsv").write_text("\n".join(f"q{n}\t{n}\t1" for n in range(40)))
    # A query that has the words of a name, and a document that repeats 13 words of another.
    judged = jsonl(
        tmp_path / "test.jsonl", ("a", "7, Term"), ("b", f"it begins otherwise {' '.join(words(3).split()[4:18])}")
    )
    (tmp_path / "ids.txt").write_text("5\n")
    sources = [
        {"type": "term_table", "name": "terms", "path": "terms.tsv", "term_column": "term", "name_column": "name"}
        | {"concept_column": "id", "system": "made"},
        {"type": "retrieval", "name": "questions", "queries_path": "queries.jsonl", "corpus_path": "corpus.jsonl"}
        | {"qrels_path": "train.tsv", "system": "pmid"},
    ]
    compared = {"paths": [judged], "id_lists": [str(tmp_path / "ids.txt")]}

    def recipe(**fields: object) -> PairsRecipe:
        return PairsRecipe.model_validate({"name": "p", "data": str(tmp_path), "sources": sources, **fields})

    plan = make_plan(recipe(decontamination=compared), store, raw_inputs=pair_inputs(recipe(decontamination=compared)))
    pairs = build_pairs(plan)

    first, second = (pairs.summary["sources"][name] for name in ("terms", "questions"))
    assert first["dropped"] == {"contaminated": 1} and first["leaks"] == {judged: 1}  # concept 5 is no document 5
    assert second["dropped"] == {"contaminated": 1, "listed": 1}
    found = read_pair_set(pairs, split="all")
    assert "term 7" not in found["terms"].anchors and not {"question 3", "question 5"} & set(found["questions"].anchors)
    assert f"- {judged}: 2 texts or ids, 2 pairs dropped" in pairs.file("README.md").read_text()
    assert "ids.txt: 1 texts or ids, 1 pairs dropped" in pairs.file("README.md").read_text()
    plain = make_plan(recipe(), store, raw_inputs=pair_inputs(recipe()))
    assert plan.fingerprint != plain.fingerprint
    (tmp_path / "test.jsonl").write_text(json.dumps({"_id": "a", "text": "another"}))
    changed = make_plan(plan.recipe, store, raw_inputs=pair_inputs(plan.recipe))
    assert changed.fingerprint != plan.fingerprint


def test_the_cells_of_a_table_are_compared_and_an_empty_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ev.csv").write_text("text,label\nBrand1 tablets,1\n")
    (tmp_path / "none.csv").write_text("text,label\n")
    evaluation = Contamination.of(DecontaminationSection(paths=(str(tmp_path / "ev.csv"),)))
    pairs = [TermPair("synonym", Term(f"tablets Brand{n}", ("a:1",)), Term("generic", ("a:1",))) for n in (1, 2)]

    assert [evaluation.leak(pair) is not None for pair in pairs] == [True, False]
    assert evaluation.num_texts == {str(tmp_path / "ev.csv"): 2}
    with pytest.raises(SourceError, match=r"none.csv holds no evaluation text"):
        Contamination.of(DecontaminationSection(paths=(str(tmp_path / "none.csv"),)))
