"""A sweep on Ray Tune: its trials are ordinary runs that two strings reproduce, and one failure does not end it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import ray
import yaml
from clinical_modernbert.artifacts import Store, list_artifacts, make_plan, open_store, resolve
from clinical_modernbert.corpus.shards import PackedRows
from clinical_modernbert.evaluation.masked_tokens.score import score_held_out
from clinical_modernbert.recipe import PretrainRecipe, SweepRecipe, build_recipe, read_recipe
from clinical_modernbert.sweeps import run
from clinical_modernbert.sweeps.board import Board, curve_to_json
from clinical_modernbert.sweeps.pair_scores import pairs_to_score, score_pairs
from clinical_modernbert.sweeps.proposals import Proposals, searcher
from clinical_modernbert.sweeps.run import sweep
from clinical_modernbert.sweeps.scores import document_scores
from clinical_modernbert.sweeps.trials import sweep_plan
from ray import tune

from tests.helpers.pairs import TINY_CONTRAST, publish_tiny_pairs
from tests.helpers.processes import kill_with_all_it_started
from tests.helpers.tiny import TINY_PRETRAIN, publish_tiny_corpus, save_tiny_model

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
        assert found.summary["held_out"]["uniform_loss"] == trial["value"]
    assert report["best"]["value"] < report["trials"][1]["value"]
    before = {artifact.uri: artifact.manifest.created_at for artifact in list_artifacts(store, "model")}
    # The report is lost, say, in a killed sweep: run again, it finds every trial and trains none.
    store.delete(f"{plan.prefix}/manifest.json")
    assert plan.existing() is None
    assert sweep(plan).summary["trials"] == report["trials"]
    assert {artifact.uri: artifact.manifest.created_at for artifact in list_artifacts(store, "model")} == before


@pytest.fixture(scope="module")
def vectors_base(store: Store, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A contrastive base recipe from a tiny encoder; its pair set is in the store."""
    folder = tmp_path_factory.mktemp("vectors")
    save_tiny_model(folder / "init", texts=("kidney failure", "burn of the skin"))
    publish_tiny_pairs(store, held_out={"fraction": 0.4})
    publish_tiny_pairs(store, "more", held_out={"fraction": 0.4, "seed": 1})
    (folder / "tiny.yaml").write_text(str({**TINY_CONTRAST, "init": str(folder / "init")}))
    return str(folder / "tiny.yaml")


def test_a_search_of_vectors_keeps_a_failing_trial_with_its_error(store: Store, vectors_base: str) -> None:
    init = read_recipe(vectors_base)["init"]
    space = {"init": {"type": "grid", "values": [init, "/nowhere"]}}
    values = {"kind": "sweep", "name": "starts", "base": vectors_base, "pairs": "tiny", "space": space}
    values["halving"] = {"grace_steps": 6}
    published = sweep(sweep_plan(build_recipe(SweepRecipe, values, origin="test"), store))
    finished, failed = published.summary["trials"]
    assert finished["point"]["init"] == init and finished["error"] is None
    assert failed["point"]["init"] == "/nowhere" and "init: '/nowhere' is neither a folder" in failed["error"]
    assert failed["value"] is None
    model = resolve(store, "model", finished["model"])
    assert finished["value"] == model.summary["held_out"]["pair_recall1"]
    curves = json.loads(published.file("curves.json").read_text())
    assert [point["step"] for point in curves[finished["model"]]["points"]] == [-1, 5, 11]
    assert "held-out recall@1" in published.file("report.md").read_text()


def test_arms_of_vectors_are_scored_on_the_pairs_that_none_trains_on(store: Store, vectors_base: str) -> None:
    arms = {"tiny": [], "hot": ["training.temperature=0.5"], "more": ["pairs=more"]}
    values = {"kind": "sweep", "name": "vectors", "base": vectors_base, "pairs": "tiny", "arms": arms, "seeds": [3]}
    recipe = build_recipe(SweepRecipe, {**values, "comparison": {"resamples": 200}}, origin="test")
    plan = sweep_plan(recipe, store)
    report = sweep(plan).summary
    assert report["trains"] == "contrast" and report["metric"] == "pair_recall1"
    sets = {name: resolve(store, "pairs", name) for name in ("tiny", "more")}
    scored = pairs_to_score(sets["tiny"], sets.values(), max_pairs=1000)
    assert list(report["parts"]) == list(scored)
    paired = dict(report["pairing"]["3"])
    shown = paired.pop("shown_by")
    assert paired == {"initial_weights": True, "row_order": False, "budget": True, "data": False, "scored": True}
    assert shown["data"] == sorted(found.manifest.id for found in sets.values()) and shown["budget"] == [12 * 16]
    assert len(shown["row_order"]) == 2  # a temperature does not change the pairs
    assert shown["scored"] == {source: [of.digest] for source, of in scored.items()}
    of_arm = {trial["point"]["arm"]: resolve(store, "model", trial["model"]) for trial in report["trials"]}
    for arm, model in of_arm.items():
        for source, found in score_pairs(model.manifest.id, store_uri=store.uri, pairs=scored).items():
            assert report["arms"][arm]["parts"][source]["mrr"] == [pytest.approx(found.mean("mrr"))]
    # The report is lost: the trials are found by their overrides, and none is trained again.
    made = {arm: model.manifest.created_at for arm, model in of_arm.items()}
    store.delete(f"{plan.prefix}/manifest.json")
    assert sweep(plan).summary == report
    assert {arm: resolve(store, "model", m.manifest.id).manifest.created_at for arm, m in of_arm.items()} == made


ARMS = {"token-aware": [], "uniform": ["masking.strategy=uniform"], "broken": ["model.init=/nowhere"]}


def test_arms_are_paired_and_the_report_is_what_the_trials_say(store: Store, base: str) -> None:
    values = {
        "kind": "sweep",
        "name": "arms",
        "base": base,
        "corpus": "tiny",
        "arms": ARMS,
        "seeds": [0, 1],
        "overrides": ["held_out_loss.every_steps=4"],
        "comparison": {"sequence_length": 64, "resamples": 200},
    }
    plan = make_plan(build_recipe(SweepRecipe, values, origin="test"), store)
    published = sweep(plan)
    report = published.summary

    models = {
        (trial["point"]["arm"], trial["point"]["seed"]): resolve(store, "model", trial["model"])
        for trial in report["trials"]
        if not trial["error"]
    }
    assert set(models) == {(arm, seed) for arm in ("token-aware", "uniform") for seed in (0, 1)}
    digests: list[dict[str, list[str]]] = []
    for seed in (0, 1):
        for proof in ("initial_weights", "row_order"):
            assert models["token-aware", seed].summary[proof] == models["uniform", seed].summary[proof]
        pairing = report["pairing"][str(seed)]
        shown = pairing.pop("shown_by")
        assert pairing == dict.fromkeys(("initial_weights", "row_order", "budget", "data", "scored"), True)
        assert shown["data"] == [resolve(store, "corpus", "tiny").manifest.id]
        assert shown["initial_weights"] == [models["uniform", seed].summary["initial_weights"]]
        digests.append(shown["scored"])
    assert models["uniform", 0].summary["row_order"] != models["uniform", 1].summary["row_order"]

    held_out = PackedRows(resolve(store, "corpus", "tiny"), row_length=64, split="held_out")
    for (arm, seed), model in models.items():
        scores = score_held_out(
            model, resolve(store, "corpus", "tiny"), sequence_length=64, max_rows=len(held_out), batch_rows=8
        )
        for mask, found in scores.masks.items():
            assert digests[seed][mask] == [document_scores(found).scored]
            reported = report["arms"][arm]["parts"][mask]
            assert reported["top1"][seed] == pytest.approx(found.accuracy(1))
            assert reported["loss"][seed] == pytest.approx(found.loss, rel=1e-5)
    difference = report["arms"]["uniform"]["against_baseline"]["uniform"]["loss"]["seeds"]["1"]
    losses = {arm: report["arms"][arm]["parts"]["uniform"]["loss"][1] for arm in ("uniform", "token-aware")}
    assert difference["value"] == pytest.approx(losses["uniform"] - losses["token-aware"])

    broken = [trial for trial in report["trials"] if trial["error"]]
    assert [trial["point"]["arm"] for trial in broken] == ["broken", "broken"]
    page = published.file("report.md").read_text()
    assert "had the same initial weights" in page and "Failed and left out: broken (seed 0), broken (seed 1)." in page
    curves = json.loads(published.file("curves.json").read_text())
    assert [point["step"] for point in curves[report["best"]["model"]]["points"]] == [3, 7, 11]
    assert published.file("curves.png").stat().st_size > 10_000


def _killed(*arguments: object, **options: object) -> None:
    raise KeyboardInterrupt


LOG_UNIFORM = {"optimizer.learning_rate": {"type": "log_uniform", "low": 1e-4, "high": 1e-2}}


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_search_started_again_proposes_its_kept_points_and_then_new_ones(sampler: str, tmp_path: Path) -> None:
    values = {"kind": "sweep", "name": "s", "base": "b", "corpus": "c", "space": LOG_UNIFORM, "num_trials": 20}
    recipe = build_recipe(SweepRecipe, {**values, "sampler": sampler}, origin="test")
    proposals = Proposals(f"file://{tmp_path}", "s-1")

    def proposed(count: int, *, sign: int) -> list[float]:
        """Ask as Tune does, 12 of them beyond the points that TPE draws blindly; ``sign`` turns what it learns."""
        search = searcher(recipe, proposals, metric="loss")
        search.set_search_properties("loss", "min", {"optimizer.learning_rate": tune.loguniform(1e-4, 1e-2)})
        rates = []
        for n in range(count):
            rates.append(search.suggest(str(n))["optimizer.learning_rate"])
            search.on_trial_complete(str(n), {"loss": sign * rates[-1]})
        return rates

    first = proposed(14, sign=1)
    assert [point["optimizer.learning_rate"] for point in proposals.read()] == first
    again = proposed(16, sign=-1)
    assert again[:14] == first and len(set(again)) == 16
    assert (
        proposed(4, sign=1) == first[:4] and len(proposals.read()) == 16
    )  # killed again while it repeats: none is lost
    proposals.clear()
    assert proposals.read() == []


def test_a_killed_search_of_tpe_repeats_its_points_and_reuses_their_models(
    store: Store, base: str, repository: Path, tmp_path: Path
) -> None:
    values = {
        "kind": "sweep",
        "name": "search",
        "base": base,
        "corpus": "tiny",
        "space": LOG_UNIFORM,
        "sampler": "tpe",
        "num_trials": 3,
    }
    recipe_path = tmp_path / "search.yaml"
    recipe_path.write_text(yaml.safe_dump(values))

    def finished() -> dict[str, str]:
        found = (model.manifest for model in list_artifacts(store, "model"))
        return {model.id: model.created_at for model in found if model.id.startswith("search-trial-")}

    _kill_once(lambda: bool(finished()), recipe_path, store, repository)
    before = finished()
    assert len(before) == 1
    plan = sweep_plan(build_recipe(SweepRecipe, values, origin="test"), store)
    proposals = Proposals(store.uri, plan.id)
    kept = proposals.read()
    assert 1 <= len(kept) <= 2 and all(1e-4 <= point["optimizer.learning_rate"] <= 1e-2 for point in kept)
    # A mark on what is kept: the second start asks for the points that it finds, and not for what a seed gives again.
    marked = [kept[0], {"optimizer.learning_rate": 2.5e-4}]
    proposals.write(marked)
    report = sweep(plan).summary
    by_rate = {trial["point"]["optimizer.learning_rate"]: trial for trial in report["trials"]}
    assert len(by_rate) == 3 and {point["optimizer.learning_rate"] for point in marked} <= by_rate.keys()
    after = finished()
    assert before.items() < after.items() and {trial["model"] for trial in report["trials"]} == set(after)
    assert by_rate[kept[0]["optimizer.learning_rate"]]["model"] in before
    assert proposals.read() == []


def _kill_once(reached: Callable[[], bool], recipe_path: Path, store: Store, repository: Path) -> None:
    """Run the job in a process of its own, and kill it with all it started as soon as ``reached`` holds."""
    command = [sys.executable, "jobs/sweep.py", str(recipe_path), "--root", store.uri]
    log_path = recipe_path.with_suffix(".log")
    with log_path.open("wb") as log:
        job = subprocess.Popen(command, cwd=repository, env=os.environ, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + 300
        while not reached():
            assert job.poll() is None and time.monotonic() < deadline, log_path.read_text()[-4000:]
            time.sleep(0.05)
    finally:
        kill_with_all_it_started(job)


def test_halving_stops_the_trial_that_lags_and_leaves_no_worker_behind(
    store: Store, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = {"optimizer.learning_rate": {"type": "grid", "values": [3e-3, 1e-6]}}
    values = {
        "kind": "sweep",
        "name": "halving",
        "base": base,
        "corpus": "tiny",
        "space": space,
        "overrides": ["held_out_loss.every_steps=20", "training.num_steps=400", "checkpoint.every_steps=null"],
        "halving": {"grace_steps": 20, "reduction_factor": 2},
        "seed": 1,  # the better one runs first: the first trial at a rung is never stopped there
    }
    plan = make_plan(build_recipe(SweepRecipe, values, origin="test"), store)
    # Killed after its trials, before the report.
    monkeypatch.setattr(run, "build_report", _killed)
    with pytest.raises(KeyboardInterrupt):
        sweep(plan)
    monkeypatch.undo()
    _assert_all_is_free()
    left = [item.key for prefix in ("work/model", "checkpoint") for item in store.walk(prefix)]
    assert not [key for key in left if "halving-trial" in key]

    # The stopped trial is decided and the other is found: a mark on the record is there afterwards, nothing was trained again.
    board = Board(store, plan.id)
    (record,) = [
        item.key for item in store.walk("work/sweep") if b'"stopped_after": null' not in store.read_bytes(item.key)
    ]
    model = Path(record).stem
    reached = board.read(model)
    assert reached and reached.lost_rung == 20 and reached.stopped_after and 20 <= reached.stopped_after < 399
    board.write(model, replace(reached, stopped_after=399))
    trained = [artifact.manifest.created_at for artifact in list_artifacts(store, "model")]
    published = sweep(plan)
    assert trained == [artifact.manifest.created_at for artifact in list_artifacts(store, "model")]

    report = published.summary
    finished, stopped = report["trials"]
    assert report["best"] == finished and finished["stopped_after"] is None
    assert finished["point"]["optimizer.learning_rate"] == 3e-3 and finished["num_steps"] == 400
    assert stopped["point"]["optimizer.learning_rate"] == 1e-6 and stopped["error"] is None
    assert stopped["model"] == model and stopped["stopped_at_rung"] == 20 and stopped["stopped_after"] == 399
    assert stopped["value"] == reached.last_value("uniform_loss") > finished["value"]
    page = published.file("report.md").read_text()
    assert "| 399 | – | – |" in page and "stopped: lagged at rung 20" in page and "1 of 2 trials lagged" in page
    curves = json.loads(published.file("curves.json").read_text())
    assert (
        curves[model]["points"] == curve_to_json(reached.points)
        and curves[finished["model"]]["points"][-1]["step"] == 399
    )
    assert list(store.walk("work/sweep")) == []


def _assert_all_is_free() -> None:
    """Wait until every CPU is free, and no placement group is left: Ray frees what an ended actor held a moment later."""
    deadline = time.monotonic() + 20
    while ray.available_resources().get("CPU") != ray.cluster_resources()["CPU"]:
        assert time.monotonic() < deadline, ray.available_resources()
        time.sleep(0.2)
    groups = ray.util.placement_group_table().values()
    assert {group["state"] for group in groups} <= {"REMOVED"}, groups
