"""Start or join Ray the same way in every job."""

import logging
import os
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


def user_error(error: BaseException | None) -> UserError | None:
    """Return the ``UserError`` that a task raised, from within the wrappings of Ray Data and Ray, or None."""
    while error is not None and not isinstance(error, UserError):
        error = getattr(error, "cause", None) or error.__cause__
    return error
