"""What codes can be found by, from the real tables; names of regions of a map."""

from pathlib import Path

import numpy as np
import pytest
from clinical_modernbert.evaluation.codes.code_set import CodeSet, code_set
from clinical_modernbert.evaluation.codes.labels import label_paths, map_labels
from clinical_modernbert.evaluation.codes.places import code_paths
from clinical_modernbert.evaluation.codes.search_terms import category_titles, search_terms, synonym_inputs
from clinical_modernbert.recipe.terms import TermTable
from clinical_modernbert.sources.codes.ccs import ccs_location, read_ccs
from clinical_modernbert.sources.codes.lay_words import lay_words


@pytest.fixture(scope="module")
def icd9() -> CodeSet:
    return code_set("icd9cm", max_codes=None, seed=0)


@pytest.fixture(scope="module")
def icd10() -> CodeSet:
    return code_set("icd10cm", max_codes=None, seed=0)


def test_every_lay_word_means_codes_that_exist(icd9: CodeSet, icd10: CodeSet) -> None:
    for codes in (icd9, icd10):
        known = [entry.code.replace(".", "") for entry in codes.entries]
        beginnings = {code[:length] for code in known for length in range(1, 8)}
        words = lay_words(codes.table)
        assert len(words) > 400
        assert not [(word.phrase, code) for word in words for code in word.codes if code not in beginnings]
        assert all(word.codes for word in words)
        phrases = [word.phrase.lower() for word in words]
        assert len(set(phrases)) == len(phrases)


def texts(found: dict, code: str) -> list[str]:
    return [found["texts"][number] for number in found["nodes"][code]]


def test_icd10_codes_have_headings_and_what_they_include(icd10: CodeSet) -> None:
    found = search_terms("icd10cm", icd10.whole)
    assert texts(found, "N20")[0] == "Calculus of kidney and ureter"
    assert "Stone in kidney" in texts(found, "N200") and "N200" not in found["headings"]
    assert "N20" in found["headings"]
    assert ["heart attack", "I21", "I22"] in found["lay"]


def test_icd9_codes_have_groups_and_the_terms_of_their_counterparts(icd9: CodeSet) -> None:
    found = search_terms("icd9cm", icd9.whole)
    assert "Stone in kidney" in texts(found, "5920")
    assert texts(found, "5920")[0] == read_ccs(ccs_location())["592.0"]
    assert texts(found, "410")[0] == "Acute myocardial infarction" and "410" in found["headings"]


def test_vocabularies_of_the_recipe_add_names_that_lead_to_a_code(tmp_path: Path, icd9: CodeSet) -> None:
    table = tmp_path / "terms.tsv"
    table.write_text("term\tname\nbad heart\tCongestive heart failure\nquux\tnothing of the table\n")
    source = TermTable(type="term_table", name="own", path=str(table), term_column="term", name_column="name")
    found = search_terms("icd9cm", icd9.whole, [source])
    assert found["names"] == [["Congestive heart failure", "bad heart"]]
    (entry,) = synonym_inputs([source])
    assert (entry.id, entry.name, len(entry.digest)) == ("own", "terms.tsv", 64)


def test_categories_are_named_by_the_words_that_their_codes_share(icd9: CodeSet) -> None:
    titles = category_titles(icd9.entries)
    assert titles["410"] == "Acute myocardial infarction"
    assert titles["250"].startswith("Diabetes")
    assert "essential hypertension" in titles["401"].lower()


def test_a_label_is_where_most_of_its_codes_are() -> None:
    rng = np.random.default_rng(0)
    xy = rng.normal(scale=0.1, size=(90, 2)).astype(np.float32)
    xy[:60] += (8, 8)
    xy[60:] += (-8, 3)
    paths = [["Chapter", "Block"]] * 80 + [["Chapter", ""]] * 8 + [["Other"]] * 2
    labels = map_labels(paths, xy)
    assert [(label["text"], label["level"], label["count"]) for label in labels] == [
        ("Chapter", 0, 88),
        ("Block", 1, 80),
    ]
    assert abs(labels[0]["x"] - 8) < 0.5 and abs(labels[0]["y"] - 8) < 0.5


def test_labels_of_the_real_tables_are_short(icd9: CodeSet) -> None:
    paths = label_paths(icd9, code_paths("icd9cm", icd9.entries))
    assert ["Circulatory system", "Acute myocardial infarction", "Acute myocardial infarction"] in paths
    assert max(len(step) for path in paths for step in path) <= 39
