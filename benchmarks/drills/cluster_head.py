"""Kill the head pod of the endpoint's cluster: its workers end after it, and KubeRay starts all of them again."""

from pathlib import Path

from benchmarks.drill import Outcome
from benchmarks.kits.cluster import Cluster
from benchmarks.kits.cluster_faults import NUM_WORKERS, drill, kill_pod
from benchmarks.kits.cluster_release import endpoint_is_ready, ready_heads, worker_containers


def run(scratch: Path, seed: int) -> Outcome:
    """Kill the head a few times. There is nothing to draw from the seed."""
    lost = set[str]()

    def inject(cluster: Cluster) -> None:
        lost.update(worker_containers(cluster))
        for head in ready_heads(cluster):
            kill_pod(cluster, head)

    def recovered(cluster: Cluster) -> bool:
        # Workers of the old head answer for some time, and are ready meanwhile.
        workers = worker_containers(cluster) - lost
        return len(ready_heads(cluster)) == 1 and len(workers) == NUM_WORKERS and endpoint_is_ready(cluster)

    return drill(scratch, inject=inject, recovered=recovered)
