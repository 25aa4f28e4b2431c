"""Run a sweep on Ray Tune: a search with Optuna's samplers, or the arms of an ablation, each once for every seed.

Every trial is a pretraining artifact of its own. A trial's driver asks for no CPU: its workers do, and two drivers that each
held a CPU would wait for each other's workers for ever. A killed sweep goes on where it was, because finished trials are found
by their fingerprint, stopped ones on the board of the sweep (see ``halving``), and a sampler's points are kept (see
``proposals``). Failed trials are kept with their error.
"""

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from clinical_modernbert.artifacts import Artifact, Plan, open_store, upload_folder
from clinical_modernbert.errors import ModelError, RecipeError, UserError
from clinical_modernbert.progress import watch
from clinical_modernbert.recipe import PretrainRecipe, SweepRecipe
from clinical_modernbert.recipe.sweep import GridDimension, HalvingSection
from clinical_modernbert.runtime import cluster_room, side_by_side, start_ray
from clinical_modernbert.sweeps.halving import Board, train_while_it_keeps_up
from clinical_modernbert.sweeps.proposals import Proposals, searcher
from clinical_modernbert.sweeps.report import METRIC, build_report, write_report
from clinical_modernbert.sweeps.scores import DocumentScores, score_model
from clinical_modernbert.sweeps.trials import (
    SweepBase,
    known_points,
    sweep_base,
    trial_overrides,
    trial_plan,
    trial_recipe,
)
from clinical_modernbert.training.launch import pretrain

# Tune refuses a request for nothing; memory is what a driver has to have, and it is never what two trials wait for.
_DRIVER_BYTES = 100_000_000


def sweep(plan: Plan[SweepRecipe]) -> Artifact:
    """Run every trial of the plan's sweep, compare what came out, and publish the report with its plots."""
    recipe = plan.recipe
    corpus_id = plan.artifacts["corpus"].manifest.id
    base = sweep_base(recipe, corpus_id=corpus_id)
    start_ray()
    with tempfile.TemporaryDirectory(prefix="clinical-modernbert-tune-") as folder:
        trials = _run_trials(plan, recipe, base, Path(folder))
    finished = [trial for trial in trials if trial["model"] and not trial["error"] and not trial["stopped_after"]]
    if not finished:
        errors = [trial["error"] for trial in trials if trial["error"]]
        first = f", the first with: {errors[0]}" if errors else ""
        raise ModelError(f"no trial of {plan.id} ran to its end: {len(errors)} of {len(trials)} failed{first}")
    scores = _score(plan, recipe, finished, corpus_id=corpus_id) if recipe.arms else {}
    report = build_report(recipe, base, trials, scores, store=plan.store)
    with tempfile.TemporaryDirectory() as name:
        folder_path = Path(name)
        write_report(folder_path, recipe, report, store=plan.store, sweep_id=plan.id)
        for model, masks in scores.items():
            (folder_path / "scores").mkdir(exist_ok=True)
            arrays = {f"{kind}_{key}": array for kind, found in masks.items() for key, array in found.arrays().items()}
            np.savez_compressed(folder_path / "scores" / f"{model}.npz", allow_pickle=False, **arrays)
        files = upload_folder(plan.store, plan.prefix, folder_path)
    published = plan.publish(files, summary=report)
    Board(plan.store, plan.id).clear()
    Proposals(plan.store.uri, plan.id).clear()
    return published


def _run_trials(plan: Plan[SweepRecipe], recipe: SweepRecipe, base: SweepBase, folder: Path) -> list[dict[str, Any]]:
    from ray import tune

    num_at_once = fitting(recipe.scaling.max_concurrent_trials, _examples(recipe, base), cluster_room())
    space, options, num_trials = _ablation(recipe, num_at_once) if recipe.arms else _search(plan, recipe, num_at_once)
    halving = recipe.halving.model_dump() if recipe.halving else None
    trial = tune.with_parameters(_trial, base=asdict(base), store_uri=plan.store.uri, sweep_id=plan.id, halving=halving)
    trainable = tune.with_resources(trial, resources={"memory": _DRIVER_BYTES})
    tuner = tune.Tuner(
        trainable,
        param_space=space,
        tune_config=tune.TuneConfig(metric=METRIC, mode="min", **options),
        run_config=tune.RunConfig(name=plan.id, storage_path=str(folder), verbose=0),
    )
    points = known_points(recipe)
    with watch(
        f"sweep {plan.id}",
        total=num_trials,
        unit="trial",
        done=lambda: sum(trial_plan(base, point, plan.store).existing() is not None for point in points),
    ):
        results = tuner.fit()
    return [_outcome(base, result, Board(plan.store, plan.id)) for result in results]


def fitting(asked: int, trials: Iterable[PretrainRecipe], resources: Mapping[str, float]) -> int:
    """Return how many of the ``asked`` trials run side by side: as many of the widest as the cluster has room for, at least one.

    One more would wait for its workers until ``scaling.start_timeout_s`` fails it.
    """
    needs = [
        {"CPU": trial.scaling.num_workers * trial.scaling.cpus_per_worker}
        | ({"GPU": float(trial.scaling.num_workers)} if trial.scaling.use_gpu else {})
        for trial in trials
    ]
    return side_by_side(asked, needs, resources, setting="max_concurrent_trials")


def _examples(recipe: SweepRecipe, base: SweepBase) -> list[PretrainRecipe]:
    """Return the recipes of the known trials, or one of a search that has yet to propose."""
    first = {p: d.values[0] if isinstance(d, GridDimension) else d.low for p, d in recipe.space.items()}
    examples = []
    for point in known_points(recipe) or [first]:
        try:
            examples.append(trial_recipe(base, point))
        except RecipeError:
            continue  # fails as a trial, with its error in the report
    return examples


def _ablation(recipe: SweepRecipe, num_at_once: int) -> tuple[dict[str, Any], dict[str, Any], int]:
    """Return (Tune's space, options of Tune, number of trials): each arm with each seed."""
    from ray import tune

    points = known_points(recipe)
    options = {"max_concurrent_trials": num_at_once}
    return {"point": tune.grid_search(points)}, options, len(points)


def _search(
    plan: Plan[SweepRecipe], recipe: SweepRecipe, num_at_once: int
) -> tuple[dict[str, Any], dict[str, Any], int]:
    """Return the same for a search: Optuna proposes."""
    import optuna
    from ray import tune
    from ray.tune.search import ConcurrencyLimiter
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    choices = {p: list(d.values) for p, d in recipe.space.items() if isinstance(d, GridDimension)}
    space: dict[str, Any] = {path: tune.choice(values) for path, values in choices.items()}
    for path, dimension in recipe.space.items():
        if not isinstance(dimension, GridDimension):
            space[path] = tune.loguniform(dimension.low, dimension.high)
    num_trials = recipe.num_trials or len(known_points(recipe))
    if recipe.sampler == "grid":  # visits the same points whatever it visited before
        chosen = OptunaSearch(metric=METRIC, mode="min", sampler=optuna.samplers.GridSampler(choices, seed=recipe.seed))
    else:
        chosen = searcher(recipe, Proposals(plan.store.uri, plan.id), metric=METRIC)
    options: dict[str, Any] = {
        "num_samples": num_trials,
        "search_alg": ConcurrencyLimiter(chosen, max_concurrent=num_at_once),
    }
    return space, options, num_trials


def _trial(
    config: dict[str, Any], *, base: dict[str, Any], store_uri: str, sweep_id: str, halving: dict[str, Any] | None
) -> None:
    from ray import tune

    plan = trial_plan(SweepBase(**base), config.get("point", config), open_store(store_uri))
    try:
        if halving:
            loss = train_while_it_keeps_up(plan, HalvingSection(**halving), Board(plan.store, sweep_id))
        else:
            loss = (plan.existing() or pretrain(plan)).summary["held_out"]["uniform_loss"]
    except UserError as error:
        tune.report({METRIC: float("inf"), "model": plan.id, "error": str(error)})
        return
    tune.report({METRIC: loss, "model": plan.id})


def _outcome(base: SweepBase, result: Any, board: Board) -> dict[str, Any]:
    """Return what became of a trial; ``stopped_after`` are the steps that it got where halving ended it."""
    point = result.config.get("point", result.config)
    metrics = result.metrics or {}
    error = metrics.get("error") or (str(result.error).strip().splitlines()[-1] if result.error else None)
    reached = board.read(metrics["model"]) if metrics.get("model") else None
    return {
        "point": point,
        "recipe": base.base,
        "overrides": trial_overrides(base, point),
        "model": metrics.get("model"),
        METRIC: metrics.get(METRIC) if not error else None,
        "stopped_at_rung": reached.lost_rung if reached else None,
        "stopped_after": reached.stopped_after if reached else None,
        "error": error,
    }


def _score(
    plan: Plan[SweepRecipe], recipe: SweepRecipe, finished: list[dict[str, Any]], *, corpus_id: str
) -> dict[str, dict[str, DocumentScores]]:
    """Return model -> frozen mask -> scores by document, one Ray task a model."""
    import ray

    task = ray.remote(num_cpus=1)(score_model)
    pending = {
        trial["model"]: task.remote(
            plan.store.uri, model_id=trial["model"], corpus_id=corpus_id, section=recipe.comparison
        )
        for trial in finished
    }
    return {model: ray.get(reference) for model, reference in pending.items()}
