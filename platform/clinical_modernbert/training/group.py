"""Start a group of workers on Ray Train and wait for its end. The only module that builds a ``TorchTrainer``.

Ray restarts a failed group up to ``max_failures`` times. It remembers no state of a group: what a restarted worker resumes
from is the worker's own concern.
"""

import math
import os
import pkgutil
import tempfile
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from clinical_modernbert.errors import PASSING, GroupError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class GroupScaling:
    """Size, resources and patience of one group."""

    num_workers: int
    cpus_per_worker: float
    gpus_per_worker: float
    """Workers with a GPU exchange over NCCL, workers without one over gloo."""
    max_failures: int
    start_timeout_s: float
    """Longest wait for all workers to get their resources and start."""
    resource_settings: str
    """The recipe's settings to lower if there is no room for the group: words of an error."""
    exchange_timeout_s: float = 1800.0
    """Longest time of one exchange between workers."""


def run_group(
    worker: Callable[[dict[str, Any]], Any], config: dict[str, Any], scaling: GroupScaling, *, name: str
) -> Any:
    """Run ``worker(config)`` in every process of a group and return what rank 0 returned.

    ``worker`` is a function of a module, which each process imports by its name. ``name`` is used in Ray's logs. ``config`` is
    plain values, because Ray sends it to every node. Raises ``GroupError`` with the cause if the group failed more often than
    ``max_failures`` allows, or could not start; an error of ``PASSING`` in a worker is raised as it is.
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError

    from clinical_modernbert.runtime import user_error

    use_gpu = scaling.gpus_per_worker > 0
    resources = {"CPU": scaling.cpus_per_worker, **({"GPU": scaling.gpus_per_worker} if use_gpu else {})}
    # Ray Train reads this setting from the environment of the driver only.
    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(scaling.start_timeout_s)
    with tempfile.TemporaryDirectory(prefix="clinical-modernbert-ray-train-") as folder:
        trainer = TorchTrainer(
            _import_and_run,
            train_loop_config={"worker": f"{worker.__module__}:{worker.__qualname__}", "config": config},
            scaling_config=ScalingConfig(
                num_workers=scaling.num_workers, use_gpu=use_gpu, resources_per_worker=resources
            ),
            torch_config=TorchConfig(
                backend="nccl" if use_gpu else "gloo", timeout_s=math.ceil(scaling.exchange_timeout_s)
            ),
            run_config=RunConfig(
                # A new name each time: Ray must not restore its own record of an earlier group.
                name=f"{name}-{uuid.uuid4().hex[:8]}",
                storage_path=folder,
                # Without the second limit, Ray retries a group that cannot start forever.
                failure_config=FailureConfig(
                    max_failures=scaling.max_failures, controller_failure_limit=scaling.max_failures
                ),
            ),
        )
        try:
            return _in_thread(trainer.fit).return_value
        except TrainingFailedError as error:
            failures = getattr(error, "worker_failures", None) or {}
            first = next(iter(failures.values()), error)
            cause = user_error(first)
            if isinstance(cause, PASSING):
                raise cause from error
            raise GroupError(_root_cause(first, scaling)) from error


def _in_thread(run: Callable[[], T]) -> T:
    """Return what ``run`` returns in another thread: in the main one Ray Train takes over SIGINT and aborts the group."""
    found = Future[T]()

    def work() -> None:
        try:
            found.set_result(run())
        except BaseException as error:  # noqa: BLE001  # raised in the thread that waits
            found.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return found.result()


def _import_and_run(job: dict[str, Any]) -> Any:
    """Import the worker's module in the thread that trains.

    Ray loads the function it was given before that thread starts. A process lost in those moments ends the whole group,
    however many failures are left, and its CPUs stay taken (Ray 2.60). So that function must load in no time.
    """
    worker = pkgutil.resolve_name(job["worker"])
    return worker(job["config"])


def _root_cause(first: Exception, scaling: GroupScaling) -> str:
    """Return the last line of the first worker's error, or that there was no room if the workers never started."""
    message = str(first).strip()
    if "worker group startup timed out" in message:  # Ray's class of this error is private
        return _no_room(scaling)
    return message.splitlines()[-1] if message else type(first).__name__


def _no_room(scaling: GroupScaling) -> str:
    workers = "a worker" if scaling.num_workers == 1 else f"{scaling.num_workers} workers"
    gpus = f" and {scaling.gpus_per_worker:g} GPUs" if scaling.gpus_per_worker else ""
    return (
        f"the cluster had no room for {workers} of {scaling.cpus_per_worker:g} CPUs{gpus} within scaling.start_timeout_s="
        f"{scaling.start_timeout_s:g}; lower {scaling.resource_settings}, add nodes, or wait longer"
    )
