"""A notice on each node of a Ray cluster: what the endpoint waits for. The startup probe of the node's pod prints it.

So Kubernetes shows the reason as an event of the pod, and no pod needs a token to write one. The notice of a wait that has ended
stays: the probe ignores a file that is older than two minutes.
"""

import os
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

VARIABLE = "CLINICAL_WAIT_NOTICE"


def put_up(reason: str) -> None:
    """Write ``reason`` into the file that ``CLINICAL_WAIT_NOTICE`` names, on each node; do nothing if the variable is not set."""
    if not os.environ.get(VARIABLE):
        return
    write = ray.remote(num_cpus=0, max_retries=0)(_write)
    for node in ray.nodes():
        if node["Alive"]:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            write.options(scheduling_strategy=there).remote(" ".join(reason.split()))


def _write(reason: str) -> None:
    Path(os.environ[VARIABLE]).write_text(f"the endpoint waits: {reason}\n", encoding="utf-8")
