"""Pretraining on Ray Train with DeepSpeed: no compiler, the torch engine's losses, and faults that cost no step."""

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from clinical_modernbert.artifacts import Artifact, Store
from clinical_modernbert.training.launch import pretrain_in_process

from benchmarks.drills import driver_kill, schedule, store_away, worker_kill
from benchmarks.kits.training_runs import (
    TWO_WORKERS,
    finish,
    progress,
    same_weights,
    start_job,
    steps_of,
    tiny_store,
    wait_for_step,
    workers_of,
)
from tests.helpers.tiny import tiny_pretrain_plan

pytestmark = [pytest.mark.ray, pytest.mark.slow]

THIRTY_STEPS = (*TWO_WORKERS, "training.num_steps=30")


def losses(model: Artifact) -> list[float]:
    return [point["loss"] for point in steps_of(model)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return tiny_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def expected(store: Store) -> list[float]:
    """Losses of one process with the torch engine."""
    return losses(pretrain_in_process(tiny_pretrain_plan(store, "training.num_steps=30", "name=expected")))


def path_without_compilers(folder: Path) -> str:
    """Return a PATH of links to what Ray's start needs, without gcc, g++, c++, cc or ninja."""
    for tool in ("sh", "bash", "env", "ps", "uname", "cat", "ls", "python3", "lscpu"):
        found = shutil.which(tool)
        if found:
            (folder / tool).symlink_to(found)
    assert shutil.which("g++", path=str(folder)) is None and shutil.which("ninja", path=str(folder)) is None
    return str(folder)


def test_deepspeed_needs_no_compiler_and_equals_the_torch_engine(
    store: Store, expected: list[float], tmp_path: Path
) -> None:
    overrides = (*THIRTY_STEPS, "name=no-compiler")
    (tmp_path / "bin").mkdir()
    job = start_job(store, tmp_path, *overrides, environment={"PATH": path_without_compilers(tmp_path / "bin")})
    model = finish(job, tiny_pretrain_plan(store, *overrides))
    assert losses(model) == pytest.approx(expected, abs=1e-4)


def test_a_killed_worker_is_replaced_and_costs_no_step(tmp_path: Path) -> None:
    """The short form of ``make drill ROW=worker-kill``."""
    outcome = worker_kill.run(tmp_path, 1, num_kills=1)
    assert outcome.passed, outcome


@pytest.mark.s3
def test_a_store_that_goes_away_costs_no_step(tmp_path: Path) -> None:
    """The short form of ``make drill ROW=store-away``."""
    outcome = store_away.run(tmp_path, 1, lengths_s=[2])
    assert outcome.passed, outcome


def test_a_killed_driver_goes_on_when_started_again(tmp_path: Path) -> None:
    """The short form of ``make drill ROW=driver-kill``."""
    outcome = driver_kill.run(tmp_path, 1, num_kills=1)
    assert outcome.passed, outcome


def test_a_restore_changes_no_schedule(tmp_path: Path) -> None:
    """The short form of ``make drill ROW=schedule``."""
    outcome = schedule.run(tmp_path, 1, num_breaks=3)
    assert outcome.passed and outcome.facts["steps_redone"] > 0, outcome


def test_ctrl_c_ends_the_job_with_143_and_the_same_command_continues(
    store: Store, expected: list[float], tmp_path: Path
) -> None:
    """As SIGTERM does, although Ray Train has a handler of its own for this signal."""
    overrides = (*THIRTY_STEPS, "checkpoint.every_steps=null", "name=asked")
    plan = tiny_pretrain_plan(store, *overrides)
    job = start_job(store, tmp_path, *overrides)
    wait_for_step(plan, 3)
    workers_of(job)[0].suspend()  # so that the run cannot end before the request is seen
    os.kill(job.pid, signal.SIGINT)
    time.sleep(2)
    workers_of(job)[0].resume()
    _, errors = job.communicate(timeout=400)
    assert job.returncode == 143, errors[-3000:]
    assert "the same command continues from there" in errors
    stopped_after = progress(plan)["step"]
    assert 3 <= stopped_after < 30
    model = finish(start_job(store, tmp_path, *overrides), plan)
    assert losses(model) == pytest.approx(expected, abs=1e-4)
    started = [point["step"] for point in json.loads(model.file("history.json").read_text()) if "started" in point]
    assert started == [0, stopped_after]


def test_a_worker_that_hangs_is_a_failure_like_any_other(store: Store, expected: list[float], tmp_path: Path) -> None:
    overrides = (*THIRTY_STEPS, "scaling.hang_timeout_s=8", "name=hangs")
    plan = tiny_pretrain_plan(store, *overrides)
    job = start_job(store, tmp_path, *overrides)
    wait_for_step(plan, 7)
    workers_of(job)[1].suspend()
    model = finish(job, plan)
    assert losses(model) == pytest.approx(expected, abs=1e-4)
    unbroken = tiny_pretrain_plan(store, *THIRTY_STEPS, "name=no-compiler").existing()
    assert unbroken is None or same_weights(model, unbroken)


def test_what_no_retry_mends_ends_the_job_with_its_reason(store: Store, tmp_path: Path) -> None:
    overrides: tuple[Any, ...] = (*TWO_WORKERS, "training.sequence_length=128", "scaling.max_failures=9", "name=never")
    job = start_job(store, tmp_path, *overrides)
    _, errors = job.communicate(timeout=400)
    assert job.returncode == 2, errors[-3000:]
    last = errors.strip().splitlines()[-1]
    assert last.startswith("error: ") and "not of 128" in last and "Traceback" not in last


def test_a_cluster_without_room_is_said_in_the_recipe_s_words(store: Store, tmp_path: Path) -> None:
    wanted = ("scaling.cpus_per_worker=64", "scaling.start_timeout_s=5", "scaling.max_failures=0", "name=no-room")
    job = start_job(store, tmp_path, *TWO_WORKERS, *wanted)
    _, errors = job.communicate(timeout=200)
    assert job.returncode == 1, errors[-3000:]
    last = errors.strip().splitlines()[-1]
    assert "no room for 2 workers of 64 CPUs within scaling.start_timeout_s=5" in last and "Traceback" not in errors
