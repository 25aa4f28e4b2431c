"""Start or join Ray the same way in every job."""

import logging
import os
from collections.abc import Iterable, Mapping
from typing import Any

import ray

from clinical_modernbert.errors import UserError

OBJECT_STORE_BYTES = 1 << 30

_logger = logging.getLogger(__name__)


def start_ray(*, num_cpus: int | None = None) -> None:
    """Join the cluster a job was submitted to, else start Ray in this process with its object store capped at 1 GiB.

    Calling it again changes nothing. The platform moves paths and counts through Ray, never rows, so that 1 GiB is plenty.
    """
    if ray.is_initialized():
        return
    # What a worker needs to know of its node it finds out there: the driver may run on a head without a GPU.
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
    if os.environ.get("RAY_ADDRESS") or os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR"):
        ray.init(address="auto", **options)
    else:
        # "local": by default Ray would join any cluster that `ray start` left running on this machine, and refuse num_cpus.
        ray.init("local", num_cpus=num_cpus, include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES, **options)
    _logger.info("ray %s with %s CPUs", ray.__version__, ray.cluster_resources().get("CPU"))


def cluster_room() -> dict[str, float]:
    """Return the CPUs and GPUs that the cluster has, or may have where an autoscaler adds nodes."""
    from ray._private.state import state

    there = ray.cluster_resources()
    later = state.get_max_resources_from_cluster_config() or {}
    return {name: max(there.get(name, 0.0), later.get(name, 0.0)) for name in ("CPU", "GPU")}


def side_by_side(asked: int, needs: Iterable[Mapping[str, float]], room: Mapping[str, float], *, setting: str) -> int:
    """Return how many of the ``asked`` jobs run at a time: as many of the widest as there is room for, at least one.

    ``needs`` is what the workers of each take; ``setting`` is the recipe's name for ``asked``.
    """
    num = asked
    for job in needs:
        for name, need in job.items():
            fits = max(1, int(room.get(name, 0) / need + 1e-9)) if need else num
            if fits < num:
                _logger.info(
                    "%s %d instead of %d: each takes %g %ss, and the cluster has %g",
                    setting, fits, asked, need, name, room.get(name, 0),
                )  # fmt: skip
                num = fits
    return num


def user_error(error: BaseException | None) -> UserError | None:
    """Return the ``UserError`` that a task raised, from within the wrappings of Ray Data and Ray, or None."""
    while error is not None:
        # Ray's wrapping is itself of the wrapped error's class, with a traceback for its text.
        inner = getattr(error, "cause", None)
        if inner is None and isinstance(error, UserError):
            return error
        error = inner or error.__cause__
    return None
