"""Clients that ask an endpoint without pauses while faults are injected, and what became of every request."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import psutil
from clinical_modernbert.encoder import load_encoder
from clinical_modernbert.serving.client import Attempts, Client, EndpointError

from benchmarks.kits.endpoints import Endpoint, Export, clinical_texts, processes_of

NUM_CLIENTS = 4
_BACK_S = 300


class ClientLoad:
    """Clients that retry, and compare each vector with the offline one."""

    def __init__(self, export: Export, *, seed: int) -> None:
        rng = random.Random(seed)
        texts = clinical_texts(export, [rng.randint(10, 100) for _ in range(200)], seed=seed)
        encoder = load_encoder(export.folder)
        vectors = encoder.embed(encoder.tokenize(texts), pooling="cls", normalize=True)
        self.attempts = [Attempts() for _ in range(NUM_CLIENTS)]
        self.num_answered = self.num_lost = self.num_wrong = 0
        self.lost: list[str] = []
        self._expected = dict(zip(texts, vectors, strict=True))
        self._seed, self._stopped, self._lock = seed, threading.Event(), threading.Lock()

    @contextmanager
    def running(self, endpoint: Endpoint) -> Iterator[None]:
        """Ask for the length of the block."""
        threads = [threading.Thread(target=self._client, args=(endpoint, i)) for i in range(NUM_CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            ended = sum(not thread.is_alive() for thread in threads)  # by an error that is no answer: it asks no more
            self.num_lost += ended
            self.lost += ["a client ended"] * ended
            self._stopped.set()
            for thread in threads:
                thread.join()

    def wait_for_answers(self, number: int) -> None:
        """Wait until ``number`` more requests are answered."""
        wanted, deadline = self.num_answered + number, time.monotonic() + _BACK_S
        while self.num_answered < wanted:
            if time.monotonic() > deadline:
                raise TimeoutError(f"no answers for {_BACK_S} s")
            time.sleep(0.05)

    def facts(self) -> dict[str, Any]:
        """Return requests, first attempts that failed by cause, and what was lost."""
        causes: dict[str, int] = {}
        for attempts in self.attempts:
            for cause, number in attempts.first_failures.items():
                causes[cause] = causes.get(cause, 0) + number
        return {
            "requests": self.num_answered + self.num_lost,
            "first_attempts_failed": sum(causes.values()),
            "first_failures": causes,
            "clients": NUM_CLIENTS,
            "lost_by_status": self.lost,
        }

    def _client(self, endpoint: Endpoint, number: int) -> None:
        client = Client(f"http://127.0.0.1:{endpoint.port}", attempts=self.attempts[number])
        rng = random.Random(self._seed * 1000 + number)
        texts = sorted(self._expected)
        while not self._stopped.is_set():
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


def wait_for(endpoint: Endpoint, title: str, *, number: int, without: int | None = None) -> list[int]:
    """Return the ``number`` processes of the endpoint whose title begins so, once they are there and ``without`` is not."""
    deadline = time.monotonic() + _BACK_S
    while time.monotonic() < deadline:
        found = processes_named(endpoint, lambda name: name.startswith(title))
        if without not in found and len(found) == number:
            return sorted(found)
        time.sleep(0.2)
    raise TimeoutError(f"{title}: not {number} processes within {_BACK_S} s")


def processes_named(endpoint: Endpoint, is_wanted: Callable[[str], bool]) -> list[int]:
    """Return the endpoint's processes with a wanted title."""
    found = []
    for process in processes_of(endpoint.process):
        with suppress(psutil.NoSuchProcess):
            if is_wanted(" ".join(process.cmdline()) or process.name()):
                found.append(process.pid)
    return found
