"""Every kind of job on S3 with a missing bucket, wrong, absent and read-only keys, and keys that are changed while the job runs.

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
from benchmarks.kits.training_runs import until

NUM_CHANGES = 5
_CHANGED = "corpus"  # the job that runs for seconds
_ERROR = re.compile(r"^error: .*s3://\S+: .+ failed with \w+|^error: .*(?:bucket|AWS_ACCESS_KEY_ID)", re.MULTILINE)


def run(scratch: Path, seed: int, *, num_changes: int = NUM_CHANGES, names: Sequence[str] = tuple(JOBS)) -> Outcome:
    """Run each job with each fault, then without."""
    rng, problems = np.random.default_rng(seed), dict[str, list[str]]()
    with running_store_server(scratch / "s3") as server:
        for job_name in names:
            job, expected = JOBS[job_name], JOBS[job_name].made_without_faults(scratch)
            store = open_store(f"s3://{server.bucket}/{job_name}")
            job.prepare(store, scratch)
            for fault, environment in _faults(server).items():
                name = f"{job_name}, {fault}"
                end = job.run(scratch, "s3://absent/drill" if fault == "missing bucket" else store.uri, environment)
                problems[name] = job.problems(end, store, name, statuses=(2,), error=_ERROR)
            for number in range(num_changes if job_name == _CHANGED else 0):
                name, other = f"{job_name}, key changed, {number}", open_store(f"s3://{server.bucket}/changed-{number}")
                problems[name] = _change_key(name, other, server, scratch, after_s=float(rng.uniform(0, 2)))
                store = other
            if not job.is_same(job.finished(scratch, store), expected):
                problems[f"{job_name}, afterwards"] = [f"{job_name}: another artifact afterwards"]
    return Outcome.of_ends(problems)


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
    process = job.start(scratch, store, {})
    until(lambda: store.names("work/corpus") or process.poll() is not None, what="a file of the job")
    time.sleep(after_s)
    server.die_for(0, secret_key="changed")
    _, errors = process.communicate(timeout=600)
    server.die_for(0)
    if process.returncode == 0:
        return [f"{name}: the job had ended before"]
    return job.problems(Ended(process.returncode, errors), store, name, statuses=(2,), error=_ERROR)
