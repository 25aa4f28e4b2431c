"""Crash a job at each of its calls of the store: a reader sees the old artifact or the new one, never a mix.

For every kind of artifact a job publishes a folder in the way of all jobs, and dies before, and in another round after, each call
that changes the store. After each crash the artifact is absent or whole, and an artifact of the same name that was finished
before is as it was. The same command then finishes and leaves no file that is not in a manifest. Then a second job of the same
recipe, which makes other bytes, runs while the first one is finished: it must not change a file.

The set of pairs is also made by its own job. ``wrong`` counts artifacts that a reader saw and that were not whole, ``lost`` old
ones that were gone, and files that stayed.
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from clinical_modernbert.artifacts import Artifact, ObjectInfo, Plan, Store, find_artifact, make_plan, open_store
from clinical_modernbert.artifacts.layout import KINDS, MANIFEST_NAME, SIGNATURE_NAME, work_prefix
from clinical_modernbert.artifacts.leftovers import sweep_leftovers
from clinical_modernbert.corpus.pairs.build import build_pairs
from clinical_modernbert.errors import ArtifactError
from clinical_modernbert.recipe import CorpusRecipe, PairsRecipe, build_recipe

from benchmarks.drill import Outcome

Job = Callable[[Plan[Any]], Artifact]
_FILES = ("a.bin", "below/b.bin", "c.bin")


class _Killed(BaseException):
    """Stands for the death of the process: no ``except Exception`` may see it."""


@dataclass(slots=True)
class DyingStore:
    """A store whose ``dies_at``-th change, from 0, is the last thing its process does, or just not any more."""

    store: Store
    dies_at: int
    is_after: bool
    changes: int = 0
    uri: str = field(init=False)

    def __post_init__(self) -> None:
        self.uri = self.store.uri

    def read_bytes(self, key: str) -> bytes:
        return self.store.read_bytes(key)

    def info(self, key: str) -> ObjectInfo:
        return self.store.info(key)

    def read_range(self, key: str, first: int, size_bytes: int, *, version: str) -> bytes:
        return self.store.read_range(key, first, size_bytes, version=version)

    def get_file(self, key: str, local_path: Path) -> Path:
        return self.store.get_file(key, local_path)

    def check_writable(self, key: str) -> None:
        self.store.check_writable(key)

    def walk(self, prefix: str) -> Iterator[ObjectInfo]:
        return self.store.walk(prefix)

    def names(self, prefix: str) -> list[str]:
        return self.store.names(prefix)

    def write_bytes(self, key: str, data: bytes) -> None:
        self._change(lambda: self.store.write_bytes(key, data))

    def put_file(self, local_path: Path, key: str) -> None:
        self._change(lambda: self.store.put_file(local_path, key))

    def delete(self, key: str) -> None:
        self._change(lambda: self.store.delete(key))

    def clear(self, prefix: str) -> None:
        for item in [*self.store.walk(prefix)]:
            self.delete(item.key)

    def _change(self, change: Callable[[], None]) -> None:
        number, self.changes = self.changes, self.changes + 1
        if number == self.dies_at and not self.is_after:
            raise _Killed
        change()
        if number == self.dies_at:
            raise _Killed


@dataclass(slots=True)
class _Counts:
    crashes: Counter[str] = field(default_factory=Counter)
    recovered: int = 0
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def run(scratch: Path, seed: int) -> Outcome:
    """Crash the job of every kind, and the one that makes a set of pairs, at every call."""
    return crash_jobs(scratch, KINDS, pairs=True)


def crash_jobs(scratch: Path, kinds: Sequence[str], *, pairs: bool) -> Outcome:
    """Crash jobs of ``kinds`` at every call, and with ``pairs`` also the real one."""
    counts = _Counts()
    for kind in kinds:
        _crash_everywhere(kind, partial(_plan, kind), _publish, scratch, counts)
        _finish_twice(kind, scratch / f"twice-{kind}", counts)
    if pairs:
        _crash_everywhere("pairs by its job", partial(_pairs_plan, scratch), build_pairs, scratch, counts)
    return Outcome(
        injected=counts.crashes.total(),
        recovered=counts.recovered,
        lost=len(counts.lost),
        wrong=len(counts.wrong),
        facts={"crashes": dict(counts.crashes), "lost": counts.lost, "wrong": counts.wrong},
    )


def _crash_everywhere(
    name: str, planned: Callable[[Store, int], Plan[Any]], job: Job, scratch: Path, counts: _Counts
) -> None:
    for is_after in (False, True):
        number = 0
        while True:
            with tempfile.TemporaryDirectory(dir=scratch) as folder:
                store = open_store(folder)
                old = job(planned(store, 1))
                dying = DyingStore(store, number, is_after)
                try:
                    _start(planned(dying, 2), job)
                    break  # it made fewer calls
                except _Killed:
                    counts.crashes[name] += 1
                counts.recovered += _is_recovered(f"{name}, call {number}", old, planned(store, 2), job, counts)
            number += 1


def _start(plan: Plan[Any], job: Job) -> Artifact:
    """Do what ``job.main`` does around a job."""
    plan.store.write_bytes(f"{work_prefix(plan.kind, plan.id)}/step.json", b"{}")
    finished = plan.existing()
    artifact = finished or job(plan)
    sweep_leftovers(plan, artifact)
    return artifact


def _is_recovered(name: str, old: Artifact, plan: Plan[Any], job: Job, counts: _Counts) -> bool:
    before = len(counts.lost) + len(counts.wrong)
    seen = plan.existing()
    if seen is not None and not _is_whole(seen):
        counts.wrong.append(f"{name}: the new artifact is not whole")
    if not _is_whole(old):
        counts.lost.append(f"{name}: the old artifact is not whole")
    finished = _start(plan, job)
    if not _is_whole(finished):
        counts.wrong.append(f"{name}: the artifact is not whole after the second run")
    known = {f"{a.prefix}/{e.path}" for a in (old, finished) for e in a.manifest.files}
    stayed = [item.key for item in plan.store.walk("") if item.key not in known]
    stayed = [key for key in stayed if key.rpartition("/")[2] not in (MANIFEST_NAME, SIGNATURE_NAME)]
    if stayed:
        counts.lost.append(f"{name}: {stayed} stayed")
    return before == len(counts.lost) + len(counts.wrong)


def _finish_twice(kind: str, folder: Path, counts: _Counts) -> None:
    """A second job of the same recipe began before the first one ended; it may change nothing."""
    store = open_store(str(folder))
    first = _publish(_plan(kind, store, 1))
    counts.crashes[f"{kind} twice"] += 1
    _publish(_plan(kind, store, 1), content=b"other bytes")
    found = find_artifact(store, kind, first.manifest.id)
    if found is None or found.manifest != first.manifest or not _is_whole(found):
        counts.wrong.append(f"{kind}: a second job changed the first one's files")
    else:
        counts.recovered += 1


def _is_whole(artifact: Artifact) -> bool:
    found = find_artifact(artifact.store, artifact.manifest.kind, artifact.manifest.id)
    try:
        with tempfile.TemporaryDirectory() as cache:
            return found is not None and found.folder(cache_path=Path(cache)).is_dir()
    except ArtifactError:
        return False


def _plan(kind: str, store: Store, version: int) -> Plan[Any]:
    """Return a plan of ``kind``; a job of any kind publishes in one way, whatever its recipe."""
    source = {"type": "synthetic_notes", "name": "notes", "num_documents": version}
    recipe = build_recipe(CorpusRecipe, {"kind": "corpus", "name": "drill", "sources": [source]}, origin="drill")
    made = make_plan(recipe, store)
    return Plan(recipe, store, kind, made.fingerprint, {}, ())


def _publish(plan: Plan[Any], content: bytes = b"bytes") -> Artifact:
    with tempfile.TemporaryDirectory() as name:
        for file in _FILES:
            path = Path(name) / file
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content + plan.id.encode())
        return plan.publish_folder(Path(name), summary={})


def _pairs_plan(scratch: Path, store: Store, version: int) -> Plan[PairsRecipe]:
    table = scratch / "pairs.csv"
    if not table.exists():
        table.write_text("anchor,positive\n" + "".join(f"fever {n},pyrexia {n}\n" for n in range(50)))
    values = {
        "kind": "pairs",
        "name": "drill",
        "held_out": {"seed": version},
        "sources": [
            {"type": "term_table", "name": "t", "path": str(table), "term_column": "anchor", "name_column": "positive"}
        ],
    }
    return make_plan(build_recipe(PairsRecipe, values, origin="drill"), store)
