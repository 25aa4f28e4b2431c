"""The platform team installs, by the commands that its page prints."""

import pytest

from benchmarks.kits.cluster import FULL_NAME, NAMESPACE, RELEASE, Cluster, wait_for
from benchmarks.kits.cluster_release import install, research_is_ready

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]


def test_the_documented_commands_install(cluster: Cluster) -> None:
    install(cluster)
    wait_for(lambda: research_is_ready(cluster), timeout_s=300)
    cluster.kubectl("rollout", "status", f"deployment/{FULL_NAME}-explorer", "--timeout=180s")


def test_helm_test_passes(cluster: Cluster) -> None:
    done = cluster.run("helm", "test", RELEASE, "--namespace", NAMESPACE)
    assert "Phase:          Succeeded" in done.stdout
