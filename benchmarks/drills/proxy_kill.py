"""Kill Ray Serve's HTTP proxy and its controller under load: with the client no request may be lost, and no vector may be wrong.

Two replicas and four clients without pauses. Proxy and controller get a SIGKILL in turns, each once the last one is back.
Failed first attempts are counted and printed, with the seconds until the process is back and until requests are answered again.
"""

import random
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.drill import Outcome
from benchmarks.kits.client_load import ClientLoad, wait_for
from benchmarks.kits.endpoints import ours, publish_model

NUM_EACH = 5
VICTIMS = {"proxy": "ray::ProxyActor", "controller": "ray::ServeController"}
_SETTLE_S = 10.0


def run(scratch: Path, seed: int) -> Outcome:
    """Kill each five times."""
    return drill(scratch, seed=seed, num_each=NUM_EACH)


def drill(scratch: Path, *, seed: int, num_each: int) -> Outcome:
    """Kill proxy and controller ``num_each`` times and account for every request."""
    export, rng = publish_model(scratch, num_layers=1), random.Random(seed)
    load = ClientLoad(export, seed=seed)
    settings: dict[str, Any] = {"scaling.num_replicas": 2, "scaling.num_threads": 1}
    recovered = 0
    back_s: dict[str, list[float]] = {name: [] for name in VICTIMS}
    answered_s: dict[str, list[float]] = {name: [] for name in VICTIMS}
    with ours(export, **settings) as endpoint, load.running(endpoint):
        wait_for(endpoint, "ray::ServeReplica:encoder", number=2)
        for _ in range(num_each):
            for name, title in VICTIMS.items():
                (victim,) = wait_for(endpoint, title, number=1)
                time.sleep(_SETTLE_S + rng.uniform(0, 2))
                killed = time.monotonic()
                psutil.Process(victim).kill()
                load.wait_for_answers(2 * len(load.attempts))
                answered_s[name].append(round(time.monotonic() - killed, 1))
                wait_for(endpoint, title, number=1, without=victim)
                back_s[name].append(round(time.monotonic() - killed, 1))
                recovered += 1
        load.wait_for_answers(100)
    facts = {**load.facts(), "back_s": back_s, "answered_s": answered_s}
    sys.stdout.write(
        f"requests={facts['requests']} first_attempts_failed={facts['first_attempts_failed']} "
        f"answered_s={answered_s} back_s={back_s}\n"
    )
    return Outcome(
        injected=num_each * len(VICTIMS), recovered=recovered, lost=load.num_lost, wrong=load.num_wrong, facts=facts
    )
