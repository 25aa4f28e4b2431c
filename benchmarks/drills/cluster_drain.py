"""Drain the node of an endpoint's worker: on one node the disruption budget keeps one of two workers until the node is back."""

from pathlib import Path

from benchmarks.drill import Outcome
from benchmarks.kits.cluster import Cluster
from benchmarks.kits.cluster_faults import NUM_WORKERS, drill
from benchmarks.kits.cluster_release import ready_workers

_SELECTOR = "--pod-selector=app.kubernetes.io/component=endpoint,ray.io/node-type=worker"
DRAIN_S = 60


def run(scratch: Path, seed: int) -> Outcome:
    """Drain for at most ``DRAIN_S``, then let pods onto the node again. There is nothing to draw from the seed."""

    def inject(cluster: Cluster) -> None:
        node = cluster.get("pod", ready_workers(cluster)[0])["spec"]["nodeName"]
        drain = ("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", _SELECTOR, f"--timeout={DRAIN_S}s")
        cluster.run("kubectl", *drain, check=False)
        left = ready_workers(cluster)
        cluster.run("kubectl", "uncordon", node)
        assert left, "the drain left no worker: the disruption budget did not hold"

    def recovered(cluster: Cluster) -> bool:
        return len(ready_workers(cluster)) == NUM_WORKERS

    return drill(scratch, inject=inject, recovered=recovered)
