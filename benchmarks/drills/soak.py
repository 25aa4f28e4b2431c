"""Mixed load on the endpoint and 16 viewers of the explorer for an hour: no error, and memory that does not grow.

Four clients without a retry ask for vectors of one to 64 texts, words at a mask, tokens and ranks; the viewers open all pages.
After a quarter of the time as warm-up, a line is fitted to the memory of both servers: ``wrong`` counts a slope of 1 % an hour or
more, ``lost`` failed requests and pages. ``injected`` are requests and pages. ``SOAK_MINUTES`` sets another time; slopes of less
than an hour are noise.
"""

import os
import random
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from clinical_modernbert.serving.client import Client, EndpointError

from benchmarks.drill import Outcome
from benchmarks.kits.endpoints import Endpoint, clinical_texts, ours, publish_model
from benchmarks.kits.explorer_viewers import Viewers, running_explorer
from benchmarks.kits.training_runs import tiny_store

MINUTES, NUM_CLIENTS, NUM_VIEWERS = 60.0, 4, 16
_EVERY_S = 10.0
_WORST_PERCENT_AN_HOUR = 1.0


def run(scratch: Path, seed: int) -> Outcome:
    """Load both for ``SOAK_MINUTES``."""
    return drill(scratch, seed, minutes=float(os.environ.get("SOAK_MINUTES", MINUTES)))


def drill(scratch: Path, seed: int, *, minutes: float, server: str = "ray") -> Outcome:
    """Load endpoint and explorer for ``minutes``."""
    export = publish_model(scratch, num_layers=1)
    tiny_store(export.root)
    load = _Load(clinical_texts(export, [20, 40, 80, 160] * 16, seed=seed))
    with (
        ours(export, server=server) as endpoint,
        running_explorer(str(export.root), scratch / "explorer.log") as (url, page),
    ):
        viewers = Viewers(url)
        threads = [threading.Thread(target=load.client, args=(endpoint, seed + n)) for n in range(NUM_CLIENTS)]
        threads += [threading.Thread(target=viewers.view, args=(seed + n,)) for n in range(NUM_VIEWERS)]
        for thread in threads:
            thread.start()
        memory: dict[str, list[float]] = {"endpoint": [], "explorer": []}
        processes: list[dict[str, float]] = []
        ended = time.monotonic() + 60 * minutes
        try:
            while time.monotonic() < ended:
                processes.append(_memory_mb(endpoint.process.pid))
                memory["endpoint"].append(sum(processes[-1].values()))
                memory["explorer"].append(sum(_memory_mb(page.pid).values()))
                time.sleep(_EVERY_S)
        finally:
            num_ended = sum(not thread.is_alive() for thread in threads)  # a client that fails otherwise asks no more
            load.stopped.set()
            viewers.stopped.set()
            for thread in threads:
                thread.join()
        still_there = endpoint.process.poll() is None and page.poll() is None
    slopes = {name: percent_an_hour(values) for name, values in memory.items()}
    lost = len(load.errors) + len(viewers.errors) + num_ended + (not still_there)
    facts: dict[str, Any] = {"minutes": minutes, "percent_an_hour": slopes, "requests": load.num_answered}
    facts |= {"pages": viewers.pages, "errors": (load.errors + viewers.errors)[:20]}
    facts |= {"ended_clients": num_ended}
    facts |= {"memory_mb": {name: _course(values) for name, values in memory.items()}}
    facts |= {
        "endpoint_memory_mb": {name: _course([one.get(name, 0.0) for one in processes]) for name in processes[-1]}
    }
    return Outcome(
        injected=load.num_answered + viewers.pages + lost,
        recovered=load.num_answered + viewers.pages,
        lost=lost,
        wrong=sum(slope >= _WORST_PERCENT_AN_HOUR for slope in slopes.values()),
        facts=facts,
    )


class _Load:
    """Clients that do not retry."""

    def __init__(self, texts: list[str]) -> None:
        self.stopped = threading.Event()
        self.num_answered, self.errors = 0, list[str]()
        self._texts, self._lock = texts, threading.Lock()

    def client(self, endpoint: Endpoint, seed: int) -> None:
        """Ask until told to stop."""
        client, rng = Client(f"http://127.0.0.1:{endpoint.port}", max_attempts=1), random.Random(seed)
        while not self.stopped.is_set():
            texts = rng.sample(self._texts, rng.choice([1, 1, 1, 4, 16, 64]))
            try:
                match rng.randrange(5):
                    case 0:
                        client.fill_mask(f"{texts[0]} [MASK]")
                    case 1:
                        client.call("POST", "/tokenize", {"inputs": texts})
                    case 2:
                        client.call("POST", "/rerank", {"query": texts[0], "texts": texts})
                    case _:
                        client.embed(texts, model=endpoint.model)
            except EndpointError as error:
                with self._lock:
                    self.errors.append(f"{error.status} {error.code}")
                continue
            with self._lock:
                self.num_answered += 1


def _memory_mb(pid: int) -> dict[str, float]:
    """Return the memory of a process and of all that came from it, by name."""
    found: Counter[str] = Counter()
    for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            # The title of a Ray worker is its first word; a path has its last part as name.
            title = (process.cmdline() or [process.name()])[0]
            name = title if title.startswith("ray::") else process.name()
            found[name] += process.memory_info().rss / (1 << 20)
    return found


def _course(values: list[float]) -> list[float]:
    """Return the first value, those after each quarter, and the last."""
    return [round(values[min(len(values) * quarter // 4, len(values) - 1)], 1) for quarter in range(5)]


def percent_an_hour(values: list[float]) -> float:
    """Return the slope after the first quarter, in percent of its level an hour."""
    steady = np.array(values[len(values) // 4 :])
    hours_N = np.arange(len(steady)) * _EVERY_S / 3600
    return round(float(np.polyfit(hours_N, steady, 1)[0] / steady.mean() * 100), 2) if len(steady) > 1 else 0.0
