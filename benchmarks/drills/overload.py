"""Bursts of three times the load that the endpoint can handle: each text is answered correctly or refused with 429.

A fault is one burst from the seed. It is recovered if the endpoint answers again within two seconds after the burst. A text with
a status other than 200 or 429 is lost; a vector that differs from the offline one is wrong.
"""

import json
import random
import sys
import time
from pathlib import Path

import numpy as np
from clinical_modernbert.encoder import load_encoder

from benchmarks.drill import Outcome
from benchmarks.kits.endpoints import Endpoint, clinical_texts, ours, publish_model
from benchmarks.kits.load import closed_loop, open_loop

NUM_BURSTS, OVERLOAD, BURST_S = 10, 3.0, 6.0
_CALM_S = 20.0


def run(scratch: Path, seed: int) -> Outcome:
    """Send ten bursts."""
    return drill(scratch, seed=seed, num_bursts=NUM_BURSTS)


def drill(scratch: Path, *, seed: int, num_bursts: int) -> Outcome:
    """Send ``num_bursts`` and account for every text."""
    export = publish_model(scratch, num_layers=2)
    rng = random.Random(seed)
    texts = clinical_texts(export, [rng.randint(10, 200) for _ in range(64)], seed=seed)
    encoder = load_encoder(export.folder)
    expected = dict(zip(texts, encoder.embed(encoder.tokenize(texts), pooling="cls", normalize=True), strict=True))
    limits = {"limits.max_texts": 16, "limits.max_queued_texts": 32, "limits.max_batch_tokens": 1024}
    recovered = lost = wrong = 0
    bursts = []
    with ours(export, **limits) as endpoint:
        closed_loop(endpoint, texts, num_clients=8)  # warm
        for _ in range(num_bursts):
            calm = closed_loop(endpoint, texts, num_clients=8)
            rate = OVERLOAD * len(texts) / calm.wall_s
            sent = [rng.choice(texts) for _ in range(int(rate * BURST_S))]
            load = open_loop(endpoint, sent, per_s=rate, keep=True)
            for text, (status, body) in zip(load.texts, load.answers, strict=True):
                lost += status not in (200, 429)
                if status == 200:
                    vector = np.array(json.loads(body)["data"][0]["embedding"])
                    wrong += float(np.abs(vector - expected[text]).max()) > 1e-5
            recovered += _calms(endpoint, texts[0])
            counts = {str(status): load.statuses.count(status) for status in sorted(set(load.statuses))}
            bursts.append({"per_s": round(rate, 1), **counts})
            sys.stdout.write(f"burst at {rate:.1f} a second: {counts}\n")
    return Outcome(injected=num_bursts, recovered=recovered, lost=lost, wrong=wrong, facts={"bursts": bursts})


def _calms(endpoint: Endpoint, text: str) -> bool:
    """Whether a request is answered again, and at once, within a while."""
    deadline = time.monotonic() + _CALM_S
    connection = endpoint.connect()
    while time.monotonic() < deadline:
        started = time.monotonic()
        if endpoint.ask(connection, text)[0] == 200 and time.monotonic() - started < 2.0:
            return True
        time.sleep(0.1)
    return False
