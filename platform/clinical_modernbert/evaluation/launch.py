"""Runs of an evaluation on the cluster: fine-tuning on Ray Train, frozen encoders as Ray tasks, many side by side.

A run has a worker to itself rather than a share of a group: many runs of a few minutes keep every GPU of a cluster busy without
any exchange of gradients. A worker does several runs one after the other where there are many more runs than workers, since to
start one takes as long as a small run; one that is lost is replaced, and begins only the run anew that it was at.
"""

import logging
import os
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from clinical_modernbert.artifacts import Plan, open_store
from clinical_modernbert.errors import ModelError, UserError
from clinical_modernbert.evaluation.runs import run, run_plan
from clinical_modernbert.recipe import FineTuneRecipe, ProbeRecipe, RunRecipe
from clinical_modernbert.recipe.evaluate import EvaluateScaling
from clinical_modernbert.runtime import cluster_room, side_by_side, start_ray, user_error
from clinical_modernbert.training.group import root_cause

T = TypeVar("T")

_logger = logging.getLogger(__name__)


def launch(plans: Sequence[Plan[RunRecipe]]) -> None:
    """Do all runs; a run that fails does not stop the others, and is named in the ``ModelError`` raised at the end."""
    if not plans:
        return
    start_ray()
    import ray

    scaling = _scaling(plans[0])
    num = side_by_side(scaling.num_runs, [_needs(scaling)], cluster_room(), setting="num_runs")
    by_kind = ([plan for plan in plans if isinstance(plan.recipe, kind)] for kind in (FineTuneRecipe, ProbeRecipe))
    shares = [share for part in by_kind for share in shared_out(part, num)]
    pool = ThreadPoolExecutor(max_workers=num, thread_name_prefix="evaluation-run")
    try:
        failed = {run_id: error for errors in pool.map(_launch, shares) for run_id, error in errors.items()}
    except BaseException:
        # Ctrl-C: no new runs, and those under way end with the connection that their threads wait on.
        pool.shutdown(wait=False, cancel_futures=True)
        ray.shutdown()
        raise
    pool.shutdown()
    for run_id, error in failed.items():
        _logger.error("%s: %s", run_id, error)
    if failed:
        first = next(iter(failed))
        others = f" (and {len(failed) - 1} more runs, named above)" if len(failed) > 1 else ""
        raise ModelError(f"run {first} failed: {failed[first]}{others}")


def shared_out(plans: Sequence[Plan[RunRecipe]], num_workers: int) -> list[Sequence[Plan[RunRecipe]]]:
    """Return the runs in shares that one worker does: neighbours together, and four shares a worker, so that all end alike."""
    size = max(len(plans) // (4 * num_workers), 1)
    return [plans[start : start + size] for start in range(0, len(plans), size)]


def _launch(share: Sequence[Plan[RunRecipe]]) -> dict[str, str]:
    """Do runs of one kind on a worker of the cluster, and return why which of them failed."""
    config = {"recipes": {p.id: p.recipe.model_dump(mode="json") for p in share}, "store": share[0].store.uri}
    began = time.perf_counter()
    frozen = isinstance(share[0].recipe, ProbeRecipe)
    scaling = _scaling(share[0])
    found = _as_task(config, scaling) if frozen else _on_train(share[0].id, config, scaling)
    # A worker that was given up leaves what it had finished.
    errors = {p.id: found for p in share if p.existing() is None} if isinstance(found, str) else found
    names = ", ".join(p.id for p in share if p.id not in errors)
    if names:
        # What a worker logs stays on its node.
        _logger.info("%s: %s in %.0f s", "probed" if frozen else "fine-tuned", names, time.perf_counter() - began)
    return errors


def _scaling(plan: Plan[RunRecipe]) -> EvaluateScaling:
    return plan.recipe.scaling


def _needs(scaling: EvaluateScaling) -> dict[str, float]:
    return {"CPU": float(scaling.num_cpus), "GPU": scaling.gpus_per_run}


def on_worker(function: Callable[..., T], *arguments: Any, scaling: EvaluateScaling) -> T:
    """Return what ``function`` gives on a worker of the cluster with a run's resources; its ``UserError`` is raised here."""
    start_ray()
    import ray
    from ray.exceptions import RayTaskError

    room = cluster_room()
    for name, need in _needs(scaling).items():
        if need > room[name]:
            _logger.warning("waiting for a worker with %g %ss: the cluster has %g", need, name, room[name])
    task = ray.remote(num_cpus=scaling.num_cpus, num_gpus=scaling.gpus_per_run, max_retries=scaling.max_failures)
    try:
        found: T = ray.get(task(function).remote(*arguments))
    except RayTaskError as failure:
        raise (user_error(failure) or failure) from None
    return found


def _as_task(config: dict[str, Any], scaling: EvaluateScaling) -> dict[str, str] | str:
    """Return run -> error, or why there is no worker to do them."""
    from ray.exceptions import RayError

    try:
        return on_worker(_in_worker, config, scaling=scaling)
    except RayError as failure:
        return str(failure).strip().splitlines()[-1]


def _on_train(name: str, config: dict[str, Any], scaling: EvaluateScaling) -> dict[str, str] | str:
    """Do the same on Ray Train."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError

    # Ray Train takes this one from the environment of the driver only.
    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(scaling.start_timeout_s)
    gpus = {"GPU": scaling.gpus_per_run} if scaling.gpus_per_run else {}
    with tempfile.TemporaryDirectory(prefix="clinical-modernbert-ray-train-") as folder:
        trainer = TorchTrainer(
            _in_worker,
            train_loop_config=config,
            scaling_config=ScalingConfig(
                num_workers=1, use_gpu=bool(gpus), resources_per_worker={"CPU": scaling.num_cpus, **gpus}
            ),
            run_config=RunConfig(
                # A new name each time: a run begins anew, whatever Ray remembers of an earlier one.
                name=f"{name}-{uuid.uuid4().hex[:8]}",
                storage_path=folder,
                failure_config=FailureConfig(
                    max_failures=scaling.max_failures, controller_failure_limit=scaling.max_failures
                ),
            ),
        )
        try:
            errors: dict[str, str] = trainer.fit().return_value
        except TrainingFailedError as failure:
            each = f"{scaling.num_cpus} CPUs" + (f" and {scaling.gpus_per_run:g} GPUs" if gpus else "")
            return root_cause(
                failure,
                no_room=f"the cluster had no room for a worker of {each} within scaling.start_timeout_s="
                f"{scaling.start_timeout_s:g}; lower scaling.num_cpus or scaling.gpus_per_run, add nodes, or wait longer",
            )
    return errors


def _in_worker(config: dict[str, Any]) -> dict[str, str]:
    """Do the runs that are not yet done; what the user can mend is returned, since raising it would have all tried again."""
    errors: dict[str, str] = {}
    store = open_store(config["store"])
    for run_id, values in config["recipes"].items():
        kind: Any = FineTuneRecipe if values["kind"] == "fine_tune" else ProbeRecipe
        try:
            plan = run_plan(kind.model_validate(values), store)
            if plan.existing() is None:
                run(plan)
        except UserError as error:
            errors[run_id] = str(error)
    return errors
