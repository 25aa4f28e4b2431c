"""Break the network before the S3 server, and the server itself, while jobs write to it: each job ends as it does without faults.

A proxy cuts requests and answers in the middle, stalls, slows down and answers 503; then the server is killed by SIGKILL, stays
away for seconds and comes back with its files. Corpus builds and training runs of two workers take turns until every fault has
struck. ``lost`` counts jobs that failed; ``wrong`` counts corpora that differ in any byte and models that differ in any bit.
"""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from clinical_modernbert.artifacts import Artifact, Store, open_store, resolve

from benchmarks.drill import Outcome
from benchmarks.kits.fault_proxy import KINDS, Fault, FaultProxy
from benchmarks.kits.store_server import StoreServer, running_store_server
from benchmarks.kits.training_runs import (
    TWO_WORKERS,
    finish,
    same_weights,
    start_job,
    start_script,
    steps_of,
    tiny,
    tiny_plan,
    tiny_store,
)

_NUM_STEPS = 20
_NUM_DOCUMENTS = 400
_LONGEST_CUT_BYTES = 40_000
_AWAY_S = 5.0
_JOBS = ("corpus", "pretrain")


@dataclass(slots=True)
class _Jobs:
    """The jobs that run under faults, and what they make without any."""

    scratch: Path
    expected: dict[str, Artifact]
    runs: list[dict[str, object]] = field(default_factory=list)

    def run(self, kind: str, store: Store) -> None:
        """Run one job to its end and record what became of it."""
        began = time.monotonic()
        record: dict[str, object] = {"job": kind, "failed": "", "wrong": False}
        try:
            made = run_job(kind, store, self.scratch)
            record["wrong"] = _differs(kind, made, self.expected[kind])
        except RuntimeError as error:
            record["failed"] = str(error)[-600:]
        self.runs.append({**record, "seconds": round(time.monotonic() - began, 1)})


def run(scratch: Path, seed: int, *, num_each: int = 20, num_kills: int = 5) -> Outcome:
    """Inject ``num_each`` faults of every kind of the network, then ``num_kills`` deaths of the server."""
    quiet = tiny_store(scratch / "quiet")
    jobs = _Jobs(scratch, {kind: run_job(kind, quiet, scratch) for kind in _JOBS})
    rng = np.random.default_rng(seed)
    with running_store_server(scratch / "s3") as server:
        proxy = server.proxy
        faults = [_drawn(kind, rng) for kind in KINDS for _ in range(num_each)]
        rng.shuffle(faults)
        while len(proxy.struck) < len(faults):
            with _armed(proxy, faults[len(proxy.struck) :], rng):
                jobs.run(_JOBS[len(jobs.runs) % 2], _fresh_store(server.bucket, len(jobs.runs)))
        kills = 0
        while kills < num_kills:
            with _dying(server, rng, limit=num_kills - kills) as deaths:
                jobs.run(_JOBS[len(jobs.runs) % 2], _fresh_store(server.bucket, len(jobs.runs)))
            kills += len(deaths)
    lost = sum(bool(job["failed"]) for job in jobs.runs)
    return Outcome(
        injected=len(faults) + kills,
        recovered=(len(faults) + kills) if not lost else 0,
        lost=lost,
        wrong=sum(bool(job["wrong"]) for job in jobs.runs),
        facts={"struck": dict(Counter(fault.kind for fault in proxy.struck)), "server_kills": kills, "jobs": jobs.runs},
    )


def run_job(kind: str, store: Store, scratch: Path) -> Artifact:
    """Run one job as its user does and return what it made; raises ``RuntimeError`` where it fails."""
    if kind == "pretrain":
        tiny.publish_tiny_corpus(store)
        overrides = (*TWO_WORKERS, f"training.num_steps={_NUM_STEPS}")
        return finish(start_job(store, scratch, *overrides), tiny_plan(store, *overrides))
    recipe = scratch / "corpus.yaml"
    recipe.write_text(
        "kind: corpus\nname: corpus\n"
        f"sources: [{{type: synthetic_notes, name: notes, num_documents: {_NUM_DOCUMENTS}}}]\n"
        "tokenizer: {base: train, vocabulary_size: 1024, num_clinical_tokens: 8, training_megabytes: 1}\n"
    )
    job = start_script("build_corpus", recipe, store)
    _, errors = job.communicate(timeout=600)
    if job.returncode:
        raise RuntimeError(f"the job ended with {job.returncode}: {errors[-3000:]}")
    return resolve(store, "corpus", "corpus")


def _differs(kind: str, made: Artifact, expected: Artifact) -> bool:
    if kind == "corpus":
        return [entry.sha256 for entry in made.manifest.files] != [entry.sha256 for entry in expected.manifest.files]
    complete = [point["step"] for point in steps_of(made)] == list(range(_NUM_STEPS))
    return not (complete and same_weights(made, expected))


def _drawn(kind: str, rng: np.random.Generator) -> Fault:
    after = int(rng.integers(_LONGEST_CUT_BYTES)) if rng.random() < 0.7 else 0
    seconds = {"stall": 35.0, "slow": 0.2}.get(kind, 0.0)  # a stall outlasts the client's wait for bytes
    return Fault(kind, after_bytes=after, seconds=seconds)  # type: ignore[arg-type]


def _fresh_store(bucket: str, number: int) -> Store:
    return open_store(f"s3://{bucket}/{number}")


@contextmanager
def _armed(proxy: FaultProxy, faults: list[Fault], rng: np.random.Generator) -> Iterator[None]:
    """Arm the faults one after the other while the block runs; the next one waits until the last has struck."""
    ended, already = threading.Event(), len(proxy.struck)

    def arm() -> None:
        for number, fault in enumerate(faults):
            while len(proxy.struck) < already + number:
                if ended.wait(0.05):
                    return
            if ended.wait(float(rng.uniform(0.1, 1.5))):
                return
            proxy.arm(fault)

    thread = threading.Thread(target=arm)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


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
