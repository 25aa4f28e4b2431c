"""Clients of the endpoint in a pod of the cluster, which reach it through its Service while it is upgraded or broken."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.kits.cluster import FULL_NAME, Cluster, script_pod, wait_for

URL = f"http://{FULL_NAME}-encoder-serve-svc:8000"
NUM_CLIENTS = 2
_POD = "load"
_SOURCE = Path(__file__).with_name("load_pod.py").read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Counts:
    """What the clients met since the pod started."""

    answered: int = 0
    lost: int = 0
    """Requests that the project's client, which retries, gave up."""
    wrong: int = 0
    """Answers that differ from the client's first one."""
    first_failures: dict[str, int] = field(default_factory=dict)
    """Requests that a client without retries would have lost, by HTTP status or what happened to the connection."""
    longest_gap_s: float = 0
    """Longest time between two answers, over all clients."""
    longest_gap_ended: str = ""
    """When it ended (UTC), to find its cause in the events and logs of the cluster."""
    longest_stall_s: float = 0
    """Longest time for which the clients themselves did not run."""


@contextmanager
def load(cluster: Cluster, model: str) -> Iterator[None]:
    """Send requests for ``model`` until the block ends; ``counts`` reads what came of them."""
    remove = ("delete", "pod", _POD, "--ignore-not-found", "--grace-period=0", "--force")
    cluster.kubectl(*remove)
    command = ["python", "-c", _SOURCE, URL, model, str(NUM_CLIENTS)]
    limits = {"limits": {"cpu": "300m", "memory": "256Mi"}}
    cluster.apply(script_pod(_POD, command, labels={"client": "load"}, resources=limits))
    try:
        wait_for(lambda: counts(cluster).answered, timeout_s=60)
        yield
    finally:
        cluster.kubectl(*remove)


def counts(cluster: Cluster) -> Counts:
    """Return the counts of the last second."""
    lines = cluster.kubectl("logs", _POD, "--tail=1", check=False).splitlines()
    return Counts(**json.loads(lines[-1])) if lines else Counts()
