"""Upgrades and a rollback of the release under load: they reach the cluster, and no request is lost."""

import json
import os
import warnings
from typing import Any

import pytest
import yaml

from benchmarks.kits.cluster import IMAGE, NAMESPACE, RELEASE, Cluster, wait_for
from benchmarks.kits.cluster_load import counts, load
from benchmarks.kits.cluster_release import endpoint_is_ready, ready_workers, upgrade, worker_images

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]

SEEN_GAP_S = 20
NEXT = os.environ.get("CLUSTER_NEXT_TAG", IMAGE.rpartition(":")[2])
NO_RESEARCH = (
    "research.enabled=false"  # its head would start again with each image, next to the clusters of the endpoint
)


def test_upgrades_and_a_rollback_reach_the_cluster_and_lose_no_request(cluster: Cluster) -> None:
    """A bad tag, which is rolled back; one more worker, and another image if the nodes have one; and back by hand."""
    with load(cluster, "smoke"):
        failed = upgrade(cluster, "image.tag=tset", timeout="15s", check=False)
        assert failed.returncode != 0
        assert live_is_manifest(cluster)

        upgrade(cluster, NO_RESEARCH)
        good = revision(cluster)
        upgrade(cluster, NO_RESEARCH, "endpoint.workers.cpu=2", f"image.tag={NEXT}")
        next_image = f"{IMAGE.rpartition(':')[0]}:{NEXT}"
        wait_for(lambda: serves(cluster, next_image, workers=2), timeout_s=300)
        assert live_is_manifest(cluster)

        cluster.run("helm", "rollback", RELEASE, good, "--namespace", NAMESPACE)
        wait_for(lambda: serves(cluster, IMAGE, workers=1), timeout_s=300)
        assert live_is_manifest(cluster)
        seen = counts(cluster)
    assert seen.answered > 100
    assert (seen.lost, seen.wrong) == (0, 0), seen
    if seen.longest_gap_s > SEEN_GAP_S:
        warnings.warn(f"upgrade: a long time without an answer, although no request was lost: {seen}", stacklevel=1)


def serves(cluster: Cluster, image: str, *, workers: int) -> bool:
    """Whether so many workers of the endpoint are ready, all with this image."""
    return endpoint_is_ready(cluster) and len(ready_workers(cluster)) == workers and worker_images(cluster) == {image}


def revision(cluster: Cluster) -> str:
    """The revision of the release that is deployed."""
    history = cluster.run("helm", "history", RELEASE, "--namespace", NAMESPACE, "--output", "json").stdout
    (deployed,) = [entry["revision"] for entry in json.loads(history) if entry["status"] == "deployed"]
    return str(deployed)


def live_is_manifest(cluster: Cluster) -> bool:
    """Whether Ray's objects in the cluster have every field that the release's manifest gives them."""
    text = cluster.run("helm", "get", "manifest", RELEASE, "--namespace", NAMESPACE).stdout
    ours = [o for o in yaml.safe_load_all(text) if o and o["apiVersion"] == "ray.io/v1"]
    assert {o["kind"] for o in ours} >= {"RayService", "RayJob"}
    return all(has(cluster.get(o["kind"], o["metadata"]["name"])["spec"], o["spec"], path=o["kind"]) for o in ours)


def has(live: Any, wanted: Any, *, path: str) -> bool:
    """Whether ``live`` contains ``wanted``; the API server adds defaults and drops what is null."""
    if isinstance(wanted, dict):
        return all(value is None or has(live.get(key), value, path=f"{path}.{key}") for key, value in wanted.items())
    if isinstance(wanted, list):
        pairs = zip(live, wanted, strict=True)
        return all(has(one, other, path=f"{path}[{i}]") for i, (one, other) in enumerate(pairs))
    assert live == wanted or not wanted, f"{path} is {json.dumps(live)}, the manifest says {json.dumps(wanted)}"
    return True
