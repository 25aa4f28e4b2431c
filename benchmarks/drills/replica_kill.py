"""Kill replicas of the endpoint under load: with the client no request may be lost, and no vector may be wrong.

Two replicas and four clients without pauses; each time both replicas run, one drawn from the seed gets a SIGKILL. Failed first
attempts are counted and printed: without a client that retries they would be lost.
"""

import random
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from clinical_modernbert.encoder import load_encoder
from clinical_modernbert.serving.client import Attempts, Client, EndpointError

from benchmarks.drill import Outcome
from benchmarks.kits.endpoints import Endpoint, clinical_texts, ours, processes_of, publish_model

NUM_KILLS, NUM_REPLICAS, NUM_CLIENTS = 20, 2, 4
_BACK_S = 300
_SETTLE_S = 20


def run(scratch: Path, seed: int) -> Outcome:
    """Kill twenty times."""
    return drill(scratch, seed=seed, num_kills=NUM_KILLS)


def drill(scratch: Path, *, seed: int, num_kills: int) -> Outcome:
    """Kill ``num_kills`` replicas, each once all are back, and account for every request."""
    export = publish_model(scratch, num_layers=1)
    rng = random.Random(seed)
    texts = clinical_texts(export, [rng.randint(10, 100) for _ in range(200)], seed=seed)
    encoder = load_encoder(export.folder)
    expected = dict(zip(texts, encoder.embed(encoder.tokenize(texts), pooling="cls", normalize=True), strict=True))
    load = _Load(expected, seed=seed)
    settings: dict[str, Any] = {"scaling.num_replicas": NUM_REPLICAS, "scaling.num_threads": 1}
    recovered, back_s = 0, []
    with ours(export, **settings) as endpoint:
        threads = [threading.Thread(target=load.client, args=(endpoint, i)) for i in range(NUM_CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            # One replica answers before the other is up; a death while the first deployment is under way would fail it.
            _wait_for_replicas(endpoint, gone=None)
            time.sleep(_SETTLE_S)
            for _ in range(num_kills):
                alive = _wait_for_replicas(endpoint, gone=None)
                victim = rng.choice(alive)
                answered, killed = load.num_answered, time.monotonic()
                psutil.Process(victim).kill()
                _wait_for_replicas(endpoint, gone=victim)
                back_s.append(round(time.monotonic() - killed, 1))
                recovered += load.num_answered > answered
        finally:
            load.stopped.set()
            for thread in threads:
                thread.join()
    facts = {
        "requests": load.num_answered + load.num_lost,
        "first_attempts_failed": sum(attempts.num_first_failures for attempts in load.attempts),
        "back_s": back_s,
        "replicas": NUM_REPLICAS,
        "clients": NUM_CLIENTS,
        "lost_by_status": load.lost,
    }
    sys.stdout.write(f"requests={facts['requests']} first_attempts_failed={facts['first_attempts_failed']}\n")
    return Outcome(injected=num_kills, recovered=recovered, lost=load.num_lost, wrong=load.num_wrong, facts=facts)


class _Load:
    """Clients that ask without rest, and what they met."""

    def __init__(self, expected: dict[str, Any], *, seed: int) -> None:
        self.stopped = threading.Event()
        self.attempts = [Attempts() for _ in range(NUM_CLIENTS)]
        self.num_answered = self.num_lost = self.num_wrong = 0
        self.lost: list[str] = []
        self._expected, self._seed, self._lock = expected, seed, threading.Lock()

    def client(self, endpoint: Endpoint, number: int) -> None:
        """Ask until told to stop."""
        client = Client(f"http://127.0.0.1:{endpoint.port}", attempts=self.attempts[number])
        rng = random.Random(self._seed * 1000 + number)
        texts = sorted(self._expected)
        while not self.stopped.is_set():
            text = rng.choice(texts)
            try:
                vector = client.embed([text], model=endpoint.model)[0]
            except EndpointError as error:
                with self._lock:
                    self.num_lost += 1
                    self.lost.append(f"{error.status} {error.code}")
                continue
            with self._lock:
                self.num_answered += 1
                self.num_wrong += float(np.abs(vector - self._expected[text]).max()) > 1e-5


def _wait_for_replicas(endpoint: Endpoint, *, gone: int | None) -> list[int]:
    """Return the replicas' processes once all are there, ``gone`` not among them."""
    deadline = time.monotonic() + _BACK_S
    while time.monotonic() < deadline:
        found = []
        for process in processes_of(endpoint.process):
            with suppress(psutil.NoSuchProcess):
                if process.name().startswith("ray::ServeReplica:encoder"):
                    found.append(process.pid)
        if gone not in found and len(found) == NUM_REPLICAS:
            return sorted(found)
        time.sleep(0.2)
    raise TimeoutError(f"the replicas were not back within {_BACK_S} s")
