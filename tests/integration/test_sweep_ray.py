"""A sweep on Ray Tune: its trials are ordinary runs that two strings reproduce, and one failure does not end it."""

from pathlib import Path

import pytest
from clinical_modernbert.artifacts import Store, list_artifacts, make_plan, open_store
from clinical_modernbert.recipe import PretrainRecipe, SweepRecipe, build_recipe, read_recipe
from clinical_modernbert.sweeps.run import sweep

from tests.tiny import TINY_PRETRAIN, publish_tiny_corpus

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = open_store(str(tmp_path_factory.mktemp("store")))
    publish_tiny_corpus(store)
    return store


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = tmp_path_factory.mktemp("recipes") / "tiny.yaml"
    path.write_text(str(TINY_PRETRAIN))  # a mapping of plain values is YAML as it stands
    return str(path)


def test_trials_are_runs_that_their_two_strings_reproduce(store: Store, base: str) -> None:
    space = {"optimizer.learning_rate": {"type": "grid", "values": [1e-5, 3e-3]}}
    values = {"kind": "sweep", "name": "rates", "base": base, "corpus": "tiny", "space": space}
    plan = make_plan(build_recipe(SweepRecipe, values, origin="test"), store)
    report = sweep(plan).summary
    assert [trial["point"]["optimizer.learning_rate"] for trial in report["trials"]] == [3e-3, 1e-5]
    for trial in report["trials"]:
        by_hand = build_recipe(
            PretrainRecipe, read_recipe(trial["recipe"]), overrides=trial["overrides"], origin="hand"
        )
        found = make_plan(by_hand, store).existing()
        assert found is not None and found.manifest.id == trial["model"]
        assert found.summary["held_out"]["uniform_loss"] == trial["held_out_loss"]
    assert report["best"]["held_out_loss"] < report["trials"][1]["held_out_loss"]
    before = {artifact.uri: artifact.manifest.created_at for artifact in list_artifacts(store, "model")}
    # The report is lost, say, in a killed sweep: run again, it finds every trial and trains none.
    store.delete(f"{plan.prefix}/manifest.json")
    assert plan.existing() is None
    assert sweep(plan).summary["trials"] == report["trials"]
    assert {artifact.uri: artifact.manifest.created_at for artifact in list_artifacts(store, "model")} == before


def test_a_failing_trial_is_kept_with_its_error(store: Store, base: str) -> None:
    space = {"model.init": {"type": "grid", "values": ["scratch", "/nowhere"]}}
    values = {"kind": "sweep", "name": "starts", "base": base, "corpus": "tiny", "space": space}
    report = sweep(make_plan(build_recipe(SweepRecipe, values, origin="test"), store)).summary
    finished, failed = report["trials"]
    assert finished["point"]["model.init"] == "scratch" and finished["error"] is None
    assert failed["point"]["model.init"] == "/nowhere" and "cannot load a ModernBERT from /nowhere" in failed["error"]
    assert failed["held_out_loss"] is None
