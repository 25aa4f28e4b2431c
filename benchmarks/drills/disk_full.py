"""Every kind of job on disks that are too small: the store's own, which ends at different steps, and that of scratch files.

The disks are tmpfs, so the drill needs the right to mount. What is free is a share of the artifact's size, once the disk has what
the job needs. Each job must end with one line that says that a disk is full, and publish nothing. Then the disk grows, and the
same command must make the artifact that it makes without a fault. ``recovered`` counts disks of which both are true, ``wrong``
what was not. A disk on which the job made that artifact was large enough and is not counted. ``DISK_FULL_JOBS=map,spans`` leaves
out the other jobs.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from clinical_modernbert.artifacts import Artifact, open_store

from benchmarks.drill import Outcome
from benchmarks.kits.small_disk import grow, leave_free, small_disk
from benchmarks.kits.store_jobs import JOBS

SHARES = (0.0, 0.4, 0.9)
"""Of the artifact's bytes, that are free on the disk of the store."""
SCRATCH_SHARES = (0.0, 0.5)
_ERROR = re.compile(
    r"^error: .*(?:No space left on device|disk for this job's scratch files is full|disk of \S+ is full)", re.MULTILINE
)


def run(scratch: Path, seed: int) -> Outcome:
    """Run each job on every disk."""
    return drill(scratch, names=os.environ.get("DISK_FULL_JOBS", ",".join(JOBS)).split(","))


def drill(
    scratch: Path,
    *,
    names: Sequence[str],
    shares: Sequence[float] = SHARES,
    scratch_shares: Sequence[float] = SCRATCH_SHARES,
) -> Outcome:
    """Run the jobs of ``names`` on stores and scratch disks with these shares free."""
    problems: dict[str, list[str]] = {}
    large_enough = []
    for job_name in names:
        expected = JOBS[job_name].made_without_faults(scratch)
        for kind, share in [("store", s) for s in shares] + [("scratch", s) for s in scratch_shares]:
            name = f"{job_name}, {kind}, {share:.0%} free"
            with small_disk(scratch / f"{job_name}-{kind}-{share}") as disk:
                found = _problems(name, job_name, kind, share, disk, scratch, expected)
            if found is None:
                large_enough.append(name)
            else:
                problems[name] = found
    return Outcome.of_ends(problems, large_enough=large_enough)


def _problems(
    name: str, job_name: str, kind: str, share: float, disk: Path, scratch: Path, expected: Artifact
) -> list[str] | None:
    """Return what was wrong with a job on ``disk``, None where the disk was large enough."""
    job, environment = JOBS[job_name], dict[str, str]()
    store = open_store(str(disk if kind == "store" else scratch / f"next-to-{disk.name}"))
    job.prepare(store, scratch)
    if kind == "scratch":
        (ray := scratch / "ray").mkdir(exist_ok=True)
        environment = {"TMPDIR": str(disk), "RAY_TMPDIR": str(ray)}
    leave_free(disk, int(share * sum(entry.size_bytes for entry in expected.manifest.files)))
    end = job.run(scratch, store, environment)
    if end.status == 0:
        made = job.made(store)
        return None if made and job.is_same(made, expected) else [f"{name}: status 0, and no artifact or another one"]
    found = job.problems(end, store, name, statuses=(1, 2), error=_ERROR)
    grow(disk)
    if not job.is_same(job.finished(scratch, store), expected):
        found.append(f"{name}: the same command made another artifact")
    return found
