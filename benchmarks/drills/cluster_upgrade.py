"""Upgrade the endpoint to a new cluster: it takes over when it is ready, and the old one drains."""

from pathlib import Path

from benchmarks.drill import Outcome
from benchmarks.kits.cluster import Cluster
from benchmarks.kits.cluster_faults import NUM_WORKERS, SETTINGS, drill
from benchmarks.kits.cluster_release import active_cluster, endpoint_is_settled, ready_workers, upgrade


def run(scratch: Path, seed: int) -> Outcome:
    """Upgrade a few times, each with another annotation of the pods. There is nothing to draw from the seed."""
    before: list[str] = []

    def inject(cluster: Cluster) -> None:
        before.append(active_cluster(cluster))
        upgrade(cluster, *SETTINGS, f"workerGroups.cpu.annotations.drill=after-{before[-1]}")

    def recovered(cluster: Cluster) -> bool:
        moved = active_cluster(cluster) not in before
        return moved and endpoint_is_settled(cluster) and len(ready_workers(cluster)) == NUM_WORKERS

    return drill(scratch, inject=inject, recovered=recovered)
