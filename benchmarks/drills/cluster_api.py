"""Kill the API server, by the command in ``CLUSTER_KILL_API``: the endpoint answers without it.

Where a kubelet restarts it as a static pod: ``docker exec kind-control-plane pkill -9 kube-apiserver``.
"""

import os
import time
from pathlib import Path

from benchmarks.drill import Outcome
from benchmarks.kits.cluster import Cluster
from benchmarks.kits.cluster_faults import drill
from benchmarks.kits.cluster_release import endpoint_is_ready

_PAUSE_S = 5


def run(scratch: Path, seed: int) -> Outcome:
    """Kill it a few times. There is nothing to draw from the seed."""
    command = os.environ.get("CLUSTER_KILL_API")
    if not command:
        raise ValueError("CLUSTER_KILL_API is not set: it is the command that kills the API server of this cluster")

    def inject(cluster: Cluster) -> None:
        cluster.run("bash", "-c", command, check=False)
        time.sleep(_PAUSE_S)  # the old process may answer once more

    def recovered(cluster: Cluster) -> bool:
        answers = cluster.run("kubectl", "get", "--raw", "/readyz", check=False).returncode == 0
        return answers and endpoint_is_ready(cluster)

    return drill(scratch, inject=inject, recovered=recovered)
