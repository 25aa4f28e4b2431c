"""Launch a training run, pretraining or contrastive, on Ray Train or in this process, and publish its model.

The store's checkpoints carry a run over every restart: Ray restarts a failed group of workers, a user submits the job again, and
each time the workers resume from the newest complete checkpoint. An error that no retry can fix (a recipe, a corpus, a loss that
is not a number) is recorded for the driver, and a group that Ray restarts after it ends at once.
"""

import faulthandler
import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch

from clinical_modernbert.artifacts import Artifact, Plan, join_key, open_store
from clinical_modernbert.artifacts.layout import checkpoints_prefix
from clinical_modernbert.artifacts.manifest import KEY_VARIABLE, signing_key
from clinical_modernbert.errors import (
    ArtifactError,
    DiskFullError,
    GroupError,
    ModelError,
    RecipeError,
    RunStopped,
    SignatureError,
    StoreError,
    UserError,
)
from clinical_modernbert.outages import patiently
from clinical_modernbert.progress import watch
from clinical_modernbert.recipe import ContrastRecipe, PretrainRecipe
from clinical_modernbert.runtime import start_ray
from clinical_modernbert.training.checkpoint import UploadRefusedError, delete_checkpoints
from clinical_modernbert.training.contrastive.loop import contrast_worker
from clinical_modernbert.training.group import GroupScaling, run_group
from clinical_modernbert.training.loop import train_worker
from clinical_modernbert.training.records import Records, Stopped
from clinical_modernbert.training.run_progress import ProgressReader
from clinical_modernbert.training.start import TrainJob
from clinical_modernbert.training.stop_signal import stop_on_signal
from clinical_modernbert.training.trackers import ray_gauges, tracking
from clinical_modernbert.training.worker import Worker

TrainPlan = Plan[PretrainRecipe | ContrastRecipe]

_logger = logging.getLogger(__name__)


def pretrain(plan: Plan[PretrainRecipe]) -> Artifact:
    """Run the pretraining that ``plan`` describes on Ray Train and publish the model; see ``launch``."""
    return launch(plan)


def contrast(plan: Plan[ContrastRecipe]) -> Artifact:
    """Run the contrastive training that ``plan`` describes on Ray Train and publish the model; see ``launch``."""
    return launch(plan)


def contrast_in_process(plan: Plan[ContrastRecipe], *, device: torch.device | None = None) -> Artifact:
    """Run the same loop as one worker in this process, without Ray: for one GPU, for debugging and for tests."""
    return _in_process(plan, device)


def launch(plan: TrainPlan) -> Artifact:
    """Run ``plan`` on Ray Train and publish the model.

    On SIGTERM or Ctrl-C in the main thread the workers keep their state and end; ``RunStopped`` is raised then.
    """
    start_ray()
    with _following(plan):
        _train_on_ray(plan)
    return publish_model(plan)


def pretrain_in_process(plan: Plan[PretrainRecipe], *, device: torch.device | None = None) -> Artifact:
    """Run the same loop as one worker in this process, without Ray: for one GPU, for debugging and for tests."""
    return _in_process(plan, device)


def _in_process(plan: TrainPlan, device: torch.device | None) -> Artifact:
    num_workers = plan.recipe.scaling.num_workers
    if num_workers != 1:
        raise ModelError(f"scaling.num_workers={num_workers}: in one process it must be 1")
    with _following(plan):
        do_train(train_job(plan), Worker(rank=0, world_size=1, device=device or torch.device("cpu")))
    return publish_model(plan)


def train_job(plan: TrainPlan) -> TrainJob:
    """Return the job of a new launch of the run; its recipe names artifacts by id, which stays unambiguous."""
    ids = {field: artifact.manifest.id for field, artifact in plan.artifacts.items()}
    return TrainJob(
        recipe=plan.recipe.with_ids(ids).model_dump(mode="json"),
        store_uri=plan.store.uri,
        run_id=plan.id,
        initial_model=_input(plan, "model.init") or _input(plan, "init"),
        continued_state=_input(plan, "training.continue_from"),
        teacher=_input(plan, "training.teacher.model"),
        launch=uuid.uuid4().hex[:8],
        signed=signing_key() is not None,
    )


def _input(plan: TrainPlan, name: str) -> dict[str, str] | None:
    return next((entry.model_dump() for entry in plan.inputs if entry.name == name), None)


def ray_worker(config: dict[str, Any]) -> StoreError | None:
    """Run one worker of a Ray Train group; ``config`` is a ``TrainJob`` as a dict, because Ray Train passes only dicts.

    Returns, in every worker alike, the error of a store that refuses checkpoints. Raised it would start a new group, which would
    be refused too, and a store that takes no checkpoint may take no record of a final error.
    """
    import ray.train
    import ray.train.torch

    context = ray.train.get_context()
    worker = Worker(
        rank=context.get_world_rank(), world_size=context.get_world_size(), device=ray.train.torch.get_device()
    )
    job = TrainJob(**config)
    # A group that restarts during an outage would use up its retries in seconds.
    records = Records(patiently(lambda: open_store(job.store_uri), work="opening the store"), job.run_id)
    if patiently(lambda: records.error(job.launch), work="reading the records"):
        return None  # an earlier group of this launch recorded a final error, which the driver raises
    timeout_s = _recipe_of(job).scaling.hang_timeout_s
    try:
        do_train(
            job,
            worker,
            # faulthandler's timer is native, so it also ends a worker that hangs inside a C library.
            beat=lambda: faulthandler.dump_traceback_later(timeout_s, exit=True),
            observe=ray_gauges(job.run_id),
        )
    except UploadRefusedError as error:
        return error
    except (ModelError, RecipeError, ArtifactError, SignatureError, DiskFullError) as error:
        _record_final(records, job, error)
        raise
    finally:
        faulthandler.cancel_dump_traceback_later()
    return None


def do_train(job: TrainJob, worker: Worker, **hooks: Any) -> None:
    """Run the loop of the job's kind; ``hooks`` are those of both loops."""
    if job.signed and signing_key() is None:
        raise SignatureError(
            f"{KEY_VARIABLE} is set where the job was started and not in its workers: set it in both, or in neither"
        )
    run = contrast_worker if job.recipe["kind"] == "contrast" else train_worker
    run(job, worker, **hooks)


def _recipe_of(job: TrainJob) -> PretrainRecipe | ContrastRecipe:
    if job.recipe["kind"] == "contrast":
        return ContrastRecipe.model_validate(job.recipe)
    return PretrainRecipe.model_validate(job.recipe)


def _record_final(records: Records, job: TrainJob, error: UserError) -> None:
    try:
        records.write_error(job.launch, error)
    except StoreError as failure:  # raised here, it would hide why the run ended
        _logger.warning("the final error of %s was not recorded: %s", job.run_id, failure)


def publish_model(plan: TrainPlan) -> Artifact:
    """Write the manifest over the files that rank 0 exported, then delete checkpoints and records."""
    records = Records(plan.store, plan.id)
    result = records.result()
    if result is None:
        raise ModelError(f"training {plan.id} ended without an export")
    if isinstance(result, Stopped):
        raise RunStopped(
            f"{plan.id} stopped after step {result.stopped_after}, as requested; "
            "its state is kept, and the same command continues from there"
        )
    artifact = plan.publish(list(result.files), summary=asdict(result.summary))
    if not plan.recipe.checkpoint.keep_after_export:
        delete_checkpoints(plan.store, plan.id)
    records.clear()
    return artifact


@contextmanager
def _following(plan: TrainPlan) -> Iterator[None]:
    """Start without an old result; show progress, feed the trackers and listen to SIGTERM and Ctrl-C until the block ends."""
    records = Records(plan.store, plan.id)
    plan.store.check_writable(join_key(checkpoints_prefix(plan.id), "write-check"))
    records.clear_result()
    reader = ProgressReader(records)
    with (
        stop_on_signal(plan.store, plan.id),
        tracking(plan.recipe, plan.id, history=lambda: reader.read().history),
        watch(
            f"{plan.recipe.kind} {plan.id}",
            total=plan.recipe.training.total_steps,
            unit="step",
            done=records.steps_done,
        ),
    ):
        yield


def _train_on_ray(plan: TrainPlan) -> None:
    job, scaling = train_job(plan), plan.recipe.scaling
    group = GroupScaling(
        num_workers=scaling.num_workers,
        cpus_per_worker=scaling.cpus_per_worker,
        gpus_per_worker=1 if scaling.use_gpu else 0,
        max_failures=scaling.max_failures,
        start_timeout_s=scaling.start_timeout_s,
        resource_settings="scaling.num_workers or scaling.cpus_per_worker",
        exchange_timeout_s=scaling.hang_timeout_s,
    )
    records = Records(plan.store, plan.id)
    try:
        refusal = run_group(ray_worker, asdict(job), group, name=plan.id)
    except GroupError as error:
        raise _final_error(records, job) or GroupError(f"training {plan.id} failed: {error}") from error
    final_error = refusal or _final_error(records, job)
    if final_error:
        raise final_error


def _final_error(records: Records, job: TrainJob) -> ModelError | DiskFullError | None:
    try:
        return records.error(job.launch)
    except StoreError as failure:
        _logger.warning("the records of %s cannot be read: %s", job.run_id, failure)
        return None
