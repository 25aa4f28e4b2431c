"""Hard negatives: where they come from, and that none of them means the same. Names are made up around ICD's structure."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from clinical_modernbert.corpus.pairs.negatives import Embed, Mined, mine_negatives
from clinical_modernbert.recipe.pairs import NegativesSection, PairsRecipe
from clinical_modernbert.sources.codes.diagnoses import Table
from clinical_modernbert.sources.terms import Follows, Term, TermPair
from clinical_modernbert.sources.terms.term import code_term
from numpy.typing import NDArray
from pydantic import ValidationError


def icd(text: str, code: str, table: Table = "icd10cm") -> Term:
    return code_term(text, table, code)


def named(text: str, concept: str) -> Term:
    return Term(text, (concept,))


PARENTS = [
    TermPair("parent", icd("fever blue left", "A01.01"), icd("fever blue", "A01.0")),
    TermPair("parent", icd("fever blue right", "A01.02"), icd("fever blue", "A01.0")),
    TermPair("parent", icd("fever red", "A01.1"), icd("fever", "A01")),
    TermPair("inclusion", icd("scarlet heat", "A01.1"), icd("fever red", "A01.1")),
    TermPair("inclusion", icd("green heat", "A01.2"), icd("fever green", "A01.2")),
    TermPair("inclusion", icd("yellow heat", "A01.3"), icd("fever yellow", "A01.3")),
]


def mined(
    pairs: Sequence[TermPair],
    *follows: Follows,
    embed: Embed | None = None,
    split: str = "train",
    parents: dict[str, set[str]] | None = None,
    **section: object,
) -> Mined:
    settings = NegativesSection.model_validate({"method": "bm25", "per_pair": 8, **section})
    return mine_negatives(pairs, [("s", split)] * len(pairs), settings, embed, follows=follows, parents=parents or {})


def texts(found: Mined, number: int) -> set[str]:
    return {term.text for term in found.negatives[number]}


def test_siblings_have_the_parent_of_the_positive() -> None:
    found = mined(PARENTS, method="siblings")
    assert texts(found, 3) == {"fever green", "fever yellow", "fever blue"}
    assert texts(found, 2) == set()  # a category has no parent
    assert texts(found, 0) == {"fever red", "fever green", "fever yellow"}
    one = mined(PARENTS, method="siblings", per_pair=1)
    assert [len(terms) for terms in one.negatives] == [1, 1, 0, 1, 1, 1]
    assert one.negatives == mined(PARENTS, method="siblings", per_pair=1).negatives


def test_a_method_that_finds_none_is_told(caplog: pytest.LogCaptureFixture) -> None:
    table = [TermPair("synonym", named(text, text), named(f"{text} x", text)) for text in ("cough", "burn")]
    mined(PARENTS, method="siblings")
    assert not caplog.records
    mined(table, method="siblings")
    assert "negatives.method=siblings found no negative of 2 pairs; it needs concepts with one parent" in caplog.text


def test_concepts_above_and_below_are_no_negatives() -> None:
    pairs = [
        *PARENTS,
        TermPair("crosswalk", icd("fever of hands", "001.0", "icd9cm"), icd("fever blue of hands", "A01.0")),
        TermPair("synonym", icd("fever", "A01"), icd("fever category", "A01")),
    ]
    found = mined(pairs)
    assert texts(found, 0) == {"fever red", "fever green", "fever yellow"}  # not A01, nor another name of A01.0
    assert texts(found, 7) == set()  # all others are below it


def test_what_any_pair_joins_is_no_negative() -> None:
    pairs = [
        TermPair("synonym", named("kidney failure", "doid:1"), named("renal failure of kidney", "doid:1")),
        TermPair(
            "cross_reference", named("renal failure of kidney", "doid:1"), icd("kidney failure nos", "586", "icd9cm")
        ),
        TermPair("crosswalk", icd("kidney failure nos", "586", "icd9cm"), icd("unspecified kidney failure", "N19")),
        TermPair(
            "synonym", named("kidney  Failure", "hp:1"), named("kidney insufficiency", "hp:1")
        ),  # joined by its name
        TermPair("synonym", named("x", "doid:9"), named("liver failure", "doid:9")),
        TermPair("synonym", named("y", "umls:9"), named("failure of kidney in shock", "umls:9")),
    ]
    linked = Follows("umls:9", "doid:1")
    assert texts(mined(pairs, linked), 0) == {"liver failure"}
    assert "failure of kidney in shock" in texts(mined(pairs), 0)  # only the link says so
    assert mined(pairs, linked).passed_over > 3


def test_terms_above_and_below_in_an_ontology_are_no_negatives() -> None:
    names = {"hp:1": "cell count", "hp:2": "abnormal cell count", "hp:3": "raised cell count", "hp:4": "low cell count"}
    pairs = [TermPair("synonym", named(f"{name} x", concept), named(name, concept)) for concept, name in names.items()]
    parents = {"hp:2": {"hp:1"}, "hp:3": {"hp:2"}, "hp:4": {"hp:2"}}

    found = mined(pairs, parents=parents)

    assert [texts(found, n) for n in range(4)] == [set(), set(), {"low cell count"}, {"raised cell count"}]


def test_negatives_are_of_the_same_source_and_side() -> None:
    places = [("a", "train"), ("a", "held_out"), ("b", "train"), ("a", "train")]
    pairs = [TermPair("synonym", named(f"fever {n}x", f"d:{n}"), named(f"fever heat {n}x", f"d:{n}")) for n in range(4)]
    found = mine_negatives(pairs, places, NegativesSection(method="bm25"), None, parents={})
    assert [texts(found, n) for n in range(4)] == [{"fever heat 3x"}, set(), set(), {"fever heat 0x"}]


def test_a_model_gives_the_nearest_below_the_margin() -> None:
    angles = {"a": 0.0, "a positive": 0.5, "too near": 0.45, "near": 0.7, "far": 1.5}

    def embed(names: Sequence[str]) -> NDArray[np.float32]:
        return np.array([[np.cos(angles[name]), np.sin(angles[name])] for name in names], dtype=np.float32)

    pairs = [TermPair("synonym", named(one, f"d:{other}"), named(other, f"d:{other}")) for one, other in (
        ("a", "a positive"), ("far", "too near"), ("far", "near"), ("near", "far"),
    )]  # fmt: skip
    found = mined(pairs, embed=embed, method="model", model="m", per_pair=1)
    assert texts(found, 0) == {"near"}
    assert texts(mined(pairs, embed=embed, method="model", model="m", margin=0.2), 0) == {"far"}


def test_a_model_belongs_to_its_method_and_its_address_is_no_identity(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"method: model needs negatives\.model"):
        NegativesSection(method="model")
    with pytest.raises(ValidationError, match="model=x is read with method: model only, not with bm25"):
        NegativesSection(method="bm25", model="x")
    sources = [{"type": "gem", "name": "g"}]
    plain, with_model = (
        PairsRecipe.model_validate({"name": "p", "sources": sources, **fields})
        for fields in ({}, {"negatives": {"method": "model", "model": "there"}})
    )
    assert "negatives" not in plain.identity() and "model" not in with_model.identity()["negatives"]
    assert with_model.model_sources() == {"negatives.model": "there"}


def test_another_spelling_of_a_positive_is_no_negative() -> None:
    pairs = [
        TermPair("synonym", named("swollen lung", "a:1"), named("lung edema", "a:1")),
        TermPair("synonym", named("wet lung", "b:1"), named("lung oedemas", "b:1")),
        TermPair("synonym", named("lung fever", "c:1"), named("lung inflammation", "c:1")),
    ]
    assert texts(mined(pairs), 0) == {"lung inflammation"}
