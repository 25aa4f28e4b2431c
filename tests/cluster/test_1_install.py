"""The platform team installs, by the commands that its page prints."""

import pytest

from benchmarks.kits.cluster import FULL_NAME, NAMESPACE, RELEASE, Cluster, wait_for
from benchmarks.kits.cluster_release import install, research_is_ready

WAITS = "Startup probe failed: the endpoint waits: no model 'smoke' in s3://platform/test"

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]


def test_the_documented_commands_install(cluster: Cluster) -> None:
    install(cluster)
    wait_for(lambda: research_is_ready(cluster), timeout_s=300)
    cluster.kubectl("rollout", "status", f"deployment/{FULL_NAME}-explorer", "--timeout=180s")


def test_helm_test_names_what_the_endpoint_waits_for(cluster: Cluster) -> None:
    """The store has no model yet, and somebody has changed the RayService; everything else passes."""
    endpoint, change = f"{FULL_NAME}-encoder", '{"spec": {"rayClusterDeletionDelaySeconds": 11}}'
    cluster.kubectl("patch", "rayservice", endpoint, "--type=merge", f"--patch={change}")
    done = cluster.run("helm", "test", RELEASE, "--namespace", NAMESPACE, "--logs", check=False)
    cluster.kubectl("patch", "rayservice", endpoint, "--type=merge", f"--patch={change.replace('11', '10')}")
    drift = "spec.rayClusterDeletionDelaySeconds is 11, the manifest has 10"
    assert f"RayService {endpoint} is not what the release installed: {drift}" in done.stdout
    errors = [line for line in done.stdout.splitlines() if line.startswith("error: ") and endpoint not in line]
    (waits,) = errors
    assert waits.startswith("error: the endpoint waits, and starts when its model is there: no model 'smoke'")
    for passed in ("store s3://platform/test", f"RayCluster {FULL_NAME}-research: as the release", "explorer http://"):
        assert passed in done.stdout


def test_the_endpoint_waits_for_its_model_in_an_event_of_its_pod(cluster: Cluster) -> None:
    """The startup probe prints the reason, and the kubelet writes it; no pod has a token for that."""

    def said() -> set[str]:
        events = cluster.list("events", "--field-selector", "reason=Unhealthy")
        return {event["involvedObject"]["name"] for event in events if WAITS in event["message"]}

    (pod,) = wait_for(said, timeout_s=180)
    assert pod.startswith(f"{FULL_NAME}-encoder-")
    (worker,) = cluster.get("pod", pod)["status"]["containerStatuses"]
    assert (worker["started"], worker["restartCount"]) == (False, 0)
