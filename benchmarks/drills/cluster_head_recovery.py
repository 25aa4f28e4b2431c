"""Kill the head pod of an endpoint with ``endpoint.headRecovery``: its state is in Redis, so the workers stay and answer.

``CLUSTER_REDIS`` is the address as pods reach it, such as redis://redis.ml:6379, and ``CLUSTER_REDIS_PASSWORD`` its password.
"""

import base64
import os
from pathlib import Path

from benchmarks.drill import Outcome
from benchmarks.kits.cluster import Cluster
from benchmarks.kits.cluster_faults import NUM_WORKERS, drill, kill_pod
from benchmarks.kits.cluster_release import endpoint_is_ready, ready_heads, ready_workers

_SECRET = "head-recovery"


def run(scratch: Path, seed: int) -> Outcome:
    """Kill the head a few times. There is nothing to draw from the seed."""
    address, password = (os.environ.get(name) for name in ("CLUSTER_REDIS", "CLUSTER_REDIS_PASSWORD"))
    if not address or not password:
        raise ValueError(
            "CLUSTER_REDIS and CLUSTER_REDIS_PASSWORD are not set: the address of a Redis and its password"
        )
    data = {"password": base64.b64encode(password.encode()).decode()}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": _SECRET}, "data": data}
    recovery = {"redisAddress": address, "existingSecret": _SECRET}
    killed = set[str]()

    def inject(cluster: Cluster) -> None:
        for head in ready_heads(cluster):
            killed.add(head)
            kill_pod(cluster, head)

    def recovered(cluster: Cluster) -> bool:
        heads = set(ready_heads(cluster)) - killed
        return len(heads) == 1 and len(ready_workers(cluster)) == NUM_WORKERS and endpoint_is_ready(cluster)

    settings = tuple(f"endpoint.headRecovery.{name}={value}" for name, value in recovery.items())
    return drill(scratch, inject=inject, recovered=recovered, objects=(secret,), settings=settings)
