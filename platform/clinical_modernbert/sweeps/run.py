"""Run a sweep on Ray Tune: a search with Optuna's samplers, or the arms of an ablation, each once for every seed.

Every trial is a model of the store. A trial's driver requests no CPU, because its workers do: two drivers with a CPU each would
wait for each other's workers forever. A sweep that is started again continues: finished trials are found by their fingerprint,
stopped ones on the sweep's board (``board``), and a sampler's points are kept (``proposals``). Failed trials stay in the report
with their error.
"""

import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from clinical_modernbert.artifacts import Artifact, Plan, Store, open_store, resolve
from clinical_modernbert.errors import PASSING, ModelError, RecipeError, UserError
from clinical_modernbert.progress import watch
from clinical_modernbert.recipe import ContrastRecipe, SweepRecipe
from clinical_modernbert.recipe.sweep import GridDimension, HalvingSection
from clinical_modernbert.runtime import cluster_room, side_by_side, start_ray, user_error
from clinical_modernbert.sweeps.board import Board
from clinical_modernbert.sweeps.halving import held_out_value, train_while_it_keeps_up
from clinical_modernbert.sweeps.kinds import PRETRAINING, TrialRecipe
from clinical_modernbert.sweeps.pair_scores import pairs_to_score, score_pairs
from clinical_modernbert.sweeps.proposals import Proposals, searcher
from clinical_modernbert.sweeps.report import Scores, build_report, write_report
from clinical_modernbert.sweeps.results import Trial
from clinical_modernbert.sweeps.results_json import report_to_json
from clinical_modernbert.sweeps.scores import GroupScores, score_masked_tokens
from clinical_modernbert.sweeps.trials import (
    Point,
    SweepBase,
    known_points,
    sweep_base,
    trial_overrides,
    trial_plan,
    trial_recipe,
)
from clinical_modernbert.training.launch import launch

# Tune refuses an empty request. Every driver needs memory anyway, and no two trials wait for each other's memory.
_DRIVER_BYTES = 100_000_000
_COST = "cost"


def sweep(plan: Plan[SweepRecipe]) -> Artifact:
    """Run every trial of the plan's sweep, compare the results, and publish the report with its plots."""
    recipe = plan.recipe
    (data,) = plan.artifacts.values()
    base = sweep_base(recipe, data_id=data.manifest.id)
    score = _scorer(plan, base, data) if recipe.arms else None  # before the trials: it may find nothing to score
    start_ray()
    with tempfile.TemporaryDirectory(prefix="clinical-modernbert-tune-") as folder:
        trials = _run_trials(plan, base, Path(folder))
    models = [trial.finished for trial in trials if trial.finished]
    if not models:
        errors = [trial.error for trial in trials if trial.error]
        first = f", the first with: {errors[0]}" if errors else ""
        raise ModelError(f"no trial of {plan.id} ran to its end: {len(errors)} of {len(trials)} failed{first}")
    scores = _scores(score, models) if score else {}
    report = build_report(recipe, base, trials, scores, store=plan.store)
    with tempfile.TemporaryDirectory() as name:
        write_report(Path(name), recipe, report, store=plan.store, sweep_id=plan.id)
        _write_scores(Path(name) / "scores", scores)
        published = plan.publish_folder(Path(name), summary=report_to_json(report))
    Board(plan.store, plan.id).clear()
    Proposals(plan.store.uri, plan.id).clear()
    return published


def _run_trials(plan: Plan[SweepRecipe], base: SweepBase, folder: Path) -> list[Trial]:
    from ray import tune

    recipe = plan.recipe
    num_at_once = fitting(recipe.scaling.max_concurrent_trials, example_trials(recipe, base), cluster_room())
    search = _ablation(recipe, num_at_once) if recipe.arms else _search(plan, num_at_once)
    trial = tune.with_parameters(
        do_trial, base=base, store_uri=plan.store.uri, sweep_id=plan.id, halving=recipe.halving
    )
    tuner = tune.Tuner(
        tune.with_resources(trial, resources={"memory": _DRIVER_BYTES}),
        param_space=search.space,
        tune_config=tune.TuneConfig(
            metric=_COST,
            mode="min",
            num_samples=search.num_samples,
            max_concurrent_trials=search.max_concurrent_trials,
            search_alg=search.algorithm,
        ),
        run_config=tune.RunConfig(name=plan.id, storage_path=str(folder), verbose=0),
    )
    points = known_points(recipe)
    with watch(
        f"sweep {plan.id}",
        total=search.num_trials,
        unit="trial",
        done=lambda: sum(_is_trained(base, point, plan.store) for point in points),
    ):
        results = tuner.fit()
    ended_by = [cause for result in results if isinstance(cause := user_error(result.error), PASSING)]
    if ended_by:
        raise ended_by[0]
    return [_outcome(base, result, Board(plan.store, plan.id)) for result in results]


def _is_trained(base: SweepBase, point: Point, store: Store) -> bool:
    try:
        return trial_plan(base, point, store).existing() is not None
    except UserError:  # the trial itself reports it
        return False


def fitting(limit: int, trials: Iterable[TrialRecipe], resources: Mapping[str, float]) -> int:
    """Return how many of at most ``limit`` trials run side by side: as many of the widest as have room, at least one.

    One more would wait for its workers until ``scaling.start_timeout_s`` fails it.
    """
    needs = [
        {"CPU": trial.scaling.num_workers * trial.scaling.cpus_per_worker}
        | ({"GPU": float(trial.scaling.num_workers)} if trial.scaling.use_gpu else {})
        for trial in trials
    ]
    return side_by_side(limit, needs, resources, setting="max_concurrent_trials")


def example_trials(recipe: SweepRecipe, base: SweepBase) -> list[TrialRecipe]:
    """Return the recipes of the known trials, or one of a search whose sampler proposes later."""
    first = {p: d.values[0] if isinstance(d, GridDimension) else d.low for p, d in recipe.space.items()}
    examples = []
    for point in known_points(recipe) or [first]:
        try:
            examples.append(trial_recipe(base, point))
        except RecipeError:
            continue  # fails as a trial, with its error in the report
    return examples


@dataclass(frozen=True, slots=True)
class _TuneSearch:
    """What Tune visits."""

    space: dict[str, object]
    """Tune's domain or grid of each value."""
    num_trials: int
    num_samples: int = 1
    """How many points Tune draws from the space; a grid is drawn once."""
    max_concurrent_trials: int | None = None
    algorithm: object = None
    """What proposes points; None visits the grids of the space."""


def _ablation(recipe: SweepRecipe, num_at_once: int) -> _TuneSearch:
    """Return each arm with each seed."""
    from ray import tune

    points = known_points(recipe)
    return _TuneSearch({"point": tune.grid_search(points)}, len(points), max_concurrent_trials=num_at_once)


def _search(plan: Plan[SweepRecipe], num_at_once: int) -> _TuneSearch:
    """Return a search whose points Optuna proposes."""
    import optuna
    from ray import tune
    from ray.tune.search import ConcurrencyLimiter
    from ray.tune.search.optuna import OptunaSearch

    recipe = plan.recipe
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    choices = {p: list(d.values) for p, d in recipe.space.items() if isinstance(d, GridDimension)}
    space: dict[str, object] = {path: tune.choice(values) for path, values in choices.items()}
    for path, dimension in recipe.space.items():
        if not isinstance(dimension, GridDimension):
            space[path] = tune.loguniform(dimension.low, dimension.high)
    num_trials = recipe.num_trials or len(known_points(recipe))
    if recipe.sampler == "grid":  # visits the same points whatever it visited before
        algorithm = OptunaSearch(
            metric=_COST, mode="min", sampler=optuna.samplers.GridSampler(choices, seed=recipe.seed)
        )
    else:
        algorithm = searcher(recipe, Proposals(plan.store.uri, plan.id), metric=_COST)
    limited = ConcurrencyLimiter(algorithm, max_concurrent=num_at_once)
    return _TuneSearch(space, num_trials, num_samples=num_trials, algorithm=limited)


def do_trial(
    config: Mapping[str, Any], *, base: SweepBase, store_uri: str, sweep_id: str, halving: HalvingSection | None
) -> None:
    """Train one trial in a driver process of Tune.

    A user's error is the trial's result, not a failure that Tune retries; one of ``PASSING`` is not.
    """
    from ray import tune

    model_id = None
    try:
        plan = trial_plan(base, config.get("point", config), open_store(store_uri))
        model_id = plan.id
        if halving:
            value = train_while_it_keeps_up(plan, halving, Board(plan.store, sweep_id), base.kind)
        else:
            value = held_out_value(plan.existing() or launch(plan), base.kind)
    except PASSING:
        raise
    except UserError as error:
        tune.report({_COST: float("inf"), "value": None, "model": model_id, "error": str(error)})
        return
    tune.report({_COST: base.kind.cost(value), "value": value, "model": model_id})


def _outcome(base: SweepBase, result: Any, board: Board) -> Trial:
    """Return how a trial ended, from Tune's result and the board."""
    point = result.config.get("point", result.config)
    metrics = result.metrics or {}
    model = metrics.get("model")
    error = metrics.get("error") or (str(result.error).strip().splitlines()[-1] if result.error else None)
    reached = board.read(model) if model else None
    return Trial(
        point=point,
        recipe=base.base,
        overrides=trial_overrides(base, point),
        model=model,
        value=None if error else metrics.get("value"),
        stopped_at_rung=reached.lost_rung if reached else None,
        stopped_after=reached.stopped_after if reached else None,
        error=error,
    )


def _scorer(plan: Plan[SweepRecipe], base: SweepBase, data: Artifact) -> Callable[[str], dict[str, GroupScores]]:
    """Return what scores the model of an id in a Ray task: all models of the sweep on the same tokens or pairs."""
    section = plan.recipe.comparison
    if base.kind is PRETRAINING:
        return partial(score_masked_tokens, store_uri=plan.store.uri, corpus_id=data.manifest.id, section=section)
    recipes = example_trials(plan.recipe, base)
    sets = {trial.pairs for trial in recipes if isinstance(trial, ContrastRecipe)}
    trained_on = [resolve(plan.store, "pairs", reference) for reference in sorted(sets)]
    pairs = pairs_to_score(data, trained_on, max_pairs=section.max_pairs)
    return partial(score_pairs, store_uri=plan.store.uri, pairs=pairs)


def _scores(score: Callable[[str], dict[str, GroupScores]], models: list[str]) -> Scores:
    """Return each model's scores by mask or source, one Ray task a model."""
    import ray

    task = ray.remote(num_cpus=1)(_apply)
    pending = {model: task.remote(score, model) for model in models}
    return {model: ray.get(reference) for model, reference in pending.items()}


def _apply(score: Callable[[str], dict[str, GroupScores]], model: str) -> dict[str, GroupScores]:
    return score(model)


def _write_scores(folder: Path, scores: Scores) -> None:
    """Write one npz file a model with its sums by group, for analyses that the report does not make."""
    for model, parts in scores.items():
        folder.mkdir(exist_ok=True)
        arrays = {f"{part}_{key}": array for part, found in parts.items() for key, array in found.arrays().items()}
        np.savez_compressed(folder / f"{model}.npz", allow_pickle=False, **arrays)
