"""Take the S3 server away while a training run starts, trains and writes a checkpoint: no step is lost or done twice.

One run of two workers for each length of an outage (``STORE_AWAY_SECONDS``, by default 2, 15 and 600 s) meets three of them. The
server is killed by SIGKILL and comes back with its files. ``lost`` counts runs that failed or whose workers had to start again;
``wrong`` counts models that differ in any bit from that of a run without outages, or whose curve lacks a step or has one twice.
"""

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from clinical_modernbert.artifacts import Artifact, Plan, open_store

from benchmarks.drill import Outcome
from benchmarks.kits.store_server import StoreServer, running_store_server
from benchmarks.kits.training_runs import (
    EVERY_STEPS,
    TWO_WORKERS,
    finish,
    is_same_run,
    kill_all,
    start_job,
    tiny,
    tiny_plan,
    tiny_store,
    unbroken,
    until,
    wait_for_step,
    workers_of,
)

_NUM_STEPS = 12 * EVERY_STEPS
_OVERRIDES = (*TWO_WORKERS, f"training.num_steps={_NUM_STEPS}", "name=away")
_POINTS = ("start", "step", "checkpoint")


def run(scratch: Path, seed: int, *, lengths_s: Sequence[float] = ()) -> Outcome:
    """Run once for each length of ``lengths_s``, by default those of the environment."""
    lengths_s = lengths_s or [float(text) for text in os.environ.get("STORE_AWAY_SECONDS", "2,15,600").split(",")]
    expected = unbroken(tiny_store(scratch / "quiet"), scratch, _NUM_STEPS)
    rng = np.random.default_rng(seed)
    with running_store_server(scratch / "s3") as server:
        runs = [
            _run(server, f"s3://{server.bucket}/{number}", scratch, expected, seconds, rng)
            for number, seconds in enumerate(lengths_s)
        ]
    kept = [not of_run["failed"] and of_run["starts"] == 1 for of_run in runs]
    return Outcome(
        injected=len(_POINTS) * len(runs),
        recovered=len(_POINTS) * sum(kept),
        lost=len(runs) - sum(kept),
        wrong=sum(bool(of_run["wrong"]) for of_run in runs),
        facts={"points": _POINTS, "runs": runs},
    )


def _run(
    server: StoreServer, root: str, scratch: Path, expected: Artifact, seconds: float, rng: np.random.Generator
) -> dict[str, object]:
    """Train once, with an outage at each point; return what became of the run."""
    store = open_store(root)
    tiny.publish_tiny_corpus(store)
    plan = tiny_plan(store, *_OVERRIDES)
    began, at_step = time.monotonic(), int(rng.integers(1, EVERY_STEPS))
    job = start_job(store, scratch, *_OVERRIDES)
    try:
        until(lambda: workers_of(job), what="a worker", job=job)
        server.die_for(seconds)
        wait_for_step(plan, at_step)
        server.die_for(seconds)
        known = _checkpoints(plan)
        until(lambda: _checkpoints(plan) - known, what="the beginning of a checkpoint", job=job)
        server.die_for(seconds)
    except BaseException:
        kill_all(job)
        raise
    record: dict[str, object] = {"away_s": seconds, "failed": "", "starts": 0, "wrong": False}
    try:
        model = finish(job, plan)
        starts = [point for point in json.loads(model.file("history.json").read_text()) if "started" in point]
        record |= {"starts": len(starts), "wrong": not is_same_run(model, expected, num_steps=_NUM_STEPS)}
    except RuntimeError as error:
        record["failed"] = str(error)[-600:]
    return record | {"seconds": round(time.monotonic() - began, 1)}


def _checkpoints(plan: Plan) -> set[str]:
    return set(plan.store.names(f"checkpoint/{plan.id}"))
