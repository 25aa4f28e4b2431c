"""Launch a pretraining run on Ray Train, and publish the model it leaves.

Checkpoints are ours (see ``checkpoint``): Ray restarts a failed group of workers, and each worker goes on from the newest whole
checkpoint in the store. A job that is submitted again does the same. What no retry mends (a recipe, a corpus, a loss that is no
number) is written down for the driver, and the group that Ray starts in its place ends at once.
"""

import faulthandler
import json
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
from clinical_modernbert.runtime import start_ray
from clinical_modernbert.training.checkpoint import History, delete_checkpoints
from clinical_modernbert.training.group import GroupScaling, run_group
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
    job, scaling = _job(plan, recipe), recipe.scaling
    group = GroupScaling(
        num_workers=scaling.num_workers,
        cpus_per_worker=scaling.cpus_per_worker,
        gpus_per_worker=1 if scaling.use_gpu else 0,
        max_failures=scaling.max_failures,
        start_timeout_s=scaling.start_timeout_s,
        resource_settings="scaling.num_workers or scaling.cpus_per_worker",
        exchange_timeout_s=scaling.hang_timeout_s,
    )
    try:
        run_group(_ray_worker, asdict(job), group, name=plan.id)
    except ModelError as error:
        raise ModelError(_final_error(plan, job) or f"training {plan.id} failed: {error}") from error
    reason = _final_error(plan, job)
    if reason:
        raise ModelError(reason)


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
