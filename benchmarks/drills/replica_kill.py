"""Kill replicas of the endpoint under load: with the client no request may be lost, and no vector may be wrong.

Two replicas and four clients without pauses; each time both replicas run, one drawn from the seed gets a SIGKILL. Failed first
attempts are counted and printed: without a client that retries they would be lost.
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

NUM_KILLS, NUM_REPLICAS = 20, 2
_REPLICA = "ray::ServeReplica:encoder"


def run(scratch: Path, seed: int) -> Outcome:
    """Kill twenty times."""
    return drill(scratch, seed=seed, num_kills=NUM_KILLS)


def drill(scratch: Path, *, seed: int, num_kills: int) -> Outcome:
    """Kill ``num_kills`` replicas, each once all are back, and account for every request."""
    export, rng = publish_model(scratch, num_layers=1), random.Random(seed)
    load = ClientLoad(export, seed=seed)
    settings: dict[str, Any] = {"scaling.num_replicas": NUM_REPLICAS, "scaling.num_threads": 1}
    recovered, back_s = 0, []
    with ours(export, **settings) as endpoint, load.running(endpoint):
        for _ in range(num_kills):
            victim = rng.choice(wait_for(endpoint, _REPLICA, number=NUM_REPLICAS))
            answered, killed = load.num_answered, time.monotonic()
            psutil.Process(victim).kill()
            wait_for(endpoint, _REPLICA, number=NUM_REPLICAS, without=victim)
            back_s.append(round(time.monotonic() - killed, 1))
            recovered += load.num_answered > answered
    facts = {**load.facts(), "back_s": back_s, "replicas": NUM_REPLICAS}
    sys.stdout.write(f"requests={facts['requests']} first_attempts_failed={facts['first_attempts_failed']}\n")
    return Outcome(injected=num_kills, recovered=recovered, lost=load.num_lost, wrong=load.num_wrong, facts=facts)
