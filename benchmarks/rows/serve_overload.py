"""Three times the load that the endpoint can handle: the share of capacity that it answers, and the other statuses.

Capacity is a closed loop of 32 clients. Then the same texts arrive at three times that rate, whether or not earlier ones
were answered; texts that the endpoint cannot handle it must refuse at once with 429. Goodput is correct answers a second from the
first arrival to the last answer; the ratio is goodput over the capacity of the same round. Any other status fails the row.
"""

import atexit
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from clinical_modernbert.encoder import load_encoder

from benchmarks.harness import Row
from benchmarks.kits.endpoints import NUM_THREADS, clinical_texts, ours, publish_model
from benchmarks.kits.load import closed_loop, open_loop

NUM_CLIENTS, NUM_TEXTS, LENGTH, OVERLOAD = 32, 96, 64, 3.0
# A replica holds little more than it can queue, so that Serve's proxy refuses the rest before the replica sees it.
QUEUED_TEXTS, REQUESTS = 64, 72
_SETTINGS: dict[str, Any] = {
    "scaling.num_threads": NUM_THREADS,
    "limits.max_batch_tokens": 1024,
    "limits.max_texts": 16,
    "limits.max_queued_texts": QUEUED_TEXTS,
    "limits.max_requests": REQUESTS,
}


def build(scratch: Path) -> Row:
    """Start the endpoint and return the row; LAYERS=4 measures a shallow model."""
    layers = int(os.environ.get("LAYERS", "22"))
    export = publish_model(scratch, num_layers=layers)
    texts = clinical_texts(export, [LENGTH] * NUM_TEXTS, seed=0)
    encoder = load_encoder(export.folder)
    stack = ExitStack()
    atexit.register(stack.close)
    endpoint = stack.enter_context(ours(export, **_SETTINGS))
    facts: dict[str, Any] = {
        "layers": layers,
        "overload": OVERLOAD,
        "queued_texts": QUEUED_TEXTS,
        "max_requests": REQUESTS,
        "rounds": [],
    }
    capacity = 0.0  # of the last closed loop: the rounds take turns

    def check() -> dict[str, Any]:
        expected = encoder.embed(encoder.tokenize(texts[:4]), pooling="cls", normalize=True)
        facts["worst_difference"] = float(np.abs(endpoint.vectors(texts[:4]) - expected).max())
        if facts["worst_difference"] > 1e-5:
            raise AssertionError(f"vectors differ by up to {facts['worst_difference']}")
        return facts

    def closed() -> int:
        nonlocal capacity
        load = closed_loop(endpoint, texts, num_clients=NUM_CLIENTS)
        if load.statuses.count(200) < NUM_TEXTS:
            raise AssertionError(f"of {NUM_TEXTS} texts the endpoint refused {load.facts['failed']} at its capacity")
        capacity = NUM_TEXTS / load.wall_s
        facts["rounds"].append({"capacity": load.facts})
        return NUM_TEXTS

    def overloaded() -> int:
        if not capacity:
            closed()
        load = open_loop(endpoint, texts * int(OVERLOAD), per_s=OVERLOAD * capacity)
        strange = set(load.statuses) - {200, 429}
        if strange:
            raise AssertionError(f"the overloaded endpoint answered {sorted(strange)}")
        refused = load.statuses.count(429)
        facts["rounds"].append({"overloaded": {**load.facts, "refused": refused, "sent": len(load.statuses)}})
        return load.statuses.count(200)

    return Row(
        name="serve-overload" if layers == 22 else f"serve-overload-{layers}",
        unit="texts",
        peer="the same endpoint at its capacity",
        check=check,
        ours=overloaded,
        other=closed,
        target=">= 0.95, the rest 429",
    )
