"""Pretraining on Ray Train with DeepSpeed: no compiler, the torch engine's losses, and killed processes that cost no step."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from clinical_modernbert.artifacts import Artifact, Store, open_store
from clinical_modernbert.training.launch import pretrain_in_process

from tests.tiny import TINY_PRETRAIN, publish_tiny_corpus, tiny_pretrain_plan

pytestmark = [pytest.mark.ray, pytest.mark.slow]

TWO_WORKERS = ["scaling.num_workers=2", "scaling.engine=deepspeed", "training.num_steps=30", "checkpoint.every_steps=5"]


def losses(model: Artifact) -> list[float]:
    return [point["loss"] for point in json.loads(model.file("history.json").read_text()) if "loss" in point]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = open_store(str(tmp_path_factory.mktemp("store")))
    publish_tiny_corpus(store)
    return store


@pytest.fixture(scope="module")
def expected(store: Store) -> list[float]:
    """Losses of one process with the torch engine."""
    return losses(pretrain_in_process(tiny_pretrain_plan(store, "training.num_steps=30", "name=expected")))


@pytest.fixture(scope="module")
def recipe_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipes") / "tiny.yaml"
    path.write_text(str(TINY_PRETRAIN))  # a mapping of plain values is YAML as it stands
    return path


def start_job(repository: Path, recipe_path: Path, store: Store, name: str, path: str) -> subprocess.Popen[str]:
    """Start ``jobs/pretrain.py`` as a user would, in a session of its own."""
    overrides = [part for override in [*TWO_WORKERS, f"name={name}"] for part in ("--set", override)]
    command = [sys.executable, "jobs/pretrain.py", str(recipe_path), *overrides, "--root", store.uri]
    environment = {**os.environ, "PATH": path, "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        command,
        cwd=repository,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def path_without_compilers(folder: Path) -> str:
    """Return a PATH of links to what Ray's start needs, without gcc, g++, c++, cc or ninja."""
    for tool in ("sh", "bash", "env", "ps", "uname", "cat", "ls", "python3", "lscpu"):
        found = shutil.which(tool)
        if found:
            (folder / tool).symlink_to(found)
    assert shutil.which("g++", path=str(folder)) is None and shutil.which("ninja", path=str(folder)) is None
    return str(folder)


def test_deepspeed_needs_no_compiler_and_equals_the_torch_engine(
    repository: Path, store: Store, expected: list[float], recipe_path: Path, tmp_path: Path
) -> None:
    job = start_job(repository, recipe_path, store, "no-compiler", path_without_compilers(tmp_path))
    _, errors = job.communicate(timeout=300)
    assert job.returncode == 0, errors[-4000:]
    model = tiny_pretrain_plan(store, *TWO_WORKERS, "name=no-compiler").existing()
    assert model is not None
    assert losses(model) == pytest.approx(expected, abs=1e-4)


def wait_for_step(store: Store, run_id: str, step: int, *, timeout_s: float = 200) -> list[dict[str, Any]]:
    """Wait until the run has recorded ``step`` steps; return its history so far."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            progress = json.loads(store.read_bytes(f"work/model/{run_id}/progress.json"))
            if progress["step"] >= step:
                return list(progress["history"])
        except KeyError:
            pass
        time.sleep(0.02)
    raise AssertionError(f"{run_id} never reached step {step}")


def assert_went_on(model: Artifact, seen: list[dict[str, Any]], expected: list[float]) -> None:
    """Every step is there once with its loss, and those before the first checkpoint were not trained again."""
    history = [point for point in json.loads(model.file("history.json").read_text()) if "loss" in point]
    assert [point["step"] for point in history] == list(range(30))
    assert [point["loss"] for point in history] == pytest.approx(expected, abs=1e-4)
    # The measured speeds: no second run of the same steps gives the same.
    assert all(point["tokens_per_second"] for point in seen[1:5])
    assert history[:5] == seen[:5]


def workers_of(job: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return the training workers below a job's process."""
    children = psutil.Process(job.pid).children(recursive=True)
    return [child for child in children if "RayTrainWorker" in " ".join(child.cmdline())]


def test_a_killed_worker_is_replaced_and_costs_no_step(
    repository: Path, store: Store, expected: list[float], recipe_path: Path
) -> None:
    plan = tiny_pretrain_plan(store, *TWO_WORKERS, "name=killed")
    job = start_job(repository, recipe_path, store, "killed", os.environ["PATH"])
    seen = wait_for_step(store, plan.id, 7)
    os.kill(workers_of(job)[1].pid, signal.SIGKILL)
    _, errors = job.communicate(timeout=300)
    assert job.returncode == 0, errors[-4000:]
    model = plan.existing()
    assert model is not None
    assert_went_on(model, seen, expected)


def test_a_killed_driver_goes_on_when_started_again(
    repository: Path, store: Store, expected: list[float], recipe_path: Path
) -> None:
    plan = tiny_pretrain_plan(store, *TWO_WORKERS, "name=driver")
    job = start_job(repository, recipe_path, store, "driver", os.environ["PATH"])
    seen = wait_for_step(store, plan.id, 7)
    children = psutil.Process(job.pid).children(recursive=True)
    job.kill()
    for child in children:
        if child.is_running():
            child.kill()
    job.communicate()
    assert plan.existing() is None
    kept = store.names(f"checkpoint/{plan.id}")
    assert kept, "the killed run left a checkpoint"
    again = start_job(repository, recipe_path, store, "driver", os.environ["PATH"])
    _, errors = again.communicate(timeout=300)
    assert again.returncode == 0, errors[-4000:]
    model = plan.existing()
    assert model is not None
    assert_went_on(model, seen, expected)
