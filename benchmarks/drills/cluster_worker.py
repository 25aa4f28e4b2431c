"""Kill a worker pod of the endpoint, drawn from the seed, while two serve: KubeRay replaces it."""

import random
from pathlib import Path

from benchmarks.drill import Outcome
from benchmarks.kits.cluster import Cluster
from benchmarks.kits.cluster_faults import NUM_WORKERS, drill, kill_pod
from benchmarks.kits.cluster_release import ready_workers


def run(scratch: Path, seed: int) -> Outcome:
    """Kill some workers, each once two are ready."""
    rng, killed = random.Random(seed), set[str]()

    def inject(cluster: Cluster) -> None:
        killed.add(victim := rng.choice(ready_workers(cluster)))
        kill_pod(cluster, victim)

    def recovered(cluster: Cluster) -> bool:
        return len(set(ready_workers(cluster)) - killed) == NUM_WORKERS

    return drill(scratch, inject=inject, recovered=recovered)
