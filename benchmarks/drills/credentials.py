"""Jobs on S3 with a missing bucket, wrong, absent and read-only keys, and keys that are changed while the job runs.

Each job must end with status 2 and one line, and publish nothing; the same command with the right keys must then make the
artifact that it makes without a fault. ``wrong`` counts what was not as it should be.
"""

import re
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from clinical_modernbert.artifacts import Store, open_store

from benchmarks.drill import Outcome
from benchmarks.kits.store_jobs import JOBS, Ended
from benchmarks.kits.store_server import StoreServer, running_store_server

NUM_CHANGES = 5
_NAMES = ("pairs", "corpus")
_CHANGED = "corpus"  # the job that runs for seconds
_ERROR = re.compile(r"^error: s3://\S+: .+ failed with \w+|^error: .*(?:bucket|AWS_ACCESS_KEY_ID)", re.MULTILINE)


def run(scratch: Path, seed: int, *, num_changes: int = NUM_CHANGES, names: Sequence[str] = _NAMES) -> Outcome:
    """Run each job with each fault, then without."""
    rng, problems = np.random.default_rng(seed), dict[str, list[str]]()
    with running_store_server(scratch / "s3") as server:
        for job_name in names:
            job, quiet = JOBS[job_name], open_store(str(scratch / f"quiet-{job_name}"))
            expected = job.finished(scratch, quiet)
            store = open_store(f"s3://{server.bucket}/{job_name}")
            for fault, environment in _faults(server).items():
                name = f"{job_name}, {fault}"
                end = job.run(scratch, "s3://absent/drill" if fault == "missing bucket" else store.uri, environment)
                problems[name] = end.problems(name, statuses=(2,), error=_ERROR)
                if job.made(store):
                    problems[name].append(f"{name}: something was published")
            for number in range(num_changes if job_name == _CHANGED else 0):
                name, other = f"{job_name}, key changed, {number}", open_store(f"s3://{server.bucket}/changed-{number}")
                problems[name] = _change_key(name, other, server, scratch, after_s=float(rng.uniform(0, 2)))
                store = other
            if not job.is_same(job.finished(scratch, store), expected):
                problems[f"{job_name}, afterwards"] = [f"{job_name}: another artifact afterwards"]
    wrong = [problem for found in problems.values() for problem in found]
    return Outcome(
        injected=len(problems),
        recovered=sum(not found for found in problems.values()),
        lost=0,
        wrong=len(wrong),
        facts={"problems": wrong, "faults": sorted(problems)},
    )


def _faults(server: StoreServer) -> dict[str, dict[str, str]]:
    return {
        "missing bucket": {},
        "wrong key": {"AWS_ACCESS_KEY_ID": "nobody"},
        "wrong secret": {"AWS_SECRET_ACCESS_KEY": "wrong"},
        "no keys": {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""},
        "read-only key": server.reader,
    }


def _change_key(name: str, store: Store, server: StoreServer, scratch: Path, *, after_s: float) -> list[str]:
    """Change the secret of the server while a job writes, and change it back when the job has ended."""
    job = JOBS[_CHANGED]
    process, deadline = job.start(scratch, store, {}), time.monotonic() + 300
    while not store.names("work/corpus") and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(after_s)
    server.die_for(0, secret_key="changed")
    _, errors = process.communicate(timeout=600)
    server.die_for(0)
    if process.returncode == 0:
        return [f"{name}: the job had ended before"]
    found = Ended(process.returncode, errors).problems(name, statuses=(2,), error=_ERROR)
    return found + ([f"{name}: something was published"] if job.made(store) else [])
