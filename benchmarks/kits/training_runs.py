"""Pretraining jobs for drills: a tiny model on two workers, started as a user starts it, and the record of its steps."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil
import torch
from clinical_modernbert.artifacts import Artifact, Plan, Store, artifact_at, open_store
from clinical_modernbert.training.records import Records
from clinical_modernbert.training.run_progress import ProgressReader
from safetensors.torch import load_file

from benchmarks.kits.tests import REPOSITORY, helper_of_tests

T = TypeVar("T")
tiny = helper_of_tests("tiny")
EVERY_STEPS = 5
TWO_WORKERS = ("scaling.num_workers=2", "scaling.engine=deepspeed", f"checkpoint.every_steps={EVERY_STEPS}")


def tiny_store(folder: Path) -> Store:
    """Return a store that holds the tiny corpus."""
    store = open_store(str(folder))
    tiny.publish_tiny_corpus(store)
    return store


def tiny_plan(store: Store, *overrides: str) -> Plan:
    """Return where the model of the tiny recipe with ``overrides`` belongs."""
    plan: Plan = tiny.tiny_pretrain_plan(store, *overrides)
    return plan


def start_job(
    store: Store | str, scratch: Path, *overrides: str, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start ``jobs/pretrain.py`` on the tiny recipe in a session of its own."""
    recipe_path = scratch / "tiny.yaml"
    recipe_path.write_text(str(tiny.TINY_PRETRAIN))  # Python's text of a mapping of plain values is also YAML
    return start_script("pretrain", recipe_path, store, *overrides, environment=environment)


def start_script(
    script: str,
    recipe: Path | str,
    store: Store | str,
    *overrides: str,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[str]:
    """Start ``jobs/<script>.py`` in a session of its own; ``environment`` changes the variables of this process for it."""
    sets = [part for override in overrides for part in ("--set", override)]
    command = [
        sys.executable,
        f"jobs/{script}.py",
        str(recipe),
        *sets,
        "--root",
        store if isinstance(store, str) else store.uri,
    ]
    variables = {**os.environ, "HF_HUB_OFFLINE": "1", **(environment or {})}
    return subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(job: subprocess.Popen[str], plan: Plan, *, timeout_s: float = 400) -> Artifact:
    """Wait for the job's model; raise if the job fails."""
    _, errors = job.communicate(timeout=timeout_s)
    model = plan.existing()
    if job.returncode or model is None:
        raise RuntimeError(f"the job ended with {job.returncode}: {errors[-3000:]}")
    return model


def progress(plan: Plan) -> dict[str, Any]:
    """Return what the run has recorded so far."""
    return ProgressReader(Records(plan.store, plan.id)).read_json()


def until(look: Callable[[], T], *, what: str, job: subprocess.Popen[str] | None = None, timeout_s: float = 200) -> T:
    """Return the first true answer of ``look``; raise ``TimeoutError`` without one in time, or once ``job`` has ended."""
    deadline = time.monotonic() + timeout_s
    while not (found := look()):
        if time.monotonic() > deadline or (job is not None and job.poll() is not None):
            ended = "" if job is None else f", the job ended with {job.poll()}"
            raise TimeoutError(f"{what}: not seen within {timeout_s:g} s{ended}")
        time.sleep(0.02)
    return found


def wait_for_step(plan: Plan, step: int, *, after: Set[str] = frozenset()) -> dict[str, Any]:
    """Wait until the run has recorded ``step`` steps, in a launch that is not among ``after`` (see ``starts``)."""

    def look() -> dict[str, Any]:
        seen = progress(plan)
        return seen if seen["step"] >= step and set(starts(seen)) - after else {}

    return until(look, what=f"step {step} of {plan.id}")


def wait_for_checkpoint(plan: Plan) -> str:
    """Return the folder of a complete checkpoint of the run, as soon as there is one."""

    def look() -> str:
        prefixes = (f"checkpoint/{plan.id}/{name}" for name in plan.store.names(f"checkpoint/{plan.id}"))
        return next((prefix for prefix in prefixes if artifact_at(plan.store, prefix)), "")

    return until(look, what=f"a checkpoint of {plan.id}")


def starts(seen: dict[str, Any]) -> dict[str, int]:
    """Return each start of the run: its time -> the steps done at it."""
    return {point["started"]: point["step"] for point in seen["history"] if "started" in point}


def workers_of(job: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return the training workers below a job's process, in the order in which they were started."""
    children = psutil.Process(job.pid).children(recursive=True)
    return sorted((child for child in children if _is_worker(child)), key=lambda p: p.create_time())


def _is_worker(process: psutil.Process) -> bool:
    try:
        return "RayTrainWorker" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # it ended meanwhile, as many do while Ray starts
        return False


def kill_all(job: subprocess.Popen[str]) -> None:
    """Kill a job's driver and all of its child processes at once."""
    children = psutil.Process(job.pid).children(recursive=True)
    job.kill()
    for child in children:
        if child.is_running():
            child.kill()
    job.communicate()


def same_weights(one: Artifact, other: Artifact) -> bool:
    """Whether two models are equal to the bit."""
    mine, theirs = (load_file(model.file("model/model.safetensors")) for model in (one, other))
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def is_same_run(model: Artifact, expected: Artifact, *, num_steps: int) -> bool:
    """Whether a model equals another one to the bit, and its curve has each step once."""
    complete = [point["step"] for point in steps_of(model)] == list(range(num_steps))
    return complete and same_weights(model, expected)


def steps_of(model: Artifact) -> list[dict[str, Any]]:
    """Return the training points of a model's curve."""
    return [point for point in json.loads(model.file("history.json").read_text()) if "loss" in point]


@dataclass(frozen=True, slots=True)
class BrokenRun:
    """A run to inject faults into, and the model of the same run without any."""

    store: Store
    scratch: Path
    overrides: tuple[str, ...]
    num_steps: int
    expected: Artifact

    @property
    def plan(self) -> Plan:
        """Where the run's model belongs."""
        return tiny_plan(self.store, *self.overrides)

    def start(self) -> subprocess.Popen[str]:
        """Start the run's job, or the same command again."""
        return start_job(self.store, self.scratch, *self.overrides)

    def is_wrong(self, model: Artifact) -> bool:
        """Whether the weights differ in any bit from those without faults, or the curve lacks a step or has one twice."""
        return not is_same_run(model, self.expected, num_steps=self.num_steps)


def broken_run(scratch: Path, num_steps: int, *overrides: str) -> BrokenRun:
    """Train the tiny recipe on two workers without faults; return the same run under another name, not yet started."""
    store = tiny_store(scratch / "store")
    return BrokenRun(
        store=store,
        scratch=scratch,
        overrides=(*TWO_WORKERS, f"training.num_steps={num_steps}", *overrides, "name=killed"),
        num_steps=num_steps,
        expected=unbroken(store, scratch, num_steps),
    )


def unbroken(store: Store, scratch: Path, num_steps: int) -> Artifact:
    """Train without any fault, on the same number of workers."""
    overrides = (*TWO_WORKERS, f"training.num_steps={num_steps}", "name=unbroken")
    return finish(start_job(store, scratch, *overrides), tiny_plan(store, *overrides))
