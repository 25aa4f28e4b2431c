"""Runs of an evaluation on the cluster: fine-tuning on Ray Train, frozen encoders as Ray tasks, many side by side.

Each run has a worker of its own rather than a share of a group: many runs of a few minutes keep every GPU of a cluster busy
without any exchange of gradients, and a lost worker costs its own run alone, which begins anew.
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
from clinical_modernbert.recipe import FineTuneRecipe, ProbeRecipe
from clinical_modernbert.recipe.evaluate import EvaluateScaling
from clinical_modernbert.runtime import cluster_room, side_by_side, start_ray, user_error
from clinical_modernbert.training.launch import root_cause

T = TypeVar("T")

_logger = logging.getLogger(__name__)


def launch(plans: Sequence[Plan]) -> None:
    """Do all runs; a run that fails does not stop the others, and is named in the ``ModelError`` raised at the end."""
    if not plans:
        return
    start_ray()
    import ray

    scaling = _scaling(plans[0])
    num = side_by_side(scaling.num_runs, [_needs(scaling)], cluster_room(), setting="num_runs")
    pool = ThreadPoolExecutor(max_workers=num, thread_name_prefix="evaluation-run")
    try:
        errors = list(pool.map(_launch, plans))
    except BaseException:
        # Ctrl-C: no new runs, and those under way end with the connection that their threads wait on.
        pool.shutdown(wait=False, cancel_futures=True)
        ray.shutdown()
        raise
    pool.shutdown()
    failed = [(plan.id, error) for plan, error in zip(plans, errors, strict=True) if error is not None]
    for run_id, error in failed:
        _logger.error("%s: %s", run_id, error)
    if failed:
        others = f" (and {len(failed) - 1} more runs, named above)" if len(failed) > 1 else ""
        raise ModelError(f"run {failed[0][0]} failed: {failed[0][1]}{others}")


def _launch(plan: Plan) -> str | None:
    """Do one run on a worker of the cluster, and return why it failed."""
    config = {"recipe": plan.recipe.model_dump(mode="json"), "store": plan.store.uri}
    began = time.perf_counter()
    frozen = isinstance(plan.recipe, ProbeRecipe)
    error = _as_task(config, _scaling(plan)) if frozen else _on_train(plan, config)
    if error is None:
        # What a worker logs stays on its node.
        _logger.info("%s %s in %.0f s", plan.id, "probed" if frozen else "fine-tuned", time.perf_counter() - began)
    return error


def _scaling(plan: Plan) -> EvaluateScaling:
    assert isinstance(plan.recipe, FineTuneRecipe | ProbeRecipe)
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


def _as_task(config: dict[str, Any], scaling: EvaluateScaling) -> str | None:
    from ray.exceptions import RayError

    try:
        return on_worker(_in_worker, config, scaling=scaling)
    except RayError as failure:
        return str(failure).strip().splitlines()[-1]


def _on_train(plan: Plan, config: dict[str, Any]) -> str | None:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError

    scaling = _scaling(plan)
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
                name=f"{plan.id}-{uuid.uuid4().hex[:8]}",
                storage_path=folder,
                failure_config=FailureConfig(
                    max_failures=scaling.max_failures, controller_failure_limit=scaling.max_failures
                ),
            ),
        )
        try:
            error: str | None = trainer.fit().return_value
        except TrainingFailedError as failure:
            each = f"{scaling.num_cpus} CPUs" + (f" and {scaling.gpus_per_run:g} GPUs" if gpus else "")
            return root_cause(
                failure,
                no_room=f"the cluster had no room for a worker of {each} within scaling.start_timeout_s="
                f"{scaling.start_timeout_s:g}; lower scaling.num_cpus or scaling.gpus_per_run, add nodes, or wait longer",
            )
    return error


def _in_worker(config: dict[str, Any]) -> str | None:
    """Do the run here; what the user can mend is returned, since raising it would have it tried again."""
    values = config["recipe"]
    kind: Any = FineTuneRecipe if values["kind"] == "fine_tune" else ProbeRecipe
    try:
        plan = run_plan(kind.model_validate(values), open_store(config["store"]))
        if plan.existing() is None:
            run(plan)
    except UserError as error:
        return str(error)
    return None
