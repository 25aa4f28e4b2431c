"""A pair set as an artifact: the split by concept across sources, the account of every record, reading it again."""

from pathlib import Path

import pytest
from clinical_modernbert.artifacts import Artifact, Store, make_plan, open_store
from clinical_modernbert.corpus import is_held_out
from clinical_modernbert.corpus.pairs.build import build_pairs, pair_inputs
from clinical_modernbert.corpus.pairs.name_keys import name_keys
from clinical_modernbert.corpus.pairs.read import concept_ids, read_pair_set
from clinical_modernbert.corpus.pairs.split import held_out_groups, held_out_pairs
from clinical_modernbert.errors import SourceError
from clinical_modernbert.recipe import PairsRecipe
from clinical_modernbert.recipe.corpus import HeldOutSection
from clinical_modernbert.sources.terms import Follows, Term, TermPair

SECTION = HeldOutSection(fraction=0.2, seed=0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def drawn(prefix: str, *, held_out: bool, skip: int = 0) -> str:
    """Return a group that the section draws, or one that it does not."""
    names = (f"{prefix}:{number:03d}" for number in range(1000))
    return [name for name in names if is_held_out(name, SECTION) == held_out][skip]


def pair(anchor: tuple[str, str], positive: tuple[str, str]) -> TermPair:
    return TermPair("synonym", *(Term(text, (group,)) for text, group in (anchor, positive)))


def test_no_name_of_a_held_out_concept_trains_in_any_source() -> None:
    out, kept = drawn("icd9cm", held_out=True), drawn("icd9cm", held_out=False)
    term, sign, other = (drawn(system, held_out=False) for system in ("doid", "hp", "mesh"))
    pairs = [
        pair(("renal failure", out), ("Renal failure, unspecified", "icd10cm:N19")),
        pair(("kidney failure", term), ("renal disease at its end", term)),
        pair(("Failure of kidney", term), ("kidneys stopped", term)),
        pair(("Kidney failure", sign), ("Renal insufficiency", sign)),  # the same name in another ontology
        pair(("RI", sign), ("Renal insufficiency", sign)),
        pair(("cough", other), ("tussis", other)),
        pair(("broken arm", kept), ("fracture of arm", "icd10cm:S42")),
    ]
    follows = [Follows("icd10cm:N19", out), Follows(term, "icd10cm:N19"), Follows("icd10cm:S42", kept)]

    assert held_out_pairs(pairs, (), follows, SECTION) == [True, True, True, True, True, False, False]
    assert held_out_pairs(pairs, (), follows[:1], SECTION)[1:5] == [False] * 4  # without the cross reference


def test_a_pair_set_says_what_is_above_a_concept_of_an_ontology(store: Store, tmp_path: Path) -> None:
    terms = [
        line
        for n in range(9)
        for line in (
            "[Term]",
            f"id: HP:{n}",
            f"name: sign {n}",
            f'synonym: "other {n}" EXACT []',
            f"is_a: HP:{n + 1} ! x",
        )
    ]
    (tmp_path / "h.obo").write_text("\n".join([*terms, "[Term]", "id: HP:9", "name: all", ""]))
    source = {"type": "obo", "name": "hpo", "path": "h.obo"}
    recipe = PairsRecipe.model_validate({"name": "p", "data": str(tmp_path), "sources": [source]})
    found = read_pair_set(build_pairs(make_plan(recipe, store, raw_inputs=pair_inputs(recipe))), split="all")["hpo"]
    assert set(found.above["hp:0"]) == {f"hp:{n}" for n in range(1, 10)} and "hp:9" not in found.above


def test_a_shared_name_does_not_hold_out_an_icd_category_only_its_pair() -> None:
    out, kept = drawn("icd9cm", held_out=True), drawn("icd9cm", held_out=False)
    pairs = [
        pair(("other diseases", out), ("x", out)),
        pair(("other diseases", kept), ("y", kept)),
        pair(("z", kept), ("y", kept)),
    ]
    assert held_out_pairs(pairs, (), (), SECTION) == [True, True, False]


def test_names_of_dropped_pairs_hold_out_too() -> None:
    """A category whose every pair was dropped still leads, and a name that only such a pair has still counts."""
    out, lost = drawn("icd9cm", held_out=True), drawn("icd9cm", held_out=True, skip=1)
    term, other = drawn("doid", held_out=False), drawn("mesh", held_out=False)
    pairs = [
        pair(("MS", "icd10cm:G35"), ("disseminated sclerosis", "icd10cm:G35")),
        pair(("swelling", term), ("oedema", term)),
        pair(("cough", other), ("tussis", other)),
    ]
    follows = [Follows("icd10cm:G35", lost)]
    dropped = [Term("oedema", (out,)), Term("Multiple sclerosis", (lost,)), Term("-", (out,)), Term("?", (other,))]

    assert held_out_pairs(pairs, dropped, follows, SECTION) == [True, True, False]
    assert held_out_pairs(pairs, dropped[2:], follows, SECTION) == [
        True,
        False,
        False,
    ]  # the link alone names the leader


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("kidney failure", "Failures, kidney"),
        ("abscess", "abscesses"),
        ("lung metastasis", "metastases, lung"),
        ("biopsy", "biopsies"),
        ("disease", "diseases"),
        ("edema", "oedema"),
        ("Fetal hemorrhage", "foetal haemorrhages"),
        ("Kallmann's syndrome", "Kallmann syndrome"),
        ("Graves\u2019 disease", "Graves disease"),
        ("non-union", "nonunion"),
    ],
)
def test_spellings_of_one_name_share_a_key(one: str, other: str) -> None:
    assert name_keys(one) & name_keys(other)


def test_other_names_share_no_key() -> None:
    assert not name_keys("virus") & name_keys("viru") and name_keys("- ?") == frozenset()
    assert not name_keys("kidney failure, unspecified") & name_keys("kidney failure")


def test_a_concept_follows_through_ids_that_no_source_has() -> None:
    out = drawn("doid", held_out=True)
    follows = [Follows("umls:C1", out), Follows("hp:1", "umls:C1"), Follows("hp:2", "umls:C2")]

    groups = held_out_groups({out, "hp:1", "hp:2"}, follows, SECTION)

    assert "hp:1" in groups
    # Nothing leads umls:C2 and no source has it, so hp:2 is drawn by itself.
    assert ("hp:2" in groups) == is_held_out("hp:2", SECTION)


def table(folder: Path, name: str, *rows: tuple[str, str, str]) -> dict[str, str]:
    lines = "\n".join("\t".join(row) for row in (("term", "name", "id"), *rows))
    (folder / f"{name}.tsv").write_text(lines)
    columns = {"term_column": "term", "name_column": "name", "concept_column": "id", "system": "made"}
    return {"type": "term_table", "name": name, "path": f"{name}.tsv", **columns}


def recipe_of(folder: Path) -> PairsRecipe:
    first = [(f"term {n}", f"name {n}", str(n)) for n in range(40)]
    bad = [("Name 1", "name, 1", "1"), ("x" * 301, "name 2", "2"), ("", "name 3", "3")]
    sources = [
        table(folder, "first", *first, *bad),
        table(folder, "second", ("name 4", "term 4", "4"), ("b", "a", "0")),
    ]
    return PairsRecipe.model_validate({"name": "pairs", "data": str(folder), "sources": sources})


def built(store: Store, recipe: PairsRecipe) -> Artifact:
    return build_pairs(make_plan(recipe, store, raw_inputs=pair_inputs(recipe)))


def test_every_record_is_a_pair_or_a_counted_drop(store: Store, tmp_path: Path) -> None:
    pairs = built(store, recipe_of(tmp_path))

    first, second = (pairs.summary["sources"][name] for name in ("first", "second"))
    assert first["records"] == 43 and sum(first["pairs"].values()) == 40
    assert first["dropped"] == {"same_text": 1, "too_long": 1, "empty": 1}
    assert second["dropped"] == {"duplicate": 1} and second["relations"] == {"synonym": 1}
    train, held_out, everything = (read_pair_set(pairs, split=split) for split in ("train", "held_out", "all"))
    sides = [{lineage[0] for texts in part.values() for lineage in texts.anchor_lineages} for part in (train, held_out)]
    assert sides[0] and sides[1] and not sides[0] & sides[1]
    assert len(everything["first"]) == 40 and everything["second"].anchors == ["b"]
    assert "| first | 43 |" in pairs.file("README.md").read_text()


def test_the_fingerprint_depends_on_content_and_not_on_the_folder(store: Store, tmp_path: Path) -> None:
    plans = []
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        recipe = recipe_of(folder)
        plans.append(make_plan(recipe, store, raw_inputs=pair_inputs(recipe)))
    (tmp_path / "b" / "second.tsv").write_text("term\tname\tid\nnew\told\t9\n")
    changed = make_plan(plans[1].recipe, store, raw_inputs=pair_inputs(plans[1].recipe))

    assert plans[0].fingerprint == plans[1].fingerprint != changed.fingerprint


def test_too_many_damaged_rows_end_the_build(store: Store, tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path)
    with (tmp_path / "first.tsv").open("a") as stream:
        stream.write("\none field\n")
    with pytest.raises(SourceError, match=r"sources\[first\]: 1 of 44 records .* first.tsv line 45: 1 columns"):
        built(store, recipe)


def test_a_table_without_rows_is_named(store: Store, tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path)
    (tmp_path / "second.tsv").write_text("term\tname\tid\n")
    with pytest.raises(SourceError, match=r"sources\[second\]: no pair to train on; it has no rows"):
        built(store, recipe)


def test_concept_ids_name_the_concept_and_those_above_it() -> None:
    ids = concept_ids([("icd10cm:A01.0", "icd10cm:A01"), ("icd10cm:A01",)])
    assert ids[0, 1] == ids[1, 0] != 0 and ids[1, 1] == 0
