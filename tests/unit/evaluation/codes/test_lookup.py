"""Look-up of held-out codes by words: the sets, the rankings without a model, and the figures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from clinical_modernbert.artifacts import Artifact, make_plan, open_store
from clinical_modernbert.corpus import is_held_out
from clinical_modernbert.corpus.pairs.build import build_pairs, pair_inputs
from clinical_modernbert.evaluation.codes.confusions import confusions
from clinical_modernbert.evaluation.codes.lookup import (
    LookUp,
    counting_figures,
    crosswalk,
    encoder_figures,
    held_out_purity,
    lay_terms,
    lay_words_among,
)
from clinical_modernbert.recipe import PairsRecipe
from clinical_modernbert.recipe.corpus import HeldOutSection
from clinical_modernbert.sources import CodeEntry, code_table
from numpy.typing import NDArray

SECTION = HeldOutSection(fraction=0.2, seed=0)


def vectors(texts: Sequence[str]) -> NDArray[np.float32]:
    """Counts of letters."""
    return np.array(
        [[text.lower().count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts], np.float32
    )


def entry(code: str, description: str, *, chapter: str = "") -> CodeEntry:
    return CodeEntry(code=code, description=description, chapter_id=chapter, chapter=chapter)


def test_queries_are_drawn_from_held_out_codes_where_asked() -> None:
    of = crosswalk(num_queries=50, all_candidates=True, seed=0, held_out=SECTION)

    assert len(of.queries) == 50 and all(is_held_out(group, SECTION) for group in of.categories)
    assert len(of.candidates) > 16_000


def test_recall_counts_queries_whose_nearest_hold_a_counterpart() -> None:
    vectors = {"a": [1.0, 0.0], "b": [0.0, 1.0], "c": [0.9, 0.1], "x": [0.5, 0.5]}
    of = LookUp(
        ["a", "b"], ["1", "2"], [entry("", text) for text in ("c", "b", *["x"] * 20)], [{0}, {0}], [{"1"}, {"2"}]
    )
    found = encoder_figures(of, lambda texts: np.array([vectors[text] for text in texts], dtype=np.float32), seed=0)
    # The first query's own counterpart is nearest; that of the second comes after all others.
    assert (found.recall_at_1.mean, found.recall_at_10.mean) == (0.5, 0.5)
    assert (found.queries, found.candidates) == (2, 22)


def test_a_sample_holds_every_counterpart_of_its_queries_and_is_drawn_by_the_seed() -> None:
    of = crosswalk(num_queries=60, all_candidates=False, seed=1)
    assert len(of.queries) == len(of.categories) == 60 and len(of.candidates) == 600
    assert all(answers and max(answers) < 600 for answers in of.answers)
    assert crosswalk(num_queries=60, all_candidates=False, seed=1) == of
    found = counting_figures(of, seed=0)
    assert set(found) == {"BM25", "TF-IDF of words", "TF-IDF of characters"}
    for figures in found.values():
        assert 0.5 < figures.recall_at_1.mean < figures.recall_at_10.mean <= 1
        assert figures.recall_at_1.low < figures.recall_at_1.mean < figures.recall_at_1.high


def test_a_wrong_answer_is_counted_by_how_it_differs_from_a_right_one() -> None:
    right = "Displaced fracture of left femur, initial encounter for closed fracture"
    entries = [
        entry("S72.1", right, chapter="S"),
        entry("S72.2", right.replace("left", "right"), chapter="S"),
        entry("S72.3", right.replace("initial", "subsequent"), chapter="S"),
        entry("S72.4", "Other displaced fracture of left femur, initial encounter for closed fracture", chapter="S"),
        entry("S72.5", "Torus fracture of femur", chapter="S"),
        entry("S80.1", "Contusion of knee", chapter="S"),
        entry("E11.9", "Type 2 diabetes", chapter="E"),
    ]
    texts = [one.description for one in entries]

    def embed(asked: Sequence[str]) -> NDArray[np.float32]:
        """Each text is a direction of its own, so that query n finds candidate n."""
        return np.array([[float(text == other) for other in texts] for text in asked], dtype=np.float32)

    found = confusions(LookUp(texts, ["x"] * 7, entries, [{0}] * 7, [{"x"}] * 7), embed)

    assert list(found) == ["right", "side", "encounter", "rest of a group", "category", "chapter", "elsewhere"]
    assert list(found.values()) == [1 / 7] * 7


def test_lay_words_find_the_codes_that_they_mean_among_those_given() -> None:
    entries = [
        entry("410.01", "AMI anterolateral"),
        entry("427.31", "Atrial fibrillation"),
        entry("V70.0", "Routine exam"),
    ]
    of = lay_words_among(entries)
    right = dict(zip(of.queries, of.answers, strict=True))
    assert right["heart attack"] == {0} and right["AFib"] == {1} and of.candidates == [e.description for e in entries]
    meanings = dict(zip(of.queries, of.categories, strict=True))
    assert meanings["heart attack"] == meanings["MI"] != meanings["AFib"]
    vectors = np.eye(3, dtype=np.float32)
    asked: list[str] = []

    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        asked.extend(texts)
        return np.array([vectors[min(right[text])] for text in texts])

    found = encoder_figures(of, embed, seed=0, candidates_DW=vectors)
    assert found.recall_at_1.mean == 1 and asked == of.queries
    # Those about one category alone, among the same candidates.
    hearts = of.about({"icd9cm:410"})
    assert "heart attack" in hearts.queries and "AFib" not in hearts.queries and hearts.candidates == of.candidates
    assert set(hearts.queries) == {query for query, answers in right.items() if answers == {0}}


def pair_set(folder: Path) -> Artifact:
    codes = code_table("icd9cm")
    out, kept = (
        next(c for c in codes if is_held_out(f"icd9cm:{c.code.partition('.')[0]}", SECTION) == held)
        for held in (True, False)
    )
    names = [
        "DOID:1\tred throat\tname",
        "DOID:1\tthroat that is red\texact-synonym",
        "DOID:2\tblue arm\tname",
        "DOID:2\tb\tx",
    ]
    names += [f"DOID:{n}\tname {n}\tname\nDOID:{n}\tother {n}\texact-synonym" for n in range(3, 30)]
    (folder / "names.tsv").write_text("\n".join(["doid\tname\ttype", *names]) + "\n")
    links = [f"DOID:1\tred throat\tICD9\t{out.code}", f"DOID:2\tblue arm\tICD9\t{kept.code}"]
    (folder / "links.tsv").write_text("\n".join(["doid_code\tdoid_name\tresource\tresource_id", *links]) + "\n")
    source = {"type": "disease_ontology", "name": "d", "path": "names.tsv", "references_path": "links.tsv"}
    recipe = PairsRecipe.model_validate({"name": "p", "data": str(folder), "sources": [source]})
    return build_pairs(make_plan(recipe, open_store(str(folder / "store")), raw_inputs=pair_inputs(recipe)))


def test_lay_terms_are_all_names_of_diseases_that_refer_to_held_out_categories(tmp_path: Path) -> None:
    look_up = lay_terms(pair_set(tmp_path))

    assert look_up is not None
    assert sorted(look_up.queries) == ["red throat", "throat that is red"]
    codes = code_table("icd9cm")
    found = {codes[number].code.partition(".")[0] for right in look_up.answers for number in right}
    assert [f"icd9cm:{category}" for category in found] == [look_up.categories[0]]


def test_purity_is_that_of_held_out_codes_among_all() -> None:
    table = code_table("icd9cm")[:300]
    chapters = {entry.description: entry.chapter_id for entry in table}

    def by_chapter(texts: Sequence[str]) -> NDArray[np.float32]:
        return np.array(
            [[chapters[t] == c for c in sorted(set(chapters.values()))] + [0.01] for t in texts], np.float32
        )

    assert held_out_purity(by_chapter, SECTION, table=table) == 1.0
