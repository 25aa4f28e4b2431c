"""Recipes from YAML: extends, overrides, and one clear message for everything that is wrong."""

import json
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from clinical_modernbert.errors import RecipeError
from clinical_modernbert.recipe import (
    ContrastRecipe,
    CorpusRecipe,
    MapRecipe,
    PairsRecipe,
    PretrainRecipe,
    SweepRecipe,
    build_recipe,
    load_recipe,
)
from clinical_modernbert.recipe.loader import read_recipe
from clinical_modernbert.recipe.overrides import apply_override, dotted
from clinical_modernbert.recipe.section import RecipeValues
from hypothesis import given
from hypothesis import strategies as st

PRETRAIN = {"kind": "pretrain", "name": "p", "corpus": "c", "training": {"batch_rows": 64}}
CORPUS = {
    "kind": "corpus",
    "name": "c",
    "sources": [
        {"type": "synthetic_notes", "name": "notes", "num_documents": 10},
        {"type": "codes", "name": "icd9", "table": "icd9cm"},
    ],
}
SWEEP = {
    "kind": "sweep",
    "name": "s",
    "base": "pretrain/demo",
    "corpus": "c",
    "space": {"optimizer.learning_rate": {"type": "grid", "values": [1e-3]}},
}


def pretrain(*overrides: str, **values: Any) -> PretrainRecipe:
    return build_recipe(PretrainRecipe, PRETRAIN | values, overrides=overrides, origin="test")


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, Any], Path]:
    def write(name: str, values: Any) -> Path:
        path = tmp_path / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(values if isinstance(values, str) else yaml.safe_dump(values))
        return path

    return write


def test_a_recipe_states_only_what_differs(write: Callable[[str, Any], Path], tmp_path: Path) -> None:
    write("pretrain/p", PRETRAIN)
    recipe = load_recipe(PretrainRecipe, "pretrain/p", recipes_path=tmp_path)
    assert recipe.training.batch_rows == 64
    assert recipe.training.total_steps == 150_000
    assert recipe == load_recipe(PretrainRecipe, str(tmp_path / "pretrain/p.yaml"))


def test_extends_merges_sections_and_replaces_lists(write: Callable[[str, Any], Path], tmp_path: Path) -> None:
    write(
        "corpus/root", CORPUS | {"held_out": {"seed": 1, "fraction": 0.1}, "packing": {"sequence_lengths": [128, 256]}}
    )
    write("corpus/middle", {"extends": "corpus/root", "name": "middle", "held_out": {"seed": 2}})
    write("corpus/leaf", {"extends": "corpus/middle", "packing": {"sequence_lengths": [512]}})
    recipe = load_recipe(CorpusRecipe, "corpus/leaf", recipes_path=tmp_path)
    assert (recipe.name, recipe.held_out.seed, recipe.held_out.fraction) == ("middle", 2, 0.1)
    assert recipe.packing.sequence_lengths == (512,)
    assert len(recipe.sources) == 2


def test_extends_in_a_circle_is_shown(write: Callable[[str, Any], Path], tmp_path: Path) -> None:
    write("map/a", {"extends": "map/b"})
    write("map/b", {"extends": "map/a"})
    with pytest.raises(RecipeError, match=r"extends forms a circle: .*map/a\.yaml -> .*map/b\.yaml -> .*map/a\.yaml"):
        read_recipe("map/a", recipes_path=tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [1", "is not valid YAML"),
        ("- a\n- b\n", "must hold a mapping of settings, not list"),
        ("", "must hold a mapping of settings, not NoneType"),
        ("extends: [a, b]", "extends must name one recipe"),
        ("extends: map/absent", r"no recipe 'map/absent': .* does not exist; known recipes: map/a"),
    ],
)
def test_a_broken_file_is_named(write: Callable[[str, Any], Path], tmp_path: Path, content: str, message: str) -> None:
    write("map/a", content)
    with pytest.raises(RecipeError, match=message):
        load_recipe(MapRecipe, "map/a", recipes_path=tmp_path)


def test_a_file_that_is_no_text_or_no_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "folder.yaml").mkdir()
    for name in ("binary", "folder"):
        with pytest.raises(RecipeError, match=f"{name}.yaml"):
            load_recipe(MapRecipe, name, recipes_path=tmp_path)


def test_a_recipe_of_another_kind_is_refused() -> None:
    with pytest.raises(RecipeError, match="kind is 'pretrain', this job runs kind: map"):
        build_recipe(MapRecipe, PRETRAIN, origin="test")


# Overrides


@pytest.mark.parametrize(
    ("override", "read", "value"),
    [
        ("optimizer.learning_rate=3e-4", lambda r: r.optimizer.learning_rate, 3e-4),
        ("optimizer.learning_rate=.5E+1", lambda r: r.optimizer.learning_rate, 5.0),
        ("training.num_steps=1e3", lambda r: r.training.num_steps, 1000),
        ("checkpoint.every_steps=null", lambda r: r.checkpoint.every_steps, None),
        ("scaling.use_gpu=true", lambda r: r.scaling.use_gpu, True),
        ("corpus=base-1a2b", lambda r: r.corpus, "base-1a2b"),
        ("corpus='3e-4'", lambda r: r.corpus, "3e-4"),
        ("corpus=nan", lambda r: r.corpus, "nan"),
        ("corpus=a=b", lambda r: r.corpus, "a=b"),
        ("masking={rate_start: 0.2}", lambda r: r.masking.rate_start, 0.2),
        (" training.seed =7", lambda r: r.training.seed, 7),
    ],
)
def test_override_values(override: str, read: Callable[[PretrainRecipe], Any], value: Any) -> None:
    result = read(pretrain(override))
    assert result == value
    assert type(result) is type(value)


CONTRAST = {"kind": "contrast", "name": "v", "pairs": "p", "init": "m"}
WITH_ROWS = {**CONTRAST, "corpus": "c", "training": {"masked_language": {}}}
PAIRS = {"kind": "pairs", "name": "p", "sources": [{"type": "gem", "name": "crosswalk"}]}


@pytest.mark.parametrize(
    ("recipe_type", "values", "override", "read", "defaults"),
    [
        (ContrastRecipe, CONTRAST, "optimizer.beta1=0.8", lambda r: r.optimizer.learning_rate, 1e-4),
        (ContrastRecipe, CONTRAST, "checkpoint.keep=3", lambda r: r.checkpoint.every_steps, 50),
        (
            ContrastRecipe,
            WITH_ROWS,
            "training.masked_language.masking.strategy=uniform",
            lambda r: r.training.masked_language.masking.model_dump(exclude={"strategy"}),
            {"rate_start": 0.15, "rate_end": 0.15, "odds_start": 1.0, "odds_end": 1.0},
        ),
        (PairsRecipe, PAIRS, "held_out.seed=7", lambda r: r.held_out.fraction, 0.2),
    ],
)
def test_a_section_given_in_part_keeps_the_defaults_of_its_recipe(
    recipe_type: Any, values: dict[str, Any], override: str, read: Callable[[Any], Any], defaults: Any
) -> None:
    """They may differ from those of the section's class, which are pretraining's."""
    for overrides in ((), (override,)):
        assert read(build_recipe(recipe_type, values, overrides=overrides, origin="test")) == defaults


def test_overrides_apply_in_order_and_reach_into_lists() -> None:
    assert pretrain("training.seed=1", "training.seed=2").training.seed == 2
    corpus = build_recipe(CorpusRecipe, CORPUS, overrides=["sources.0.num_documents=99"], origin="test")
    assert corpus.sources[0].num_documents == 99  # type: ignore[union-attr]
    assert CORPUS["sources"][0]["num_documents"] == 10  # type: ignore[index]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.seed", "must have the form path.to.field=value"),
        ("=3", "must have the form"),
        ("training..seed=3", "must have the form"),
        ("training.seed=[1", "the value is not valid YAML"),
        ("name.x=3", "'x' is below 'p', which has no fields"),
    ],
)
def test_a_bad_override_is_shown(override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        pretrain(override)
    assert override in str(caught.value)


@pytest.mark.parametrize("position", ["2", "-1", "x"])
def test_an_override_cannot_reach_past_a_list(position: str) -> None:
    with pytest.raises(RecipeError, match="is not a position in a list of 2"):
        build_recipe(CorpusRecipe, CORPUS, overrides=[f"sources.{position}.name=x"], origin="test")


KEYS = st.lists(st.text(string.ascii_lowercase + "_", min_size=1, max_size=6), min_size=1, max_size=4)
VALUES = st.one_of(
    st.integers(-(10**9), 10**9),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.none(),
    st.text(max_size=12),
    st.lists(st.integers(), max_size=3),
)
TREES = st.recursive(
    st.integers(), lambda inner: st.dictionaries(st.text("ab", min_size=1, max_size=2), inner, max_size=3), max_leaves=6
)


def get(tree: Any, keys: list[str]) -> Any:
    for key in keys:
        tree = tree[key]
    return tree


@given(keys=KEYS, value=VALUES)
def test_any_value_arrives_where_the_dotted_path_points(keys: list[str], value: Any) -> None:
    text = yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()
    result = apply_override({"untouched": 1}, f"A.{'.'.join(keys)}={text}")
    arrived = get(result, ["A", *keys])
    assert arrived == value
    assert type(arrived) is type(value)
    assert result["untouched"] == 1


@given(tree=st.dictionaries(st.text("ab", min_size=1, max_size=2), TREES, max_size=3), keys=KEYS)
def test_an_override_changes_its_path_and_nothing_else(tree: dict[str, Any], keys: list[str]) -> None:
    before = yaml.safe_dump(tree)
    path = ["Z", *keys]
    result = apply_override(tree, f"{'.'.join(path)}=5")
    assert get(result, path) == 5
    assert {key: value for key, value in result.items() if key != "Z"} == tree
    assert yaml.safe_dump(tree) == before


# What the schema refuses, and how it says so


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.learning_rat=1", "optimizer.learning_rat: unknown key; did you mean 'optimizer.learning_rate'?"),
        ("learning_rate=1", "learning_rate: unknown key; did you mean 'optimizer.learning_rate'?"),
        ("checkpoint.zzz=1", "checkpoint.zzz: unknown key; keys of this section: every_steps, keep"),
        ("training.num_steps=many", "training.num_steps: Input should be a valid integer"),
        ("training.num_steps=1.5", "training.num_steps: Input should be a valid integer"),
        ("training.num_steps=0", "training.num_steps: Input should be greater than or equal to 1 (got 0)"),
        ("masking.rate_start=30", "masking.rate_start: Input should be less than 1 (got 30)"),
        ("name=Has_Capitals", "name: String should match pattern"),
        (
            "training.precision=float16",
            "training.precision: Input should be 'auto', 'float32' or 'bfloat16' (got 'float16')",
        ),
        ("training=null", "training: Input should be a valid dictionary"),
        ("training.batch_rows=65", "training.batch_rows=65 must be a multiple of scaling.num_workers"),
        (
            "training.sequence_length=16384",
            "training.sequence_length=16384 is longer than model.max_position_embeddings",
        ),
        ("model.num_heads=7", "model: num_heads=7 must divide hidden_size=768"),
    ],
)
def test_a_wrong_setting_names_field_value_and_remedy(override: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        pretrain(override)
    assert message in str(caught.value)
    assert "pydantic" not in str(caught.value)


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(RecipeError) as caught:
        pretrain("training.seed=x", "optimizer.beta1=2", "nonsense=1")
    assert len(str(caught.value).splitlines()) == 4


def test_a_wrong_source_is_not_called_a_lack_of_sources() -> None:
    values = {"kind": "pairs", "name": "p", "sources": [{"type": "obo", "name": "hpo", "path": "h.obo", "scopess": []}]}
    with pytest.raises(RecipeError, match=r"sources\.0\.scopess: unknown key") as told:
        build_recipe(PairsRecipe, values, origin="test")
    assert "at least 1 item" not in str(told.value)
    with pytest.raises(RecipeError, match="sources: Tuple should have at least 1 item"):
        build_recipe(PairsRecipe, values | {"sources": []}, origin="test")


def test_a_missing_setting_is_named() -> None:
    with pytest.raises(RecipeError, match="corpus: required, but not set"):
        build_recipe(PretrainRecipe, {"kind": "pretrain", "name": "p"}, origin="test")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sources.0.nam=x", "sources.0.nam: unknown key; did you mean 'sources.0.name'?"),
        ("sources.1.table=snomed", "sources.1.table: Input should be 'icd9cm', 'icd9_procedures', 'icd9_descriptions'"),
        ("sources.1.table=icd12", "sources.1.table: ICD-12 does not exist"),
        ("sources.1.name=notes", "source names must be distinct, these occur twice: ['notes']"),
        ("sources=[]", "sources: Tuple should have at least 1 item"),
        ("packing.sequence_lengths=[128, 128]", "packing: sequence_lengths must be distinct"),
        ("packing.sequence_lengths=[100]", "packing.sequence_lengths.0: Input should be a multiple of 8 (got 100)"),
    ],
)
def test_paths_in_messages_are_paths_in_the_file(override: str, message: str) -> None:
    """Members of a union carry a tag in pydantic's own paths, which no ``--set`` would understand."""
    with pytest.raises(RecipeError) as caught:
        build_recipe(CorpusRecipe, CORPUS, overrides=[override], origin="test")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sampler": "tpe"}, "sampler=tpe needs num_trials"),
        ({"num_trials": 2}, "num_trials=2: sampler=grid visits every combination once"),
        ({"space": {"a": {"type": "log_uniform", "low": 1, "high": 2}}}, "sampler=grid needs type=grid"),
        (
            {"space": {"a": {"type": "log_uniform", "low": 2, "high": 1}}, "sampler": "tpe"},
            "low=2.0 must be below high=1.0",
        ),
        ({"space": {}}, "a sweep has either a space (a search) or arms (an ablation)"),
    ],
)
def test_a_sweep_that_cannot_run_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        build_recipe(SweepRecipe, SWEEP | values, origin="test")
    assert message in str(caught.value)


def test_dotted_paths_are_those_of_overrides() -> None:
    values = {"kind": "pretrain", "training": {"seed": 3, "phases": [{"rows": 2}]}, "optimizer": {}}
    paths = dotted(values)
    assert paths == {"kind": "pretrain", "training.seed": 3, "training.phases": [{"rows": 2}]}
    rebuilt: RecipeValues = {"optimizer": {}}
    for path, value in paths.items():
        rebuilt = apply_override(rebuilt, f"{path}={json.dumps(value)}")
    assert rebuilt == values
