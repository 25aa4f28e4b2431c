"""Jobs whose clock jumps by an hour, forwards and backwards, while they run: pairs and corpora on S3, training on two workers.

The clock is that of Python's ``time.time`` and of the S3 client, changed in every process of a job some seconds after its start.
S3 refuses requests that are signed more than 15 minutes off, so such a job may end with one line; the same command under a right
clock then makes the artifact that it makes without a fault. Training must end with the same weights. ``wrong`` counts what was
not as it should be.
"""

import os
import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
from clinical_modernbert.artifacts import open_store

from benchmarks.drill import Outcome
from benchmarks.kits.store_jobs import JOBS
from benchmarks.kits.store_server import running_store_server

_NAMES = ("pairs", "corpus", "training")
AFTER_S = {"pairs": (0.0, 1.0), "corpus": (1.0, 15.0), "training": (5.0, 20.0)}
"""Range of the seconds from the start of a process to the jump."""
NUM_EACH = 5
JUMPS = {"an hour forwards": 3600.0, "an hour backwards": -3600.0}
_ERROR = re.compile(r"^error: s3://\S+: .+ failed with \w+", re.MULTILINE)
# Python imports a module of this name at its start.
SITECUSTOMIZE = """
import datetime, os, time
_jump, _after = float(os.environ["DRILL_JUMP_S"]), float(os.environ["DRILL_AFTER_S"])
_begin, _time = time.monotonic(), time.time
def _now():
    return _time() + (_jump if time.monotonic() - _begin > _after else 0)
time.time = _now
import minio.time
minio.time.utcnow = lambda: datetime.datetime.fromtimestamp(_now(), datetime.timezone.utc)
"""


def run(scratch: Path, seed: int, *, num_each: int = NUM_EACH, names: Sequence[str] = _NAMES) -> Outcome:
    """Jump ``num_each`` times each way in each job; training keeps its artifacts in a folder."""
    rng, problems, ends = np.random.default_rng(seed), dict[str, list[str]](), dict[str, int]()
    (site := scratch / "site").mkdir()
    (site / "sitecustomize.py").write_text(SITECUSTOMIZE)
    with running_store_server(scratch / "s3") as server:
        for job_name in names:
            job, expected = JOBS[job_name], JOBS[job_name].made_without_faults(scratch)
            for number, (jump_name, jump_s) in product(range(num_each), JUMPS.items()):
                name, folder = f"{job_name}, {jump_name}, {number}", f"{job_name}{jump_s:.0f}-{number}"
                root = str(scratch / folder) if job_name == "training" else f"s3://{server.bucket}/{folder}"
                store = open_store(root)
                job.prepare(store, scratch)
                environment = {
                    "DRILL_JUMP_S": str(jump_s),
                    "DRILL_AFTER_S": f"{rng.uniform(*AFTER_S[job_name]):.1f}",
                    "PYTHONPATH": f"{site}:{os.environ.get('PYTHONPATH', '')}",
                }
                end = job.run(scratch, store, environment)
                ends[name] = end.status
                allowed = (2, 3) if job_name != "training" else ()
                problems[name] = end.problems(name, statuses=allowed, error=_ERROR) if end.status else []
                if not job.is_same(job.finished(scratch, store), expected):
                    problems[name].append(f"{name}: another artifact")
    return Outcome.of_ends(problems, status_of_jobs=ends)
