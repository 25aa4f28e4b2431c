"""Look-up of held-out codes by words: the sets, the rankings without a model, and the figures."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from clinical_modernbert.artifacts import Artifact, make_plan, open_store
from clinical_modernbert.corpus import is_held_out
from clinical_modernbert.corpus.pairs.build import build_pairs, pair_inputs
from clinical_modernbert.evaluation.codes.lookup import (
    LookUp,
    by_bm25,
    by_characters,
    by_vectors,
    crosswalk_look_up,
    held_out_purity,
    lay_look_up,
    recall,
)
from clinical_modernbert.recipe import PairsRecipe
from clinical_modernbert.recipe.corpus import HeldOutSection
from clinical_modernbert.sources import code_table
from numpy.typing import NDArray

SECTION = HeldOutSection(fraction=0.2, seed=0)


def vectors(texts: Sequence[str]) -> NDArray[np.float32]:
    """Counts of letters."""
    return np.array(
        [[text.lower().count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts], np.float32
    )


def test_the_crosswalk_asks_for_held_out_codes_only() -> None:
    look_up = crosswalk_look_up(SECTION, max_queries=50)

    assert len(look_up.queries) == 50 and all(is_held_out(group, SECTION) for group in look_up.groups)
    assert all(right and max(right) < len(look_up.candidates) for right in look_up.right)
    assert len(look_up.candidates) > 16_000
    assert crosswalk_look_up(SECTION, max_queries=50).queries == look_up.queries
    found = recall(look_up, by_characters)
    assert 0.3 < found.low <= found.at_1 <= found.high and found.at_1 <= found.at_10


def test_recall_counts_any_right_answer_and_draws_categories() -> None:
    queries = ["kidney failure", "broken arm", "cough"]
    candidates = ["failure of kidney", "arm, broken", "tussis", "cough with blood"]
    look_up = LookUp(queries, candidates, [frozenset({0}), frozenset({1, 2}), frozenset({2})], ["a", "a", "b"])

    found = recall(look_up, by_characters)
    assert (found.at_1, found.at_10) == (pytest.approx(2 / 3), 1.0)
    assert (found.low, found.high) == (0.0, 1.0)  # two categories: one of ones, one of a zero
    assert recall(look_up, by_vectors(vectors)).at_10 == 1.0


def test_bm25_is_that_of_the_formula() -> None:
    candidates = ["kidney failure", "failure of the heart and failure of the lung", "cough"]
    scores = by_bm25(["Failure cough"], candidates)(slice(None))[0]

    def term(frequency: int, length: int, documents: int) -> float:
        inverse = math.log(1 + (3 - documents + 0.5) / (documents + 0.5))
        return inverse * frequency * 2.2 / (frequency + 1.2 * (0.25 + 0.75 * length / 4))

    assert scores == pytest.approx([term(1, 2, 2), term(2, 9, 2), term(1, 1, 1)], rel=1e-5)


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
    look_up = lay_look_up(pair_set(tmp_path))

    assert look_up is not None
    assert sorted(look_up.queries) == ["red throat", "throat that is red"]
    codes = code_table("icd9cm")
    found = {codes[number].code.partition(".")[0] for right in look_up.right for number in right}
    assert [f"icd9cm:{category}" for category in found] == [look_up.groups[0]]


def test_purity_is_that_of_held_out_codes_among_all() -> None:
    table = code_table("icd9cm")[:300]
    chapters = {entry.description: entry.chapter_id for entry in table}

    def by_chapter(texts: Sequence[str]) -> NDArray[np.float32]:
        return np.array(
            [[chapters[t] == c for c in sorted(set(chapters.values()))] + [0.01] for t in texts], np.float32
        )

    assert held_out_purity(by_chapter, SECTION, table=table) == 1.0
