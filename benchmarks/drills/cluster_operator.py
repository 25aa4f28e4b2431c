"""Kill KubeRay's operator: the endpoint answers without it, and the next operator takes over its lease."""

from pathlib import Path
from typing import Any

from benchmarks.drill import Outcome
from benchmarks.kits.cluster import Cluster
from benchmarks.kits.cluster_faults import drill, kill_pod
from benchmarks.kits.cluster_release import endpoint_is_ready

_PODS = ("--all-namespaces", "--selector", "app.kubernetes.io/component=kuberay-operator")
_LEASES = ("--all-namespaces", "--field-selector", "metadata.name=ray-operator-leader")


def run(scratch: Path, seed: int) -> Outcome:
    """Kill it a few times. There is nothing to draw from the seed."""
    killed = set[str]()

    def inject(cluster: Cluster) -> None:
        for pod in cluster.list("pods", *_PODS):
            killed.add(pod["metadata"]["name"])
            kill_pod(cluster, pod["metadata"]["name"], namespace=pod["metadata"]["namespace"])

    def recovered(cluster: Cluster) -> bool:
        leaders = {leader(lease) for lease in cluster.list("leases", *_LEASES)} - {""}
        return bool(leaders) and not leaders & killed and endpoint_is_ready(cluster)

    return drill(scratch, inject=inject, recovered=recovered)


def leader(lease: dict[str, Any]) -> str:
    """Return the name of the pod that holds a lease: the holder is the pod's name, an underscore and a random id."""
    return str(lease["spec"].get("holderIdentity") or "").partition("_")[0]
