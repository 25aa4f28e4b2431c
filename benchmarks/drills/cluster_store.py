"""Kill the pod of the trial store: the endpoint answers without it, and the next pod has the same objects."""

from pathlib import Path

from benchmarks.drill import Outcome
from benchmarks.kits.cluster import FULL_NAME, NAMESPACE, RELEASE, Cluster
from benchmarks.kits.cluster_faults import drill, kill_pod
from benchmarks.kits.cluster_release import is_ready

_STORE = f"{FULL_NAME}-store-0"


def run(scratch: Path, seed: int) -> Outcome:
    """Kill it a few times, each until `helm test` passes. There is nothing to draw from the seed.

    `helm test` writes, reads and deletes an object, and finds the endpoint's model. Its own seconds count as recovery.
    """
    killed = set[str]()

    def inject(cluster: Cluster) -> None:
        killed.add(cluster.get("pod", _STORE)["metadata"]["uid"])
        kill_pod(cluster, _STORE)

    def recovered(cluster: Cluster) -> bool:
        pod = cluster.get("pod", _STORE)
        if not pod or pod["metadata"]["uid"] in killed or not is_ready(pod):
            return False
        return cluster.run("helm", "test", RELEASE, "--namespace", NAMESPACE, check=False).returncode == 0

    return drill(scratch, inject=inject, recovered=recovered)
