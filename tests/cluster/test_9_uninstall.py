"""`helm uninstall` leaves what the pages name: the claim of the trial store and the Secrets that the platform team made."""

import pytest

from benchmarks.kits.cluster import FULL_NAME, NAMESPACE, RELEASE, Cluster, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(300)]

OF_KUBERNETES = {"configmaps/kube-root-ca.crt", "serviceaccounts/default"}
OF_THE_TEAM = {"secrets/clinical-modernbert-s3", "secrets/platform-login"}
KEPT = {f"persistentvolumeclaims/data-{FULL_NAME}-store-0"}
UNTOLD = {"events", "events.events.k8s.io", "pods.metrics.k8s.io"}


def test_nothing_else_stays(cluster: Cluster) -> None:
    for job in cluster.list("rayjobs"):  # made by researchers, not by the release
        cluster.kubectl("delete", "rayjob", job["metadata"]["name"])
    cluster.run("helm", "uninstall", RELEASE, "--namespace", NAMESPACE, "--wait")
    wait_for(lambda: objects(cluster) <= OF_KUBERNETES | OF_THE_TEAM | KEPT, timeout_s=90)
    assert objects(cluster) >= KEPT
    everywhere = cluster.kubectl(
        "get", "validatingadmissionpolicies,validatingadmissionpolicybindings,clusterroles", "--output", "name"
    )
    assert FULL_NAME not in everywhere


def objects(cluster: Cluster) -> set[str]:
    """All objects of the namespace, as kind/name."""
    kinds = cluster.kubectl("api-resources", "--namespaced", "--verbs=list", "--output", "name").split()
    found = cluster.list(",".join(kind for kind in kinds if kind not in UNTOLD))
    return {f"{item['kind'].lower()}s/{item['metadata']['name']}" for item in found}
