"""Our endpoint against others' over the same weights: a closed loop of 32 clients with clinical texts of 10 to 2,000 tokens.

Each of infinity, ray-embedding and FastAPI with sentence-transformers first gets one round alone; the fastest of them is
the peer of the interleaved rounds. The bound is our own bulk rate: the same texts through the encoder in one process,
sorted and packed, without HTTP. 1, 8 and 64 clients are one round each, for the table. Vectors are compared before any
timing. The result has texts a second, latencies and the endpoints' CPU seconds of every round.
``SERVE_DESIGN=threads`` measures one replica of two threads instead of two of one; LAYERS=4 a shallow model.
"""

import atexit
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from clinical_modernbert.encoder import load_encoder

from benchmarks.harness import Row
from benchmarks.kits.endpoints import (
    NUM_THREADS,
    PEERS,
    Endpoint,
    clinical_texts,
    mixed_lengths,
    ours,
    peer,
    publish_model,
)
from benchmarks.kits.load import closed_loop

NUM_CLIENTS, NUM_TEXTS = 32, 40
OTHER_CLIENTS = {1: 6, 8: 16, 64: 64}
DESIGNS: dict[str, dict[str, Any]] = {
    "threads": {"scaling.num_replicas": 1, "scaling.num_threads": NUM_THREADS},
    "replicas": {"scaling.num_replicas": NUM_THREADS, "scaling.num_threads": 1},
}
BATCH_TOKENS = 2048


def build(scratch: Path) -> Row:
    """Find the best peer, start both sides and return the row."""
    layers = int(os.environ.get("LAYERS", "22"))
    export = publish_model(scratch, num_layers=layers)
    texts = clinical_texts(export, mixed_lengths(NUM_TEXTS, seed=1), seed=1)
    design = os.environ.get("SERVE_DESIGN", "replicas")
    about = {"layers": layers, "design": design, "batch_tokens": BATCH_TOKENS}
    facts: dict[str, Any] = {**about, "peers_alone": {}, "clients": {}}
    vectors, rates = {}, {}
    for name in PEERS:
        with peer(export, name) as endpoint:
            vectors[name] = endpoint.vectors([*texts[:4], max(texts, key=len)])
            found = closed_loop(endpoint, texts, num_clients=NUM_CLIENTS).facts
            facts["peers_alone"][endpoint.name] = found
            rates[name] = found["texts_per_s"]
            sys.stderr.write(f"{endpoint.name}: {found}\n")
    best = max(rates, key=lambda name: float(rates[name]))
    stack = ExitStack()
    atexit.register(stack.close)
    mine = stack.enter_context(ours(export, **DESIGNS[design], **{"limits.max_batch_tokens": BATCH_TOKENS}))
    other = stack.enter_context(peer(export, best))
    encoder = load_encoder(export.folder)
    torch.set_num_threads(NUM_THREADS)

    def check() -> dict[str, Any]:
        expected = mine.vectors([*texts[:4], max(texts, key=len)])
        for name, found_ND in vectors.items():
            worst = float(np.abs(found_ND - expected).max())
            if worst > 1e-4:
                raise AssertionError(f"{PEERS[name].title}: vectors differ by up to {worst}")
            facts.setdefault("worst_difference", {})[PEERS[name].title] = worst
        for number, size in OTHER_CLIENTS.items():
            some = clinical_texts(export, mixed_lengths(size, seed=number), seed=number)
            facts["clients"][number] = {
                endpoint.name: closed_loop(endpoint, some, num_clients=number).facts for endpoint in (mine, other)
            }
        return facts

    def bulk() -> int:
        encoder.embed(encoder.tokenize(texts), pooling="cls", normalize=True, max_batch_tokens=BATCH_TOKENS)
        return len(texts)

    def round_of(endpoint: Endpoint) -> Callable[[], int]:
        def run() -> int:
            load = closed_loop(endpoint, texts, num_clients=NUM_CLIENTS)
            facts.setdefault("rounds", {}).setdefault(endpoint.name, []).append(load.facts)
            return sum(status == 200 for status in load.statuses)

        return run

    return Row(
        name="-".join(["serve", *([design] if design != "replicas" else []), *([str(layers)] if layers != 22 else [])]),
        unit="texts",
        peer=other.name,
        check=check,
        ours=round_of(mine),
        other=round_of(other),
        bound=bulk,
        target=">= 2 at 32 clients with p99 no worse; >= 0.9 of our own bulk rate",
    )
