"""Start or join Ray the same way in every job, and run one Ray Data task for each of many calls."""

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import ray
from tqdm import tqdm

from clinical_modernbert import errors
from clinical_modernbert.artifacts.work_area import from_json, to_json
from clinical_modernbert.errors import UserError

C = TypeVar("C")
R = TypeVar("R")

OBJECT_STORE_BYTES = 1 << 30

_Row = dict[str, Any]
"""A row of Ray Data."""

_logger = logging.getLogger(__name__)


def start_ray(*, num_cpus: int | None = None) -> None:
    """Join the cluster a job was submitted to, else start Ray in this process with its object store capped at 1 GiB.

    Calling it again changes nothing. The platform moves paths and counts through Ray, never rows, so that 1 GiB is plenty.
    """
    if ray.is_initialized():
        return
    # A worker finds out what its node has: the driver may run on a head without a GPU.
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
    if os.environ.get("RAY_ADDRESS") or os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR"):
        ray.init(address="auto", **options)
    else:
        # "local": by default Ray would join any cluster that `ray start` left running on this machine, and refuse num_cpus.
        ray.init("local", num_cpus=num_cpus, include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES, **options)
    _logger.info("ray %s with %g CPUs", ray.__version__, ray.cluster_resources().get("CPU", 0))


def cluster_room() -> dict[str, float]:
    """Return the CPUs and GPUs that the cluster has, or may have where an autoscaler adds nodes."""
    from ray._private.state import state

    present = ray.cluster_resources()
    # No public call tells what an autoscaler may add (Ray 2.60); tests/integration/test_runtime.py pins this one.
    possible = state.get_max_resources_from_cluster_config() or {}
    return {name: max(present.get(name, 0.0), possible.get(name, 0.0)) for name in ("CPU", "GPU")}


def side_by_side(asked: int, needs: Iterable[Mapping[str, float]], room: Mapping[str, float], *, setting: str) -> int:
    """Return how many of the ``asked`` jobs run at the same time: as many of the widest as ``room`` holds, at least one.

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


def each_call(
    name: str, calls: Sequence[Callable[[], R]], result_type: type[R], *, concurrency: int | None = None
) -> list[R]:
    """Run every call as a task of one CPU and return the results in the calls' order.

    At most ``concurrency`` run at the same time, as many as the cluster has CPUs where None. A ``UserError`` of a call is
    raised here with its class and message.
    """

    def task(row: _Row) -> _Row:
        return _answer(row["id"], calls[row["id"]], result_type)

    return _each(name, len(calls), result_type, task, num_cpus=1, concurrency=concurrency)


@dataclass(frozen=True, slots=True)
class Actors:
    """How many actors share the calls, and what each takes of the cluster."""

    num: int
    num_cpus: int
    num_gpus: int
    memory_bytes: int = 0
    """Reserved for each, so that Ray starts nothing else there; 0 reserves none."""


def each_call_in_actors(
    name: str, calls: Sequence[C], make: Callable[[], Callable[[C], R]], result_type: type[R], *, actors: Actors
) -> list[R]:
    """As ``each_call``, in processes that keep state: each actor calls ``make`` once, and what it returns for its calls."""
    import ray.data

    return _each(
        name,
        len(calls),
        result_type,
        _Actor,
        fn_constructor_args=(make, calls, result_type),
        compute=ray.data.ActorPoolStrategy(size=actors.num),
        num_cpus=actors.num_cpus,
        num_gpus=actors.num_gpus or None,
        memory=actors.memory_bytes or None,
        # Read once, when the process loads its maths libraries.
        runtime_env={"env_vars": {"OMP_NUM_THREADS": str(actors.num_cpus)}},
    )


class _Actor(Generic[C, R]):
    """Makes what runs its calls at the first of them: an error of a constructor would be the death of the actor."""

    def __init__(self, make: Callable[[], Callable[[C], R]], calls: Sequence[C], result_type: type[R]) -> None:
        self._make, self._calls, self._result_type = make, calls, result_type
        self._made: Callable[[C], R] | None = None

    def __call__(self, row: _Row) -> _Row:
        return _answer(row["id"], lambda: self._run(self._calls[row["id"]]), self._result_type)

    def _run(self, call: C) -> R:
        if self._made is None:
            self._made = self._make()
        return self._made(call)


def _answer(number: int, call: Callable[[], R], result_type: type[R]) -> _Row:
    """Return a call's result as one JSON string, so that Ray Data need not guess a schema for it, or its ``UserError``.

    The error is a value: Ray Data raises its own exception for one that is raised, and loses the cause on the way (Ray 2.60).
    """
    try:
        return {"id": number, "result": to_json(call(), result_type), "error": ""}
    except UserError as error:
        return {"id": number, "result": str(error), "error": type(error).__name__}


def _each(name: str, number: int, result_type: type[R], run: Callable[..., Any], **options: Any) -> list[R]:
    # Imported here: only jobs with many calls need it.
    import ray.data

    if not number:
        return []
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = False  # a slow call must not hold back the others
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    # Items, not a range: reading a range takes CPUs, and actors may hold them all.
    ids = ray.data.from_items([{"id": i} for i in range(number)], override_num_blocks=number)
    results: dict[int, R] = {}
    for row in tqdm(ids.map(run, **options).iter_rows(), desc=name, total=number, unit="task"):
        if row["error"]:
            raise getattr(errors, row["error"], UserError)(row["result"])
        results[row["id"]] = from_json(row["result"], result_type)
    return [results[i] for i in range(number)]


def result_of(task: Any) -> Any:
    """Return the result of a Ray task; a ``UserError`` of the task is raised with its class and its own message."""
    try:
        return ray.get(task)
    except ray.exceptions.RayTaskError as error:
        raise user_error(error) or error from None


def user_error(error: BaseException | None) -> UserError | None:
    """Return the ``UserError`` that a task raised, without the errors in which Ray wraps it, or None."""
    while error is not None:
        # Ray's wrapper has the class of the wrapped error too, with a traceback as its message.
        inner = getattr(error, "cause", None)
        if inner is None and isinstance(error, UserError):
            return error
        error = inner or error.__cause__
    return None
