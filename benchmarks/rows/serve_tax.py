"""The cost of Ray Serve: our endpoint on Ray Serve against the same app and engine on bare uvicorn, texts of 128 tokens.

Both have one process with all threads of the machine, the same batches and 32 clients; the loads alternate. LAYERS=4 measures a
shallow model, for which the cost of Ray Serve is a larger share.
"""

import atexit
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Row
from benchmarks.kits.endpoints import NUM_THREADS, Endpoint, clinical_texts, ours, publish_model
from benchmarks.kits.load import closed_loop

NUM_CLIENTS, NUM_TEXTS, LENGTH = 32, 64, 128


def build(scratch: Path) -> Row:
    """Start both servers and return the row."""
    layers = int(os.environ.get("LAYERS", "22"))
    export = publish_model(scratch, num_layers=layers)
    texts = clinical_texts(export, [LENGTH] * NUM_TEXTS, seed=0)
    settings = {"scaling.num_threads": NUM_THREADS, "limits.max_batch_tokens": 2048}
    stack = ExitStack()
    atexit.register(stack.close)
    on_ray = stack.enter_context(ours(export, server="ray", **settings))
    bare = stack.enter_context(ours(export, server="uvicorn", **settings))
    facts: dict[str, Any] = {"layers": layers, "tokens_per_text": LENGTH, "clients": NUM_CLIENTS, "rounds": {}}

    def check() -> dict[str, Any]:
        worst = float(np.abs(on_ray.vectors(texts[:4]) - bare.vectors(texts[:4])).max())
        if worst > 1e-5:
            raise AssertionError(f"vectors differ by up to {worst}")
        facts["worst_difference"] = worst
        return facts

    def round_of(endpoint: Endpoint) -> Callable[[], int]:
        def run() -> int:
            load = closed_loop(endpoint, texts, num_clients=NUM_CLIENTS)
            facts["rounds"].setdefault(endpoint.name, []).append(load.facts)
            return sum(status == 200 for status in load.statuses)

        return run

    return Row(
        name="serve-tax" if layers == 22 else f"serve-tax-{layers}",
        unit="texts",
        peer="the same app on bare uvicorn",
        check=check,
        ours=round_of(on_ray),
        other=round_of(bare),
        target=">= 0.9",
    )
