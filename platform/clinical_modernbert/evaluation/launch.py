"""Run an evaluation's runs on the cluster, many side by side: fine-tuning on Ray Train, frozen encoders as Ray tasks.

Each run has one worker, not a share of a group: many runs of a few minutes keep all GPUs busy without exchanging gradients. If
there are many more runs than workers, a worker does several in turn, because starting one takes as long as a small run. A lost
worker is replaced and restarts only its current run.
"""

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from pydantic import Field

from clinical_modernbert.artifacts import Plan, open_store
from clinical_modernbert.errors import PASSING, GroupError, UserError
from clinical_modernbert.evaluation.runs import run, run_plan
from clinical_modernbert.recipe import FineTuneRecipe, ProbeRecipe, RunRecipe
from clinical_modernbert.recipe.evaluate import EvaluateScaling
from clinical_modernbert.recipe.section import Section
from clinical_modernbert.runtime import cluster_room, side_by_side, start_ray, user_error
from clinical_modernbert.training.group import GroupScaling, run_group

T = TypeVar("T")
Errors = dict[str, str]
"""Id of a failed run -> why."""

_logger = logging.getLogger(__name__)


class RunShare(Section):
    """What one worker does: it travels to the worker as JSON."""

    store_uri: str
    recipes: dict[str, Annotated[FineTuneRecipe | ProbeRecipe, Field(discriminator="kind")]]
    """Run id -> its recipe; all of one mode."""


def launch(plans: Sequence[Plan[RunRecipe]]) -> Errors:
    """Do all runs, and return why some have no figures: errors of their data or encoder. No run stops another.

    At the end an error of ``PASSING`` is raised, or ``GroupError`` if a worker was lost or never started: both say nothing about
    a run, which can be done again.
    """
    if not plans:
        return {}
    start_ray()
    import ray

    scaling = plans[0].recipe.scaling
    num = side_by_side(scaling.num_runs, [_needs(scaling)], cluster_room(), setting="num_runs")
    by_mode = ([plan for plan in plans if plan.recipe.mode == mode] for mode in ("fine_tuned", "frozen"))
    shares = [share for plans_of_mode in by_mode for share in shared_out(plans_of_mode, num)]
    pool = ThreadPoolExecutor(max_workers=num, thread_name_prefix="evaluation-run")
    try:
        outcomes = list(pool.map(_launch, shares))
    except BaseException:
        # After Ctrl-C start no new runs; those under way end with the connection that their threads wait on.
        pool.shutdown(wait=False, cancel_futures=True)
        ray.shutdown()
        raise
    pool.shutdown()
    failed = {run_id: error for outcome in outcomes for run_id, error in outcome.failed.items()}
    lost = {run_id: error for outcome in outcomes for run_id, error in outcome.lost.items()}
    for run_id, error in (failed | lost).items():
        _logger.error("%s: %s", run_id, error)
    for outcome in outcomes:
        if outcome.ended_by:
            raise outcome.ended_by
    if lost:
        first = next(iter(lost))
        others = f" (and {len(lost) - 1} more runs, named above)" if len(lost) > 1 else ""
        raise GroupError(f"run {first} was not done: {lost[first]}{others}")
    return failed


@dataclass(frozen=True, slots=True)
class _Outcome:
    """How the runs of one share ended that are not in the store."""

    failed: Errors = field(default_factory=dict)
    lost: Errors = field(default_factory=dict)
    """Their worker never started, or was lost too often."""
    ended_by: UserError | None = None
    """An error of ``PASSING``: it ended the runs that are in none of these."""


def shared_out(plans: Sequence[Plan[RunRecipe]], num_workers: int) -> list[Sequence[Plan[RunRecipe]]]:
    """Return the runs in shares of neighbours, one worker a share; four shares a worker, so that all workers end alike."""
    size = max(len(plans) // (4 * num_workers), 1)
    return [plans[start : start + size] for start in range(0, len(plans), size)]


def _launch(plans: Sequence[Plan[RunRecipe]]) -> _Outcome:
    """Do runs of one mode on a worker of the cluster."""
    began = time.perf_counter()
    mode = plans[0].recipe.mode
    share = RunShare(store_uri=plans[0].store.uri, recipes={plan.id: plan.recipe for plan in plans})
    try:
        outcome = _Outcome(failed=(_as_task if mode == "frozen" else _on_train)(share, plans[0].recipe.scaling))
    except PASSING as failure:
        return _Outcome(ended_by=failure)
    except _NoWorkerError as failure:
        # Runs that the worker finished before it was given up are in the store.
        outcome = _Outcome(lost={plan.id: str(failure) for plan in plans if plan.existing() is None})
    names = ", ".join(plan.id for plan in plans if plan.id not in outcome.failed | outcome.lost)
    if names:
        # The worker's own log stays on its node.
        _logger.info("%s, %s: %.0f s", mode.replace("_", "-"), names, time.perf_counter() - began)
    return outcome


class _NoWorkerError(Exception):
    """The worker never started, or was lost more often than ``scaling.max_failures`` allows."""


def _needs(scaling: EvaluateScaling) -> dict[str, float]:
    return {"CPU": float(scaling.num_cpus), "GPU": scaling.gpus_per_run}


def on_worker(function: Callable[..., T], *arguments: Any, scaling: EvaluateScaling) -> T:
    """Return what ``function`` returns on a worker of the cluster with a run's resources; its ``UserError`` is raised here."""
    start_ray()
    import ray
    from ray.exceptions import RayTaskError

    room = cluster_room()
    for name, need in _needs(scaling).items():
        if need > room[name]:
            _logger.warning("waiting for a worker with %g %ss: the cluster has %g", need, name, room[name])
    task = ray.remote(num_cpus=scaling.num_cpus, num_gpus=scaling.gpus_per_run, max_retries=scaling.max_failures)
    try:
        result: T = ray.get(task(function).remote(*arguments))
    except RayTaskError as failure:
        raise (user_error(failure) or failure) from None
    return result


def _as_task(share: RunShare, scaling: EvaluateScaling) -> Errors:
    from ray.exceptions import RayError

    try:
        return on_worker(do_runs, share.model_dump(mode="json"), scaling=scaling)
    except RayError as failure:
        raise _NoWorkerError(str(failure).strip().splitlines()[-1]) from None


def _on_train(share: RunShare, scaling: EvaluateScaling) -> Errors:
    group = GroupScaling(
        num_workers=1,
        cpus_per_worker=scaling.num_cpus,
        gpus_per_worker=scaling.gpus_per_run,
        max_failures=scaling.max_failures,
        start_timeout_s=scaling.start_timeout_s,
        resource_settings="scaling.num_cpus or scaling.gpus_per_run",
    )
    try:
        errors: Errors = run_group(do_runs, share.model_dump(mode="json"), group, name=next(iter(share.recipes)))
    except GroupError as failure:
        raise _NoWorkerError(str(failure)) from None
    return errors


def do_runs(config: dict[str, Any]) -> Errors:
    """Do the runs that are not yet done.

    User errors but those of ``PASSING`` are returned: raising would make Ray retry every run.
    """
    share = RunShare.model_validate(config)
    errors: Errors = {}
    store = open_store(share.store_uri)
    for run_id, recipe in share.recipes.items():
        try:
            plan = run_plan(recipe, store)
            if plan.existing() is None:
                run(plan)
        except PASSING:
            raise
        except UserError as error:
            errors[run_id] = str(error)
    return errors
