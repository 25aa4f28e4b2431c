"""Launch a pretraining run on Ray Train, and publish the model it leaves.

Checkpoints are ours (see ``checkpoint``): Ray restarts a failed group of workers, and each worker goes on from the newest whole
checkpoint in the store. A job that is submitted again does the same. What no retry mends (a recipe, a corpus, a loss that is no
number) is written down for the driver, and the group that Ray starts in its place ends at once.
"""

import faulthandler
import json
import math
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch

from clinical_modernbert.artifacts import Artifact, FileEntry, Plan, join_key, open_store
from clinical_modernbert.artifacts.layout import work_prefix
from clinical_modernbert.errors import ArtifactError, ModelError, RecipeError, RunStopped
from clinical_modernbert.progress import watch
from clinical_modernbert.recipe import PretrainRecipe
from clinical_modernbert.recipe.pretrain import TrainScaling
from clinical_modernbert.runtime import start_ray
from clinical_modernbert.training.checkpoint import History, delete_checkpoints
from clinical_modernbert.training.loop import PROGRESS_NAME, RESULT_NAME, TrainJob, train_worker
from clinical_modernbert.training.stop_signal import stop_on_sigterm
from clinical_modernbert.training.trackers import ray_gauges, tracking
from clinical_modernbert.training.worker import Worker


def pretrain(plan: Plan[PretrainRecipe]) -> Artifact:
    """Run the pretraining that ``plan`` describes on Ray Train and publish the model.

    SIGTERM, in the main thread, asks the workers to keep their state and end: ``RunStopped`` is raised then.
    """
    recipe = _recipe(plan)
    start_ray()
    with _running(plan, recipe):
        _fit(plan, recipe)
    return publish_model(plan)


def pretrain_in_process(plan: Plan[PretrainRecipe], *, device: torch.device | None = None) -> Artifact:
    """Run the same loop as one worker in this process, without Ray: for one GPU, for debugging and for tests."""
    recipe = _recipe(plan)
    if recipe.scaling.num_workers != 1:
        raise ModelError(f"scaling.num_workers={recipe.scaling.num_workers}: in one process it must be 1")
    with _running(plan, recipe):
        train_worker(_job(plan, recipe), Worker(rank=0, world_size=1, device=device or torch.device("cpu")))
    return publish_model(plan)


@contextmanager
def _running(plan: Plan[PretrainRecipe], recipe: PretrainRecipe) -> Iterator[None]:
    """What surrounds the workers on the side of the one who started them: a clean start, the bar, the trackers, SIGTERM."""
    plan.store.delete(_key(plan, RESULT_NAME))
    total = recipe.training.total_steps
    with (
        stop_on_sigterm(plan.store, plan.id),
        tracking(recipe, plan.id, history=lambda: recorded_history(plan)),
        watch(f"pretrain {plan.id}", total=total, unit="step", done=lambda: steps_done(plan)),
    ):
        yield


def _fit(plan: Plan[PretrainRecipe], recipe: PretrainRecipe) -> None:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError

    scaling = recipe.scaling
    job = _job(plan, recipe)
    # Ray Train takes this one from the environment of the driver only.
    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(scaling.start_timeout_s)
    with tempfile.TemporaryDirectory(prefix="clinical-modernbert-ray-train-") as folder:
        trainer = TorchTrainer(
            _ray_worker,
            train_loop_config=asdict(job),
            scaling_config=ScalingConfig(
                num_workers=scaling.num_workers,
                use_gpu=scaling.use_gpu,
                resources_per_worker={"CPU": scaling.cpus_per_worker, **({"GPU": 1} if scaling.use_gpu else {})},
            ),
            torch_config=TorchConfig(
                backend="nccl" if scaling.use_gpu else "gloo", timeout_s=math.ceil(scaling.hang_timeout_s)
            ),
            run_config=RunConfig(
                # A new name each time: Ray's own run state must never restore what the store's checkpoints decide.
                name=f"{plan.id}-{job.launch}",
                storage_path=folder,
                # A group that cannot start is tried again for ever by default.
                failure_config=FailureConfig(
                    max_failures=scaling.max_failures, controller_failure_limit=scaling.max_failures
                ),
            ),
        )
        try:
            trainer.fit()
        except TrainingFailedError as error:
            cause = root_cause(error, no_room=_no_room(scaling))
            reason = _final_error(plan, job) or f"training {plan.id} failed: {cause}"
            raise ModelError(reason) from error
    known = _final_error(plan, job)
    if known:
        raise ModelError(known)


def steps_done(plan: Plan[PretrainRecipe]) -> int:
    """Return the steps that a running job has recorded; 0 before the first."""
    try:
        return int(json.loads(plan.store.read_bytes(_key(plan, PROGRESS_NAME)))["step"])
    except KeyError:
        return 0


def recorded_history(plan: Plan[PretrainRecipe]) -> History:
    """Return the curve that a running job has recorded so far; empty before its first point and after its end."""
    try:
        history: History = json.loads(plan.store.read_bytes(_key(plan, PROGRESS_NAME)))["history"]
    except KeyError:
        return []
    return history


def stopped_after(plan: Plan[PretrainRecipe]) -> int | None:
    """Return the step after which the run ended as asked; None where it was not asked, or has not ended."""
    try:
        step: int | None = json.loads(plan.store.read_bytes(_key(plan, RESULT_NAME))).get("stopped_after")
    except KeyError:
        return None
    return step


def publish_model(plan: Plan[PretrainRecipe]) -> Artifact:
    """Write the manifest over what rank 0 exported, then delete the checkpoints."""
    try:
        result: dict[str, Any] = json.loads(plan.store.read_bytes(_key(plan, RESULT_NAME)))
    except KeyError:
        raise ModelError(f"training {plan.id} ended without an export") from None
    if "stopped_after" in result:
        step = result["stopped_after"]
        raise RunStopped(
            f"{plan.id} after step {step}, as asked; its state is kept, the same command goes on from there"
        )
    artifact = plan.publish([FileEntry.model_validate(entry) for entry in result["files"]], summary=result["summary"])
    delete_checkpoints(plan.store, plan.id)
    plan.store.clear(work_prefix("model", plan.id))
    return artifact


def _ray_worker(config: dict[str, Any]) -> None:
    import ray.train
    import ray.train.torch

    context = ray.train.get_context()
    worker = Worker(
        rank=context.get_world_rank(), world_size=context.get_world_size(), device=ray.train.torch.get_device()
    )
    job = TrainJob(**config)
    store, key = open_store(job.store_uri), _error_key(job.run_id, job.launch)
    try:
        store.read_bytes(key)
        return  # an earlier group of this launch met what no retry mends; the driver reads it
    except KeyError:
        pass
    timeout_s = PretrainRecipe.model_validate(job.recipe).scaling.hang_timeout_s
    try:
        train_worker(
            job,
            worker,
            # Its clock runs outside Python: it also ends a worker whose thread never comes back from a library.
            beat=lambda: faulthandler.dump_traceback_later(timeout_s, exit=True),
            observe=ray_gauges(job.run_id),
        )
    except (ModelError, RecipeError, ArtifactError) as error:
        store.write_bytes(key, json.dumps({"error": str(error)}).encode())
        raise
    finally:
        faulthandler.cancel_dump_traceback_later()


def _error_key(run_id: str, launch: str) -> str:
    return join_key(work_prefix("model", run_id), f"error-{launch}.json")


def _final_error(plan: Plan[PretrainRecipe], job: TrainJob) -> str | None:
    try:
        return str(json.loads(plan.store.read_bytes(_error_key(plan.id, job.launch)))["error"])
    except KeyError:
        return None


def _key(plan: Plan[PretrainRecipe], name: str) -> str:
    return join_key(work_prefix("model", plan.id), name)


def _recipe(plan: Plan[PretrainRecipe]) -> PretrainRecipe:
    return plan.recipe


def _job(plan: Plan[PretrainRecipe], recipe: PretrainRecipe) -> TrainJob:
    return TrainJob(
        recipe=recipe.model_dump(mode="json"),
        store_uri=plan.store.uri,
        run_id=plan.id,
        corpus_id=plan.artifacts["corpus"].manifest.id,
        launch=uuid.uuid4().hex[:8],
    )


def root_cause(error: Exception, *, no_room: str) -> str:
    """Return the last line of what made workers fail; ``no_room`` says in the recipe's words that they never started."""
    failures = getattr(error, "worker_failures", None) or {}
    first = next(iter(failures.values()), error)
    said = str(first).strip()
    if "worker group startup timed out" in said:  # Ray names a variable of its own; its class of error is private
        return no_room
    return said.splitlines()[-1] if said else type(first).__name__


def _no_room(scaling: TrainScaling) -> str:
    each = f"{scaling.cpus_per_worker:g} CPUs" + (" and a GPU" if scaling.use_gpu else "")
    return (
        f"the cluster had no room for {scaling.num_workers} workers of {each} within scaling.start_timeout_s="
        f"{scaling.start_timeout_s:g}; lower scaling.num_workers or scaling.cpus_per_worker, add nodes, or wait longer"
    )
