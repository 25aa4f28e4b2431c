"""Kill every kind of job with all of its processes while it writes to the store, and give the same command again.

After each kill the artifact is absent or whole. The same command then makes what it makes without a kill. What was in the store
before is as it was, and no file stays that is in no manifest. The moment is drawn between a job's first object and a little after
its manifest; a job that had ended is not counted. ``JOB_KILL_JOBS=map,spans`` leaves out the others. ``lost`` counts files that
were gone or changed, ``wrong`` what else was not as it should be, and kinds that were not killed, or only after their manifest
although they write for longer than a moment.
"""

import os
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from clinical_modernbert.artifacts import Artifact, Store, list_artifacts, open_store
from clinical_modernbert.artifacts.layout import KINDS, MANIFEST_NAME, SIGNATURE_NAME

from benchmarks.drill import Outcome
from benchmarks.kits.store_jobs import JOBS, Job, is_whole
from benchmarks.kits.training_runs import kill_all, steps_of

NUM_EACH = 3
_MOST_MISSED = 3
_LOOK_S = 0.01
_AFTER_MANIFEST = 1.2
"""Kills are drawn up to so many times the seconds from the first object to the manifest."""
_MOMENT_S = 0.5


def run(scratch: Path, seed: int) -> Outcome:
    """Kill jobs of every kind."""
    return drill(scratch, seed, names=os.environ.get("JOB_KILL_JOBS", ",".join(JOBS)).split(","))


def drill(scratch: Path, seed: int, *, names: Sequence[str], num_each: int = NUM_EACH) -> Outcome:
    """Kill each job of ``names`` ``num_each`` times."""
    rng, kills, missed, unpublished = np.random.default_rng(seed), Counter[str](), Counter[str](), Counter[str]()
    lost, wrong, recovered = list[str](), list[str](), 0
    for name in names:
        job, (expected, seconds) = JOBS[name], _timed(JOBS[name], scratch)
        while kills[name] < num_each and missed[name] <= _MOST_MISSED:
            store = _prepared(job, scratch)
            before = _files(store)
            if not _kill(job, scratch, store, after_s=float(rng.uniform(0, _AFTER_MANIFEST * seconds))):
                missed[name] += 1
                continue
            kills[name] += 1
            unpublished[name] += job.made(store) is None
            found = [f"{name}: {problem}" for problem in _problems(job, scratch, store, expected)]
            gone = [f"{name}: {key}" for key, etag in before.items() if _files(store).get(key) != etag]
            recovered += not found and not gone
            wrong, lost = wrong + found, lost + gone
        if not kills[name] or (seconds > _MOMENT_S and not unpublished[name]):
            wrong.append(f"{name}: {kills[name]} kills, none of them before the manifest")
    facts = {"kills": dict(kills), "before_the_manifest": dict(unpublished), "had_ended": dict(missed)}
    facts |= {"wrong": wrong, "lost": lost}
    return Outcome(injected=kills.total(), recovered=recovered, lost=len(lost), wrong=len(wrong), facts=facts)


def _prepared(job: Job, scratch: Path) -> Store:
    store = open_store(tempfile.mkdtemp(prefix=f"{job.kind}-", dir=scratch))
    job.prepare(store, scratch)
    return store


def _files(store: Store) -> dict[str, tuple[int, str]]:
    return {item.key: (item.size_bytes, item.version) for item in store.walk("")}


def _started(job: Job, scratch: Path, store: Store) -> "subprocess.Popen[str]":
    """Start a job and wait for its first object, or its end."""
    before = _files(store)
    process = job.start(scratch, store, {})
    while process.poll() is None and _files(store).keys() <= before.keys():
        time.sleep(_LOOK_S)
    return process


def _timed(job: Job, scratch: Path) -> tuple[Artifact, float]:
    """Run a job without a fault; return its artifact, and the seconds from its first object to its manifest."""
    store = _prepared(job, scratch)
    process = _started(job, scratch, store)
    began = time.monotonic()
    while process.poll() is None and job.made(store) is None:
        time.sleep(_LOOK_S)
    seconds = time.monotonic() - began
    _, errors = process.communicate(timeout=900)
    artifact = job.made(store)
    if process.returncode or artifact is None:
        raise RuntimeError(f"the job ended with {process.returncode}: {errors[-3000:]}")
    return artifact, seconds


def _kill(job: Job, scratch: Path, store: Store, *, after_s: float) -> bool:
    """Kill a job ``after_s`` after its first object; return whether it still ran."""
    process = _started(job, scratch, store)
    time.sleep(after_s)
    if process.poll() is not None:
        return False
    kill_all(process)
    return True


def _problems(job: Job, scratch: Path, store: Store, expected: Artifact) -> list[str]:
    """Return what is wrong with the store after a kill, and with what the same command then makes."""
    found = []
    seen = job.made(store)
    if seen is not None and not is_whole(seen):
        found.append("the artifact is not whole after the kill")
    end = job.run(scratch, store)
    made = job.made(store)
    if end.status or made is None:
        return [*found, f"the same command ended with {end.status}: {end.errors[-500:]}"]
    if not job.is_same(made, expected):
        found.append(f"the same command made another artifact: {_difference(made, expected)}")
    artifacts = [one for kind in KINDS for one in list_artifacts(store, kind)]
    known = {f"{one.prefix}/{entry.path}" for one in artifacts for entry in one.manifest.files}
    known |= {f"{one.prefix}/{name}" for one in artifacts for name in (MANIFEST_NAME, SIGNATURE_NAME)}
    return found + [f"{key} stayed" for key in sorted(_files(store).keys() - known)]


def _difference(made: Artifact, expected: Artifact) -> str:
    """Return the files that differ, and for a model the steps of its curve."""
    wanted = {entry.path: entry.sha256 for entry in expected.manifest.files}
    files = [entry.path for entry in made.manifest.files if wanted.get(entry.path) != entry.sha256]
    is_run = any(entry.path == "history.json" for entry in made.manifest.files)
    return f"{files}" + (f", steps {[point['step'] for point in steps_of(made)]}" if is_run else "")
