"""Kueue admits jobs to one quota: the second of two starts when the first has ended and its pods are deleted."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.kits.cluster import CHART, NAMESPACE, RELEASE, Cluster, sets, values, wait_for
from benchmarks.kits.cluster_release import PRESET, SMALL_CORPUS

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]

QUEUE = "cm-test"
KUEUE = {"apiVersion": "kueue.x-k8s.io/v1beta2"}
JOBS = ("queued-1", "queued-2")
# Head, worker and submitter of one job need 2.05 CPUs and 5.8 GiB; two jobs need twice as much.
QUOTA = {"cpu": "3", "memory": "8Gi"}


@pytest.fixture
def queue(cluster: Cluster) -> Iterator[None]:
    """A LocalQueue of the namespace with a quota for one job."""
    if "workloads.kueue.x-k8s.io" not in cluster.kubectl("get", "crd", "--output", "name"):
        pytest.skip("the cluster has no Kueue: install it, version 0.15 or later (CONTRIBUTING.md)")
    resources = [{"name": name, "nominalQuota": amount} for name, amount in QUOTA.items()]
    group = {"coveredResources": list(QUOTA), "flavors": [{"name": QUEUE, "resources": resources}]}
    objects: list[dict[str, Any]] = [
        {**KUEUE, "kind": "ResourceFlavor", "metadata": {"name": QUEUE}},
        {
            **KUEUE,
            "kind": "ClusterQueue",
            "metadata": {"name": QUEUE},
            "spec": {"namespaceSelector": {}, "resourceGroups": [group]},
        },
        {**KUEUE, "kind": "LocalQueue", "metadata": {"name": QUEUE}, "spec": {"clusterQueue": QUEUE}},
    ]
    cluster.apply(*objects)
    yield
    for job in JOBS:
        cluster.kubectl("delete", "rayjob", job, "--ignore-not-found")
    for item in reversed(objects):
        cluster.kubectl("delete", item["kind"], item["metadata"]["name"], "--ignore-not-found")


@pytest.mark.usefixtures("queue")
def test_the_second_job_starts_when_the_pods_of_the_first_are_deleted(
    cluster: Cluster, researcher: Cluster, tmp_path: Path
) -> None:
    path = skeleton_with_queue(cluster, tmp_path)
    target = ("--skeleton", str(path), "--workers", "cpu=1", "--no-follow")
    for name in JOBS:
        researcher.submit("build_corpus", "corpus/demo", *sets(*SMALL_CORPUS), *target, "--name", name)
    first, second = JOBS
    wait_for(lambda: running_pods(researcher, first), timeout_s=60)
    assert f"waits for admission to Kueue's queue {QUEUE}" in researcher.submit("status", second).stdout

    def second_has_pods() -> bool:
        ours, others = running_pods(researcher, first), running_pods(researcher, second)
        assert not (ours and others), f"{others} started while {ours} run"
        return bool(others)

    wait_for(second_has_pods, timeout_s=300)
    for name in JOBS:
        assert "SUCCEEDED" in researcher.submit("follow", name).stderr


def skeleton_with_queue(cluster: Cluster, folder: Path) -> Path:
    """Write the RayJob of a release whose jobs have a queue."""
    command = ("helm", "template", RELEASE, str(CHART), "--namespace", NAMESPACE, *values(PRESET))
    settings = sets("operatorCheck=false", f"jobDefaults.queue={QUEUE}")
    printed = cluster.run(*command, *settings, "--show-only", "templates/jobs/configmap.yaml").stdout
    path = folder / "job.yaml"
    path.write_text(yaml.safe_load(printed)["data"]["publisher.yaml"], encoding="utf-8")
    return path


def running_pods(person: Cluster, job: str) -> list[str]:
    """Pods of a job that run and are not being deleted."""
    pods = [pod for pod in person.list("pods") if pod["metadata"]["name"].startswith(f"{job}-")]
    return [
        pod["metadata"]["name"]
        for pod in pods
        if "deletionTimestamp" not in pod["metadata"] and pod["status"]["phase"] in ("Pending", "Running")
    ]
