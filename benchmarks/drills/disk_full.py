"""Jobs on disks that are too small: the store's own, at sizes that end at different steps, and that of scratch files.

The disks are tmpfs, so the drill needs the right to mount. Each job must end with one line that says that a disk is full, and
publish nothing. Then the disk grows, and the same command must make the artifact that it makes without a fault. ``recovered``
counts disks of which both are true, ``wrong`` what was not. A disk that was large enough is not counted.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from clinical_modernbert.artifacts import Artifact, open_store

from benchmarks.drill import Outcome
from benchmarks.kits.small_disk import grow, small_disk
from benchmarks.kits.store_jobs import JOBS

SIZES = {
    "pairs": ("4k", "8k", "12k", "16k", "20k", "24k", "28k"),
    "corpus": ("16k", "64k", "128k", "256k", "400k", "512k", "640k", "768k"),
}
SCRATCH_SIZES = {"pairs": ("4k", "12k"), "corpus": ("16k", "64k", "256k")}
_ERROR = re.compile(
    r"^error: .*(?:No space left on device|disk for this job's scratch files is full|disk of \S+ is full)", re.MULTILINE
)


def run(
    scratch: Path,
    seed: int,
    *,
    sizes: Mapping[str, Sequence[str]] = SIZES,
    scratch_sizes: Mapping[str, Sequence[str]] = SCRATCH_SIZES,
) -> Outcome:
    """Run each job on every disk."""
    problems: dict[str, list[str]] = {}
    large_enough = []
    for job_name in sizes:
        expected = JOBS[job_name].made_without_faults(scratch)
        for kind, size in [("store", s) for s in sizes[job_name]] + [("scratch", s) for s in scratch_sizes[job_name]]:
            name = f"{job_name}, {kind} of {size}"
            with small_disk(scratch / name.replace(", ", "-").replace(" ", "-"), size) as disk:
                found = _problems(name, job_name, kind, disk, scratch, expected)
            if found is None:
                large_enough.append(name)
            else:
                problems[name] = found
    return Outcome.of_ends(problems, large_enough=large_enough)


def _problems(name: str, job_name: str, kind: str, disk: Path, scratch: Path, expected: Artifact) -> list[str] | None:
    """Return what was wrong with a job on ``disk``, None where the disk was large enough."""
    job, environment = JOBS[job_name], dict[str, str]()
    store = open_store(str(disk if kind == "store" else scratch / f"next-to-{disk.name}"))
    if kind == "scratch":
        (ray := scratch / "ray").mkdir(exist_ok=True)
        environment = {"TMPDIR": str(disk), "RAY_TMPDIR": str(ray)}
    end = job.run(scratch, store, environment)
    if end.status == 0:
        return None
    found = job.problems(end, store, name, statuses=(1, 2), error=_ERROR)
    grow(disk)
    if not job.is_same(job.finished(scratch, store), expected):
        found.append(f"{name}: the same command made another artifact")
    return found
