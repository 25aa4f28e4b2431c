"""The fingerprint: equal for equal meaning, different for any other."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clinical_modernbert.artifacts import InputEntry, Store, layout, make_plan, upload
from clinical_modernbert.errors import ArtifactError
from clinical_modernbert.recipe import CorpusRecipe, EvaluateRecipe, MapRecipe, PretrainRecipe, Recipe, SweepRecipe
from pydantic import BaseModel

from tests.helpers.artifacts import Publish

RAW = (InputEntry(name="a.xml.gz", id="pubmed", digest="1" * 64),)
NOT_IDENTITY = ("scaling", "logging", "checkpoint")
# Where raw files lie says nothing of what they hold: their digests are inputs.
PLACES = ("data",)
# Addresses of checkpoints, whose content is an input: test_initial_model.py and training/test_continue.py.
ADDRESSES = (("model", "init"), ("training", "continue_from"))
CORPUS = {"name": "c", "sources": [{"type": "synthetic_notes", "name": "notes", "num_documents": 10}]}
ENCODER = {"name": "biobert"}
SWEEP = {"name": "s", "base": "pretrain/demo", "corpus": "c", "space": {"a": {"type": "grid", "values": [1]}}}
PHASES = [{"sequence_length": 128, "num_steps": 9}, {"sequence_length": 128, "num_steps": 3, "corpora": {"c": 1}}]
RECIPES: list[Recipe] = [
    CorpusRecipe.model_validate(CORPUS),
    PretrainRecipe.model_validate({"name": "p", "corpus": "c", "training": {"batch_rows": 64, "phases": PHASES}}),
    EvaluateRecipe(name="e", model="m", corpus="c"),
    MapRecipe(name="map", model="m"),
    SweepRecipe.model_validate(SWEEP),
]


@pytest.fixture(autouse=True)
def _upstream(publish: Publish) -> None:
    publish("corpus", "c-1", shard="corpus")
    publish("model", "m-1", weights="model")
    publish("pairs", "x-1", pairs="pairs")  # where a setting without one is changed to "x"


def leaves(section: BaseModel, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every setting of a recipe with its dotted path."""
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from leaves(value, (*above, name))
        else:
            yield (*above, name), value


def changed(recipe: Recipe, path: tuple[str, ...]) -> Recipe:
    """A copy with one setting changed, past validation: any change of a value is a change of meaning."""

    def change(section: BaseModel, keys: tuple[str, ...]) -> BaseModel:
        value = getattr(section, keys[0])
        other = change(value, keys[1:]) if len(keys) > 1 else another(value)
        return section.model_copy(update={keys[0]: other})

    result = change(recipe, path)
    assert isinstance(result, Recipe)
    return result


def another(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, tuple):
        return value[1:] or ("another",)
    if isinstance(value, dict):
        return {} if value else {"another": ()}
    return f"{value or ''}x"


SETTINGS = [
    pytest.param(recipe, path, id=f"{recipe.model_dump()['kind']}:{'.'.join(path)}")
    for recipe in RECIPES
    for path, _ in leaves(recipe)
    if path[-1] != "kind" and path[0] not in recipe.references() and path not in ADDRESSES
]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("recipe", "path"), SETTINGS)
def test_every_setting_counts_but_scaling_logging_and_checkpoint(
    store: Store, recipe: Recipe, path: tuple[str, ...]
) -> None:
    before, after = (make_plan(r, store).fingerprint for r in (recipe, changed(recipe, path)))
    assert (before == after) is (path[0] in NOT_IDENTITY + PLACES)


def test_settings_cover_the_excluded_sections() -> None:
    assert {path.values[1][0] for path in SETTINGS} >= set(NOT_IDENTITY)  # type: ignore[index]


def test_fingerprint_is_stable(store: Store) -> None:
    """A change of this value orphans every published map: raise it only together with a reason in the CHANGELOG."""
    plan = make_plan(MapRecipe(name="map", model="m"), store)
    assert plan.fingerprint == make_plan(MapRecipe(name="map", model="m"), store).fingerprint
    assert len(plan.fingerprint) == 12
    assert plan.id == f"map-{plan.fingerprint}"
    assert plan.uri == f"{store.uri}/map/{plan.id}"


def test_two_names_of_one_artifact_give_one_fingerprint(store: Store) -> None:
    by_name, by_id = (make_plan(MapRecipe(name="map", model=model), store) for model in ("m", "m-1"))
    assert by_name.fingerprint == by_id.fingerprint
    assert by_name.inputs == by_id.inputs
    assert by_name.inputs[0].id == "model/m-1"


def test_another_input_gives_another_fingerprint(store: Store, publish: Publish) -> None:
    before = make_plan(MapRecipe(name="map", model="m-1"), store).fingerprint
    publish("model", "m-1", weights="other weights")
    assert make_plan(MapRecipe(name="map", model="m-1"), store).fingerprint != before


def test_equal_content_under_another_id_gives_the_same_fingerprint(store: Store, publish: Publish) -> None:
    publish("model", "twin-2", weights="model")
    first, second = (make_plan(MapRecipe(name="map", model=model), store).fingerprint for model in ("m", "twin"))
    assert first == second


@pytest.mark.parametrize(
    "other",
    [
        (),
        (RAW[0].model_copy(update={"digest": "2" * 64}),),
        (RAW[0].model_copy(update={"name": "b.xml.gz"}),),
        (*RAW, RAW[0].model_copy(update={"name": "b.xml.gz"})),
    ],
)
def test_raw_inputs_count(store: Store, other: tuple[InputEntry, ...]) -> None:
    recipe = CorpusRecipe.model_validate(CORPUS)
    assert (
        make_plan(recipe, store, raw_inputs=RAW).fingerprint != make_plan(recipe, store, raw_inputs=other).fingerprint
    )


def test_a_new_format_version_never_reuses_old_work(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = MapRecipe(name="map", model="m")
    before = make_plan(recipe, store)
    monkeypatch.setitem(layout.FORMAT_VERSION, "corpus", 99)
    assert make_plan(recipe, store).fingerprint == before.fingerprint
    monkeypatch.setitem(layout.FORMAT_VERSION, "map", 99)
    assert make_plan(recipe, store).fingerprint != before.fingerprint


def test_published_work_is_found_again(store: Store, tmp_path: Any) -> None:
    plan = make_plan(MapRecipe(name="map", model="m"), store)
    assert plan.existing() is None
    (tmp_path / "report.json").write_text("{}")
    entry = upload(store, plan.prefix, "report.json", tmp_path / "report.json")
    assert plan.existing() is None
    published = plan.publish([entry], summary={"num_codes": 3})
    again = make_plan(MapRecipe(name="map", model="m", scaling={"num_cpus": 9}), store).existing()  # type: ignore[arg-type]
    assert again is not None
    assert again.manifest == published.manifest
    assert again.manifest.inputs[0].id == "model/m-1"
    assert again.manifest.recipe == plan.recipe.model_dump(mode="json")


def test_a_reference_to_nothing_fails_before_any_work(store: Store) -> None:
    with pytest.raises(ArtifactError, match="no model 'absent'"):
        make_plan(MapRecipe(name="map", model="absent"), store)


def test_what_a_recipe_does_without_is_left_out_and_counts_when_it_comes(store: Store, publish: Publish) -> None:
    recipe = EvaluateRecipe(name="e", model="later", corpus="c", skip_absent=True, encoders=(ENCODER,), codes={})  # type: ignore[arg-type]
    before = make_plan(recipe, store)
    assert set(before.artifacts) == {"corpus"}
    with pytest.raises(ArtifactError, match="no model 'later'"):
        make_plan(recipe.model_copy(update={"skip_absent": False}), store)
    publish("model", "later-1", weights="model")
    after = make_plan(recipe, store)
    assert set(after.artifacts) == {"corpus", "model"} and after.fingerprint != before.fingerprint
    # A report of masked tokens alone has nothing to say without its model, whatever it was told to skip.
    with pytest.raises(ArtifactError, match="no model 'none'"):
        make_plan(EvaluateRecipe(name="e", model="none", corpus="c", skip_absent=True), store)
    # Two of a name are ambiguous, not absent.
    publish("model", "later-2", weights="other")
    with pytest.raises(ArtifactError, match="ambiguous"):
        make_plan(recipe, store)


def test_a_second_job_does_not_change_a_finished_artifact(store: Store, tmp_path: Path) -> None:
    plan = make_plan(CorpusRecipe.model_validate(CORPUS), store)
    (folder := tmp_path / "second").mkdir()
    (folder / "a.txt").write_text("first")
    first = plan.publish_folder(folder, summary={"n": 1})
    (folder / "a.txt").write_text("other")
    assert plan.publish_folder(folder, summary={"n": 2}).manifest == first.manifest
    assert store.read_bytes(f"{plan.prefix}/a.txt") == b"first"
