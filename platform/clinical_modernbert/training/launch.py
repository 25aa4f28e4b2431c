"""Launch a pretraining run on Ray Train, and publish the model it leaves.

Checkpoints are ours (see ``checkpoint``): Ray restarts a failed group of workers, and each worker goes on from the newest whole
checkpoint in the store. A job that is submitted again does the same.
"""

import json
import tempfile
import uuid
from dataclasses import asdict
from typing import Any

import torch

from clinical_modernbert.artifacts import Artifact, FileEntry, Plan, join_key
from clinical_modernbert.artifacts.layout import work_prefix
from clinical_modernbert.errors import ModelError
from clinical_modernbert.progress import watch
from clinical_modernbert.recipe import PretrainRecipe
from clinical_modernbert.runtime import start_ray
from clinical_modernbert.training.checkpoint import History, delete_checkpoints
from clinical_modernbert.training.loop import PROGRESS_NAME, RESULT_NAME, TrainJob, train_worker
from clinical_modernbert.training.worker import Worker


def pretrain(plan: Plan) -> Artifact:
    """Run the pretraining that ``plan`` describes on Ray Train and publish the model."""
    recipe = _recipe(plan)
    start_ray()
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError

    trainer = TorchTrainer(
        _ray_worker,
        train_loop_config=asdict(_job(plan, recipe)),
        scaling_config=ScalingConfig(
            num_workers=recipe.scaling.num_workers,
            use_gpu=recipe.scaling.use_gpu,
            resources_per_worker={
                "CPU": recipe.scaling.cpus_per_worker,
                **({"GPU": 1} if recipe.scaling.use_gpu else {}),
            },
        ),
        torch_config=TorchConfig(backend="nccl" if recipe.scaling.use_gpu else "gloo"),
        run_config=RunConfig(
            # A new name each time: Ray's own run state must never restore what the store's checkpoints decide.
            name=f"{plan.id}-{uuid.uuid4().hex[:8]}",
            storage_path=tempfile.gettempdir() + "/clinical-modernbert-ray-train",
            failure_config=FailureConfig(max_failures=recipe.scaling.max_failures),
        ),
    )
    try:
        with watch(
            f"pretrain {plan.id}", total=recipe.training.total_steps, unit="step", done=lambda: steps_done(plan)
        ):
            trainer.fit()
    except TrainingFailedError as error:
        raise ModelError(f"training {plan.id} failed: {_root_cause(error)}") from error
    return publish_model(plan)


def pretrain_in_process(plan: Plan, *, device: torch.device | None = None) -> Artifact:
    """Run the same loop as one worker in this process, without Ray: for one GPU, for debugging and for tests."""
    recipe = _recipe(plan)
    if recipe.scaling.num_workers != 1:
        raise ModelError(f"scaling.num_workers={recipe.scaling.num_workers}: in one process it must be 1")
    train_worker(_job(plan, recipe), Worker(rank=0, world_size=1, device=device or torch.device("cpu")))
    return publish_model(plan)


def steps_done(plan: Plan) -> int:
    """Return the steps that a running job has recorded; 0 before the first."""
    prefix = work_prefix("model", plan.id)
    try:
        return int(json.loads(plan.store.read_bytes(join_key(prefix, PROGRESS_NAME)))["step"])
    except KeyError:
        return 0


def recorded_history(plan: Plan) -> History:
    """Return the curve that a running job has recorded so far; empty before its first point and after its end."""
    key = join_key(work_prefix("model", plan.id), PROGRESS_NAME)
    try:
        history: History = json.loads(plan.store.read_bytes(key))["history"]
    except KeyError:
        return []
    return history


def publish_model(plan: Plan) -> Artifact:
    """Write the manifest over what rank 0 exported, then delete the checkpoints."""
    key = join_key(work_prefix("model", plan.id), RESULT_NAME)
    try:
        result: dict[str, Any] = json.loads(plan.store.read_bytes(key))
    except KeyError:
        raise ModelError(f"training {plan.id} ended without an export") from None
    artifact = plan.publish([FileEntry.model_validate(entry) for entry in result["files"]], summary=result["summary"])
    delete_checkpoints(plan.store, plan.id)
    for item in list(plan.store.walk(work_prefix("model", plan.id))):
        plan.store.delete(item.key)
    return artifact


def _ray_worker(config: dict[str, Any]) -> None:
    import ray.train
    import ray.train.torch

    context = ray.train.get_context()
    worker = Worker(
        rank=context.get_world_rank(), world_size=context.get_world_size(), device=ray.train.torch.get_device()
    )
    train_worker(TrainJob(**config), worker)


def _recipe(plan: Plan) -> PretrainRecipe:
    assert isinstance(plan.recipe, PretrainRecipe)
    return plan.recipe


def _job(plan: Plan, recipe: PretrainRecipe) -> TrainJob:
    return TrainJob(
        recipe=recipe.model_dump(mode="json"),
        store_uri=plan.store.uri,
        run_id=plan.id,
        corpus_id=plan.artifacts["corpus"].manifest.id,
    )


def _root_cause(error: Exception) -> str:
    failures = getattr(error, "worker_failures", None) or {}
    first = next(iter(failures.values()), error)
    return str(first).strip().splitlines()[-1] if str(first).strip() else type(first).__name__
