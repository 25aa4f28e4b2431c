"""Kill the process of a replica inside a worker pod, drawn from the seed: Ray Serve starts another one, and the pod stays."""

import random
from pathlib import Path
from typing import Any

from benchmarks.drill import Outcome
from benchmarks.kits.cluster import Cluster
from benchmarks.kits.cluster_faults import NUM_WORKERS, drill
from benchmarks.kits.cluster_release import ENDPOINT, ready_workers

_FIND = 'grep -l "^ray::ServeReplica" /proc/[0-9]*/cmdline 2>/dev/null | cut -d/ -f3 | head -1'


def run(scratch: Path, seed: int) -> Outcome:
    """Kill some replicas, each once all are healthy."""
    rng, killed = random.Random(seed), set[tuple[str, str]]()

    def inject(cluster: Cluster) -> None:
        replicas = sorted(_replicas(cluster))
        killed.add(victim := rng.choice(replicas))
        _in_worker(cluster, victim[0], f"kill -9 {victim[1]}")

    def recovered(cluster: Cluster) -> bool:
        replicas = _replicas(cluster) - killed
        return len(replicas) == NUM_WORKERS and replicas_are_healthy(cluster.get("rayservice", ENDPOINT))

    return drill(scratch, inject=inject, recovered=recovered)


def replicas_are_healthy(service: dict[str, Any]) -> bool:
    """Whether Serve calls all deployments of a RayService healthy, as of the operator's last look two seconds ago or less."""
    applications = service["status"]["activeServiceStatus"]["applicationStatuses"].values()
    deployments = [d for application in applications for d in application["serveDeploymentStatuses"].values()]
    return bool(deployments) and all(deployment["status"] == "HEALTHY" for deployment in deployments)


def _replicas(cluster: Cluster) -> set[tuple[str, str]]:
    """Pod and process id of the replicas, at most one a worker."""
    found = {(pod, _in_worker(cluster, pod, _FIND)) for pod in ready_workers(cluster)}
    return {(pod, process) for pod, process in found if process}


def _in_worker(cluster: Cluster, pod: str, command: str) -> str:
    return cluster.kubectl("exec", pod, "--container", "ray-worker", "--", "sh", "-c", command, check=False).strip()
