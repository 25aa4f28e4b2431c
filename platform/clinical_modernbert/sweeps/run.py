"""Run a sweep on Ray Tune with Optuna's samplers; every trial is a pretraining artifact of its own.

A trial's driver asks for no CPU: its workers do, and two drivers that each held a CPU would wait for each other's workers
for ever. A killed sweep goes on where it was, because finished trials are found by their fingerprint. Failed trials are kept
with their error.
"""

import json
import logging
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from clinical_modernbert.artifacts import Artifact, Plan, open_store, upload
from clinical_modernbert.errors import ModelError, UserError
from clinical_modernbert.progress import watch
from clinical_modernbert.recipe import SweepRecipe
from clinical_modernbert.recipe.sweep import GridDimension
from clinical_modernbert.runtime import start_ray
from clinical_modernbert.sweeps.trials import SweepBase, grid_points, sweep_base, trial_overrides, trial_plan
from clinical_modernbert.training.launch import pretrain

METRIC = "held_out_loss"
# Tune refuses a request for nothing; memory is what a driver has to have, and it is never what two trials wait for.
_DRIVER_BYTES = 100_000_000

_logger = logging.getLogger(__name__)


def sweep(plan: Plan) -> Artifact:
    """Run every trial of the plan's sweep and publish ``report.json``, best trial first."""
    recipe = plan.recipe
    assert isinstance(recipe, SweepRecipe)
    base = sweep_base(recipe, corpus_id=plan.artifacts["corpus"].manifest.id)
    start_ray()
    from ray import tune
    from ray.tune.search import ConcurrencyLimiter

    space, searcher, num_samples = _search(recipe)
    trainable = tune.with_resources(
        tune.with_parameters(_trial, base=asdict(base), store_uri=plan.store.uri), resources={"memory": _DRIVER_BYTES}
    )
    tuner = tune.Tuner(
        trainable,
        param_space=space,
        tune_config=tune.TuneConfig(
            metric=METRIC,
            mode="min",
            num_samples=num_samples,
            search_alg=ConcurrencyLimiter(searcher, max_concurrent=recipe.scaling.max_concurrent_trials),
        ),
        run_config=tune.RunConfig(
            name=plan.id, storage_path=tempfile.mkdtemp(prefix="clinical-modernbert-tune-"), verbose=0
        ),
    )
    with watch(f"sweep {plan.id}", total=num_samples, unit="trial", done=lambda: _num_finished(recipe, base, plan)):
        results = tuner.fit()
    trials = [_report(base, result) for result in results]
    finished = [trial for trial in trials if trial["error"] is None]
    if not finished:
        raise ModelError(f"all {len(trials)} trials of {plan.id} failed, the first with: {trials[0]['error']}")
    finished.sort(key=lambda trial: trial[METRIC])
    failed = [trial for trial in trials if trial["error"] is not None]
    report = {"metric": METRIC, "base": recipe.base, "best": finished[0], "trials": finished + failed}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.json"
        path.write_text(json.dumps(report, indent=1), encoding="utf-8")
        files = [upload(plan.store, plan.prefix, "report.json", path)]
    return plan.publish(files, summary=report)


def _num_finished(recipe: SweepRecipe, base: SweepBase, plan: Plan) -> int:
    """Return how many points of a grid have their model; a continuous space shows no progress before its end."""
    points = grid_points(recipe) if recipe.sampler == "grid" else []
    return sum(trial_plan(base, point, plan.store).existing() is not None for point in points)


def _search(recipe: SweepRecipe) -> tuple[dict[str, Any], Any, int]:
    """Return (Tune's space, Optuna's searcher, number of trials)."""
    import optuna
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    choices = {p: list(d.values) for p, d in recipe.space.items() if isinstance(d, GridDimension)}
    space: dict[str, Any] = {path: tune.choice(values) for path, values in choices.items()}
    for path, dimension in recipe.space.items():
        if not isinstance(dimension, GridDimension):
            space[path] = tune.loguniform(dimension.low, dimension.high)
    samplers = {
        "grid": lambda: optuna.samplers.GridSampler(choices, seed=recipe.seed),
        "tpe": lambda: optuna.samplers.TPESampler(seed=recipe.seed),
        "random": lambda: optuna.samplers.RandomSampler(seed=recipe.seed),
    }
    num_samples = recipe.num_trials if recipe.sampler != "grid" else len(grid_points(recipe))
    assert num_samples is not None  # the recipe's own check
    return space, OptunaSearch(metric=METRIC, mode="min", sampler=samplers[recipe.sampler]()), num_samples


def _trial(config: dict[str, Any], *, base: dict[str, Any], store_uri: str) -> None:
    from ray import tune

    plan = trial_plan(SweepBase(**base), config, open_store(store_uri))
    try:
        artifact = plan.existing() or pretrain(plan)
    except UserError as error:
        tune.report({METRIC: float("inf"), "model": plan.id, "error": str(error)})
        return
    held_out = artifact.summary["held_out"]
    tune.report({METRIC: held_out["uniform_loss"], "model": plan.id, "error": "", "held_out": held_out})


def _report(base: SweepBase, result: Any) -> dict[str, Any]:
    metrics = result.metrics or {}
    error = metrics.get("error") or (str(result.error).strip().splitlines()[-1] if result.error else None)
    return {
        "point": result.config,
        "recipe": base.base,
        "overrides": trial_overrides(base, result.config),
        "model": metrics.get("model"),
        "held_out": metrics.get("held_out"),
        METRIC: metrics.get(METRIC) if not error else None,
        "error": error,
    }
