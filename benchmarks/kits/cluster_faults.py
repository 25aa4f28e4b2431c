"""Faults of a release on a real cluster (``KUBECONFIG``), under load: what clients lose, and how long it takes to recover.

The endpoint has two workers. Two clients send requests all the time. A fault is injected, and it is over when the object that was
broken is as before and requests are answered.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.drill import Outcome
from benchmarks.kits.cluster import NAMESPACE, Cluster, sets, wait_for
from benchmarks.kits.cluster_load import counts, load
from benchmarks.kits.cluster_release import (
    OWN_CLUSTER,
    PRETRAINING,
    SMALL_CORPUS,
    delete_namespace,
    endpoint_is_ready,
    endpoint_is_settled,
    install,
    ready_workers,
    research_is_ready,
    upgrade,
)

NUM_WORKERS = 2
SETTINGS = (f"endpoint.workers.cpu={NUM_WORKERS}", "research.enabled=false")
MODEL = "smoke"
_BACK_S = 600

Fault = Callable[[Cluster], Any]
Objects = tuple[dict[str, Any], ...]


def drill(
    scratch: Path,
    *,
    inject: Fault,
    recovered: Callable[[Cluster], bool],
    objects: Objects = (),
    settings: tuple[str, ...] = (),
) -> Outcome:
    """Inject a fault three times, or ``CLUSTER_FAULTS`` times, each once the last one is over.

    ``settings`` of the release are added to those of all drills, and need ``objects``.
    """
    num_faults = int(os.environ.get("CLUSTER_FAULTS", "3"))
    back_s: list[float] = []
    with endpoint(scratch, objects, settings) as cluster, load(cluster, MODEL):
        for _ in range(num_faults):
            began = time.monotonic()
            inject(cluster)
            wait_for(lambda: recovered(cluster), timeout_s=_BACK_S)
            answered = counts(cluster).answered
            wait_for(lambda seen=answered: counts(cluster).answered > seen, timeout_s=_BACK_S)
            back_s.append(round(time.monotonic() - began, 1))
            time.sleep(5)
        seen = counts(cluster)
    facts = {
        "back_s": back_s,
        "requests": seen.answered + seen.lost,
        "first_failures": seen.first_failures,
        "longest_gap_s": seen.longest_gap_s,
        "longest_gap_ended": seen.longest_gap_ended,
        "longest_stall_s": seen.longest_stall_s,
        "workers": NUM_WORKERS,
    }
    sys.stdout.write(json.dumps(facts) + "\n")
    return Outcome(injected=num_faults, recovered=len(back_s), lost=seen.lost, wrong=seen.wrong, facts=facts)


def kill_pod(cluster: Cluster, name: str, *, namespace: str = NAMESPACE) -> None:
    """Kill a pod without its grace period, as a node that is lost would."""
    cluster.run("kubectl", "--namespace", namespace, "delete", "pod", name, "--grace-period=0", "--force")


@contextmanager
def endpoint(scratch: Path, objects: Objects = (), settings: tuple[str, ...] = ()) -> Iterator[Cluster]:
    """Yield the cluster with a release whose endpoint is ready; ``KEEP_CLUSTER_TEST`` uses and keeps the one that is there."""
    cluster = Cluster(kubeconfig=Path(os.environ["KUBECONFIG"]).resolve(), folder=scratch)
    keep = bool(os.environ.get("KEEP_CLUSTER_TEST"))
    if not (keep and endpoint_is_ready(cluster)):
        delete_namespace(cluster)
        install(cluster)
        wait_for(lambda: research_is_ready(cluster), timeout_s=_BACK_S)
        cluster.submit("build_corpus", "corpus/demo", *sets(*SMALL_CORPUS), *OWN_CLUSTER)
        cluster.submit("follow", PRETRAINING)
    if objects:
        cluster.apply(*objects)
    upgrade(cluster, *SETTINGS, *settings)
    wait_for(lambda: endpoint_is_settled(cluster) and len(ready_workers(cluster)) == NUM_WORKERS, timeout_s=_BACK_S)
    yield cluster
    if not keep:
        delete_namespace(cluster)
