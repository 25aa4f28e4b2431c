"""Break the network before the S3 server, and the server itself, while jobs write to it: each job ends as it does without faults.

A proxy cuts requests and answers in the middle, stalls, slows down and answers 503, each after so many bytes. A fault counts
once it has come to pass, and is armed again where its connection ended before. Then the server is killed by SIGKILL, stays away
for seconds and comes back with its files. Every job that publishes an artifact takes turns until every fault has struck
(``STORE_FAULTS_JOBS=map,spans`` leaves out the others). At last the server stays away, from the start or once a job writes:
each job must end with status 3 and one line, and the same command must finish once the server is back. Training waits for the
store (the drill ``store-away``), so jobs that train are not among those whose server stays away while they write. A job that had
written all of its artifact before the server died is not counted.

``lost`` counts jobs that failed, ``wrong`` artifacts that differ from those made without faults (corpora, pairs and vectors in
any byte, models in any bit, spans and reports but for the times of their runs) or cannot be read whole, and ends that were not as
they should be.
"""

import os
import re
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from clinical_modernbert.artifacts import Artifact, Store, open_store
from clinical_modernbert.errors import ArtifactError

from benchmarks.drill import Outcome
from benchmarks.kits.fault_proxy import KINDS, Fault, FaultProxy
from benchmarks.kits.store_jobs import JOBS
from benchmarks.kits.store_server import StoreServer, running_store_server

_LONGEST_CUT_BYTES = 40_000
_AWAY_S = 5.0
_BETWEEN_S = (2.0, 4.0)
_STATUS_OF_OUTAGE = 3
_THAT_WAIT = ("training", "contrast", "sweep")
_OUTAGE = re.compile(r"^error: s3://\S+: .+ failed with \w+", re.MULTILINE)


@dataclass(slots=True)
class _Runs:
    """The jobs that run under faults, and what they make without any."""

    scratch: Path
    names: Sequence[str]
    expected: dict[str, Artifact] = field(default_factory=dict)
    runs: list[dict[str, object]] = field(default_factory=list)

    def make_expected(self) -> None:
        """Run each job on a store without faults."""
        for name in self.names:
            self.expected[name] = JOBS[name].made_without_faults(self.scratch)

    def next(self, bucket: str) -> tuple[str, Store]:
        """Return the next kind of job and a store of its own, with what the job needs."""
        name, store = self.names[len(self.runs) % len(self.names)], open_store(f"s3://{bucket}/{len(self.runs)}")
        JOBS[name].prepare(store, self.scratch)
        return name, store

    def run(self, name: str, store: Store) -> None:
        """Run a job to its end and record how it ended."""
        began = time.monotonic()
        end = JOBS[name].run(self.scratch, store)
        failed = "" if end.status == 0 else f"status {end.status}: {end.errors[-600:]}"
        self.runs.append({"job": name, "failed": failed, "seconds": round(time.monotonic() - began, 1)})

    def check(self, name: str, store: Store) -> None:
        """Record what is wrong with what the last job has published; without faults, which would strike this process."""
        self.runs[-1]["wrong"] = self.problem(name, store)

    def problem(self, name: str, store: Store) -> str:
        """Return what is wrong with what a job has published; an absent artifact is not wrong."""
        artifact = JOBS[name].made(store)
        if artifact is None:
            return ""
        try:
            with tempfile.TemporaryDirectory() as cache:
                artifact.folder(cache_path=Path(cache))
        except ArtifactError as error:
            return f"{name} is not whole: {error}"
        return "" if JOBS[name].is_same(artifact, self.expected[name]) else f"{name} differs"


def run(scratch: Path, seed: int) -> Outcome:
    """Run the whole drill."""
    return drill(scratch, seed, names=os.environ.get("STORE_FAULTS_JOBS", ",".join(JOBS)).split(","))


def drill(scratch: Path, seed: int, *, num_each: int = 20, num_kills: int = 20, names: Sequence[str]) -> Outcome:
    """Inject ``num_each`` faults of each kind of the network, ``num_kills`` deaths of the server, and one outage in each job."""
    runs, rng = _Runs(scratch, names), np.random.default_rng(seed)
    runs.make_expected()
    outages: dict[str, str | None] = {}
    with running_store_server(scratch / "s3") as server:
        faults = [_drawn(kind, rng) for kind in KINDS for _ in range(num_each)]
        rng.shuffle(faults)
        while len(server.proxy.done) < len(faults):
            name, store = runs.next(server.bucket)
            with _armed(server.proxy, faults, rng):
                runs.run(name, store)
            runs.check(name, store)
        kills = 0
        while kills < num_kills:
            name, store = runs.next(server.bucket)
            with _dying(server, rng, limit=num_kills - kills) as deaths:
                runs.run(name, store)
            runs.check(name, store)
            kills += len(deaths)
        for name in names:
            outages[f"{name}, from the start"] = _outage(name, runs, server, at_start=True)
            if name not in _THAT_WAIT:
                outages[f"{name}, while it writes"] = _outage(name, runs, server, at_start=False)
    return _outcome(runs, server.proxy, kills, outages)


def _outcome(runs: _Runs, proxy: FaultProxy, kills: int, outages: dict[str, str | None]) -> Outcome:
    injected = len(proxy.done) + kills + sum(problem is not None for problem in outages.values())
    lost = sum(bool(job["failed"]) for job in runs.runs)
    bad_outages = [problem for problem in outages.values() if problem]
    return Outcome(
        injected=injected,
        recovered=injected - len(bad_outages) if not lost else 0,
        lost=lost,
        wrong=sum(bool(job["wrong"]) for job in runs.runs) + len(bad_outages),
        facts={
            "came_to_pass": dict(Counter(fault.kind for fault in proxy.done)),
            "missed": len(proxy.missed),
            "server_kills": kills,
            "outages": outages,
            "jobs_of_each_kind": dict(Counter(str(job["job"]) for job in runs.runs)),
            "jobs": runs.runs,
        },
    )


def _outage(name: str, runs: _Runs, server: StoreServer, *, at_start: bool) -> str | None:
    """Kill the server before the job, or once it writes, until it has ended; return what was wrong with this end, or the next.

    None where a job had written all of its artifact before the server died, as one that writes in a tenth of a second.
    """
    store = open_store(f"s3://{server.bucket}/outage-{name}-{at_start}")
    JOBS[name].prepare(store, runs.scratch)
    before = {item.key for item in store.walk("")}
    ended = threading.Event()

    def kill() -> None:
        while not at_start and not {item.key for item in store.walk("")} - before:
            if ended.wait(0.02):
                return
        server.kill()

    thread = threading.Thread(target=kill)
    thread.start()
    if at_start:
        thread.join()
    try:
        end = JOBS[name].run(runs.scratch, store)
    finally:
        ended.set()
        thread.join()
    server.die_for(0)
    if end.status == 0 and not at_start:
        return runs.problem(name, store) or None
    problems = end.problems(name, statuses=(_STATUS_OF_OUTAGE,), error=_OUTAGE)
    problems += [runs.problem(name, store)]
    again = JOBS[name].run(runs.scratch, store)
    problems += [f"{name}: the same command ended with {again.status}: {again.errors[-500:]}"] if again.status else []
    problems += [runs.problem(name, store)] if JOBS[name].made(store) else [f"{name}: nothing was published"]
    return "; ".join(problem for problem in problems if problem)


def _drawn(kind: str, rng: np.random.Generator) -> Fault:
    # Most answers have some hundred bytes, and most bytes are in a few large ones.
    after = int(_LONGEST_CUT_BYTES ** rng.random()) if rng.random() < 0.7 else 0
    seconds = {"stall": 35.0, "slow": 0.2}.get(kind, 0.0)  # a stall outlasts the client's wait for bytes
    is_closed = bool(rng.random() < 0.5)
    return Fault(kind, after_bytes=after, seconds=seconds, is_closed=is_closed)  # type: ignore[arg-type]


@contextmanager
def _armed(proxy: FaultProxy, faults: list[Fault], rng: np.random.Generator) -> Iterator[None]:
    """Arm the faults that have not come to pass one after the other while the block runs, each until it has."""
    ended = threading.Event()

    def arm() -> None:
        while (number := len(proxy.done)) < len(faults):
            # Longer than a client's first wait: if each try met a fault, no large file would ever be read.
            if ended.wait(float(rng.uniform(*_BETWEEN_S))):
                return
            fault, missed = faults[number], len(proxy.missed)
            proxy.arm(fault)
            while len(proxy.done) == number and len(proxy.missed) == missed:
                if ended.wait(0.05):
                    return
            # The next fault drops all connections: it must not end a stall before the client gives up.
            if len(proxy.done) > number and ended.wait(fault.seconds):
                return

    thread = threading.Thread(target=arm)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        proxy.disarm()


@contextmanager
def _dying(server: StoreServer, rng: np.random.Generator, *, limit: int) -> Iterator[list[float]]:
    """Kill the server every few seconds while the block runs, at most ``limit`` times; yields the times of the kills."""
    ended, deaths = threading.Event(), list[float]()

    def kill() -> None:
        while len(deaths) < limit and not ended.wait(float(rng.uniform(4, 12))):
            deaths.append(time.monotonic())
            server.die_for(_AWAY_S)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield deaths
    finally:
        ended.set()
        thread.join()
