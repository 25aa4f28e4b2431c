"""Ray as jobs use it: a job outside a cluster runs in a Ray of its own; calls are tasks, in order, with the user's errors."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import ray
from clinical_modernbert.errors import SourceError, StoreOutage
from clinical_modernbert.runtime import Actors, each_call, each_call_in_actors, start_ray

pytestmark = pytest.mark.ray

CODE = """
import ray
from clinical_modernbert.runtime import OBJECT_STORE_BYTES, cluster_room, start_ray
start_ray(num_cpus=1)
start_ray(num_cpus=2)
resources = ray.cluster_resources()
assert resources["CPU"] == 1, resources
assert cluster_room() == {"CPU": 1, "GPU": 0}
assert resources["object_store_memory"] <= OBJECT_STORE_BYTES, resources
"""


def test_another_cluster_of_the_machine_is_not_joined() -> None:
    # Short, because the paths of Ray's sockets must fit 107 characters.
    with tempfile.TemporaryDirectory(prefix="cm-", dir="/tmp") as folder:
        (Path(folder) / "ray").mkdir()
        # What `ray start --head` leaves in its folder, and what a bare ray.init() would connect to.
        (Path(folder) / "ray" / "ray_current_cluster").write_text("127.0.0.1:1")
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        done = subprocess.run(
            [sys.executable, "-c", CODE],
            env={**kept, "RAY_TMPDIR": folder, "RAY_USAGE_STATS_ENABLED": "0"},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    assert done.returncode == 0, done.stderr[-3000:]


@dataclass(frozen=True, slots=True)
class Squared:
    number: int
    square: int
    process: int


def square(number: int, *, wait_s: float = 0.0) -> Squared:
    if number < 0:
        raise SourceError(f"{number} is negative")
    time.sleep(wait_s)
    return Squared(number, number * number, os.getpid())


def make_square() -> Callable[[int], Squared]:
    return partial(square, wait_s=0.1)


def refuse_to_make() -> Callable[[int], Squared]:
    raise StoreOutage("the store is away")


@pytest.fixture(scope="module")
def _ray() -> Iterator[None]:
    start_ray(num_cpus=2)
    yield
    ray.shutdown()


@pytest.mark.usefixtures("_ray")
def test_calls_are_tasks_whose_results_come_in_the_calls_order() -> None:
    calls = [partial(square, n, wait_s=0.5 if n == 0 else 0.0) for n in range(5)]
    results = each_call("square", calls, Squared, concurrency=2)
    assert [(step.number, step.square) for step in results] == [(n, n * n) for n in range(5)]
    assert os.getpid() not in {step.process for step in results}
    assert each_call("square", [], Squared) == []


@pytest.mark.usefixtures("_ray")
def test_the_users_error_in_a_call_arrives_unwrapped() -> None:
    with pytest.raises(SourceError) as raised:
        each_call("square", [partial(square, n) for n in (1, -7)], Squared)
    assert str(raised.value) == "-7 is negative"
    with pytest.raises(SourceError, match=r"^-7 is negative$"):
        each_call_in_actors("square", [1, -7], make_square, Squared, actors=Actors(num=1, num_cpus=1, num_gpus=0))
    with pytest.raises(StoreOutage, match=r"^the store is away$"):
        each_call_in_actors("square", [1, 2], refuse_to_make, Squared, actors=Actors(num=1, num_cpus=1, num_gpus=0))


@pytest.mark.usefixtures("_ray")
def test_actors_that_hold_every_cpu_get_their_calls() -> None:
    results = each_call_in_actors(
        "square", [3, 4, 5], make_square, Squared, actors=Actors(num=2, num_cpus=1, num_gpus=0)
    )
    assert [step.square for step in results] == [9, 16, 25] and len({step.process for step in results}) <= 2
