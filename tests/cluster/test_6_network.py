"""NetworkPolicies as the network plugin enforces them: pods of others reach no port of the release, its own pods reach theirs."""

import json
import os

import pytest

from benchmarks.kits.cluster import FULL_NAME, NAMESPACE, RELEASE, Cluster, script_pod, wait_for

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        not os.environ.get("CLUSTER_ENFORCES_POLICIES"),
        reason="set CLUSTER_ENFORCES_POLICIES=1 where the network plugin enforces NetworkPolicies",
    ),
]

FOREIGN = f"{NAMESPACE}-foreign"
OWN = {"client": "load"}  # the label that the values allow to reach the endpoint
PROBE = """
import concurrent.futures, json, socket, sys, time
def reached(target):
    try:
        socket.create_connection(target.rsplit(":", 1), timeout=3).close()
        return True
    except OSError:
        return False
def all_reached(targets):
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        return [target for target, yes in zip(targets, pool.map(reached, targets)) if yes]
deadline = time.monotonic() + float(sys.argv[1])
while not (found := all_reached(sys.argv[2:])) and time.monotonic() < deadline:
    time.sleep(1)
print(json.dumps(found))
"""


def test_pods_of_others_reach_nothing(cluster: Cluster) -> None:
    targets = ports(cluster)
    assert len(targets) >= 8
    cluster.run("kubectl", "create", "namespace", FOREIGN)
    try:
        for namespace in (FOREIGN, NAMESPACE):
            assert reached_by(cluster, namespace, {}, targets) == []
    finally:
        cluster.run("kubectl", "delete", "namespace", FOREIGN, "--wait=false")


def test_an_allowed_client_reaches_the_endpoint_only(cluster: Cluster) -> None:
    found = reached_by(cluster, NAMESPACE, OWN, ports(cluster), patience_s=60)
    assert {target.rpartition(":")[2] for target in found} == {"8000"}


def ports(cluster: Cluster) -> list[str]:
    """Address and port of everything that the pods of the release listen on, by pod and by Service."""
    selector = ("--selector", f"app.kubernetes.io/instance={RELEASE}")
    targets = []
    for pod in cluster.list("pods", *selector):
        for container in pod["spec"]["containers"]:
            targets += [f"{pod['status']['podIP']}:{port['containerPort']}" for port in container.get("ports", [])]
    for service in (f"{FULL_NAME}-explorer", f"{FULL_NAME}-store", f"{FULL_NAME}-encoder-serve-svc"):
        spec = cluster.get("service", service)["spec"]
        targets += [f"{spec['clusterIP']}:{port['port']}" for port in spec["ports"]]
    return targets


def reached_by(
    cluster: Cluster, namespace: str, labels: dict[str, str], targets: list[str], *, patience_s: int = 0
) -> list[str]:
    """The targets that a pod with these labels can connect to.

    The network plugin allows a new pod its connections some time after the pod has started: ``patience_s``.
    """
    pod = script_pod("probe", ["python", "-c", PROBE, str(patience_s), *targets], labels=labels)
    kubectl = ("kubectl", "--namespace", namespace)
    cluster.run(*kubectl, "create", "--filename", "-", input=json.dumps(pod))

    def ended() -> bool:
        return (
            cluster.run(*kubectl, "get", "pod", "probe", "--output", "jsonpath={.status.phase}").stdout == "Succeeded"
        )

    wait_for(ended, timeout_s=180)
    found: list[str] = json.loads(cluster.run(*kubectl, "logs", "probe").stdout)
    cluster.run(*kubectl, "delete", "pod", "probe", "--grace-period=0", "--force")
    return found
