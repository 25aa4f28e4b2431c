"""`helm uninstall` leaves what the pages name: the claim of the trial store and the Secrets that the platform team made.

A new install takes the claim again, here with keys of its own for each role.
"""

import json
from typing import Any

import pytest
import yaml
from clinical_modernbert.cluster.access import ROLES, Role

from benchmarks.kits.cluster import CHART, FULL_NAME, NAMESPACE, RELEASE, Cluster, sets, values, wait_for
from benchmarks.kits.cluster_release import PRESET, SMALL_CORPUS

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(480)]

OF_KUBERNETES = {"configmaps/kube-root-ca.crt", "serviceaccounts/default"}
OF_THE_TEAM = {"secrets/clinical-modernbert-s3", "secrets/platform-login"}
KEPT = {f"persistentvolumeclaims/data-{FULL_NAME}-store-0"}
UNTOLD = {"events", "events.events.k8s.io", "pods.metrics.k8s.io"}
SECRET_OF = "clinical-modernbert-s3-"  # and the role
NOTHING_ELSE = ("research", "explorer", "endpoint", "jobs.pretrain", "networkPolicy", "rbac.admissionPolicy")
ONLY_THE_STORE = (*(f"{part}.enabled=false" for part in NOTHING_ELSE), "head.memory=4Gi")  # a head that runs tasks, too


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


def test_a_trial_store_with_keys_of_roles_lets_no_trainer_publish_a_corpus(cluster: Cluster) -> None:
    """`check_store.py` tries each right of each role. The publisher's keys publish, and pass `helm test`."""
    for role in ROLES:
        keys = (f"--from-literal=AWS_ACCESS_KEY_ID={role}", f"--from-literal=AWS_SECRET_ACCESS_KEY=secret-of-{role}")
        cluster.kubectl("create", "secret", "generic", f"{SECRET_OF}{role}", *keys)
    secrets = (f"objectStore.roleSecrets.{role}={SECRET_OF}{role}" for role in ROLES)
    chosen = (*values(PRESET), *sets(*ONLY_THE_STORE, *secrets))
    command = ("helm", "install", RELEASE, str(CHART), "--namespace", NAMESPACE, "--server-side=false")
    cluster.run(*command, "--wait", "--timeout=3m", *chosen)
    cluster.run("helm", "test", RELEASE, "--namespace", NAMESPACE)

    for role in ROLES:
        build = ("jobs/build_corpus.py", "corpus/demo", *sets(*SMALL_CORPUS, f"name=by-{role}"))
        start(cluster, role, " ".join(["python", *(f"'{word}'" for word in build)]))
    logs = {role: (ended(cluster, role), cluster.kubectl("logs", role)) for role in ROLES}

    assert all("WRONG" not in text for _, text in logs.values()), logs
    assert {role: code for role, (code, _) in logs.items()} == {"reader": 2, "publisher": 0, "trainer": 2}, logs
    assert "s3://platform/test/corpus/by-publisher-" in logs["publisher"][1]
    for role in ("reader", "trainer"):
        assert "AccessDenied" in logs[role][1].splitlines()[-1]


def start(cluster: Cluster, role: Role, command: str) -> None:
    """Start a command with the keys of a role, after the check of them, in the pod that the chart gives to heads of jobs."""
    data = cluster.get("configmap", f"{FULL_NAME}-rayjob")["data"]["publisher.yaml"]
    head = yaml.safe_load(data.replace(f"{SECRET_OF}publisher", f"{SECRET_OF}{role}"))["spec"]["rayClusterSpec"][
        "headGroupSpec"
    ]
    spec: dict[str, Any] = head["template"]["spec"]
    spec["containers"][0]["command"] = ["bash", "-c", f"python jobs/check_store.py {role} && {command}"]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": role}, "spec": spec}
    cluster.kubectl("create", "--filename=-", input=json.dumps(pod))


def ended(cluster: Cluster, pod: str) -> int:
    """Wait for the end of a pod and return its exit code."""

    def code() -> str:
        path = "jsonpath={.status.containerStatuses[0].state.terminated.exitCode}"
        return cluster.kubectl("get", "pod", pod, f"--output={path}")

    return int(wait_for(code, timeout_s=240))


def objects(cluster: Cluster) -> set[str]:
    """All objects of the namespace, as kind/name."""
    kinds = cluster.kubectl("api-resources", "--namespaced", "--verbs=list", "--output", "name").split()
    found = cluster.list(",".join(kind for kind in kinds if kind not in UNTOLD))
    return {f"{item['kind'].lower()}s/{item['metadata']['name']}" for item in found}
