"""Load on an endpoint from threads of this process: closed loops and arrivals at a rate; answers are read but not parsed."""

import http.client
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.kits.endpoints import Endpoint


@dataclass(slots=True)
class Load:
    """What the clients of one closed-loop round met."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    """Of the endpoint's processes."""
    latencies_s: list[float] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    """What was sent, where it is kept."""
    answers: list[tuple[int, bytes]] = field(default_factory=list)
    """Status and body of each of ``texts``."""

    @property
    def facts(self) -> dict[str, Any]:
        """Texts a second, latencies and CPU seconds, for a row's result."""
        good = sum(status == 200 for status in self.statuses)
        percentiles = np.percentile(self.latencies_s, [50, 99]).round(3).tolist() if self.latencies_s else [None, None]
        return {
            "texts_per_s": round(good / self.wall_s, 3),
            "p50_s": percentiles[0],
            "p99_s": percentiles[1],
            "cpu_s": round(self.cpu_s, 2),
            "wall_s": round(self.wall_s, 2),
            "failed": len(self.statuses) - good,
        }


def closed_loop(endpoint: Endpoint, texts: Sequence[str], *, num_clients: int) -> Load:
    """Send every text once: each client asks for the next text as soon as it has its answer."""
    load, lock, waiting = Load(), threading.Lock(), iter(list(texts))

    def client() -> None:
        connection = endpoint.connect()
        while True:
            with lock:
                text = next(waiting, None)
            if text is None:
                connection.close()
                return
            started = time.perf_counter()
            status, _ = endpoint.ask(connection, text)
            with lock:
                load.latencies_s.append(time.perf_counter() - started)
                load.statuses.append(status)

    threads = [threading.Thread(target=client) for _ in range(num_clients)]
    cpu, started = endpoint.cpu_s(), time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    load.wall_s, load.cpu_s = time.perf_counter() - started, endpoint.cpu_s() - cpu
    return load


def open_loop(endpoint: Endpoint, texts: Sequence[str], *, per_s: float, keep: bool = False) -> Load:
    """Send each text at its own time, evenly ``per_s`` a second, whether or not earlier ones were answered.

    ``keep`` keeps texts and answers in ``Load``, in the order in which they ended. The time runs to the last answer.
    """
    load, lock = Load(), threading.Lock()
    idle: list[http.client.HTTPConnection] = []

    def request(text: str, due: float) -> None:
        with lock:
            connection = idle.pop() if idle else endpoint.connect()
        try:
            status, body = endpoint.ask(connection, text)
        except (OSError, http.client.HTTPException):
            status, body, connection = 0, b"", endpoint.connect()
        with lock:
            idle.append(connection)
            load.latencies_s.append(time.perf_counter() - due)
            load.statuses.append(status)
            if keep:
                load.texts.append(text)
                load.answers.append((status, body))

    cpu, started = endpoint.cpu_s(), time.perf_counter()
    with ThreadPoolExecutor(max_workers=256) as pool:
        for i, text in enumerate(texts):
            due = started + i / per_s
            time.sleep(max(due - time.perf_counter(), 0))
            pool.submit(request, text, due)
    load.wall_s, load.cpu_s = time.perf_counter() - started, endpoint.cpu_s() - cpu
    for connection in idle:
        connection.close()
    return load
