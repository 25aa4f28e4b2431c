"""Nodes without a machine, for the scheduler and the controllers of a real cluster: their pods never run, and are called ready.

What KWOK does, as far as a release of the chart needs it. A pod whose Secret, ConfigMap, claim or ServiceAccount does not exist
stays Pending, as with a kubelet. The nodes have a taint, so that only pods that tolerate it come here.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

KEY = "clinical-modernbert/machine"
PLACE = {"nodeSelector": {KEY: "none"}, "tolerations": [{"key": KEY, "operator": "Exists"}]}
"""The values of the chart that bring a head, a worker group or the explorer here."""
_LEASES, _RENEW_S = "kube-node-lease", 10
_START_S = 8
"""A pod is not ready at once, as none is: Helm takes an object for ready that its operator has not seen yet."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The size and the labels of a node; one with GPUs has the taint that GPU nodes usually have."""

    name: str
    cpu: int
    memory: str
    gpus: int = 0
    labels: dict[str, str] = field(default_factory=dict)


@contextmanager
def machines(kubeconfig: Path, nodes: Sequence[Machine], *, namespace: str, pod_ip: str) -> Iterator[None]:
    """Keep the nodes ready and the pods of ``namespace`` on them; each pod has the address ``pod_ip``."""
    api = config.new_client_from_config(str(kubeconfig))
    core, leases = client.CoreV1Api(api), client.CoordinationV1Api(api)
    for node in nodes:
        with suppress(ApiException):  # of a run that was killed
            core.delete_node(node.name)
        _create(core, node)
    stop = threading.Event()
    names = {node.name for node in nodes}
    thread = threading.Thread(target=_keep, args=(core, leases, names, namespace, pod_ip, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        for name in names:
            core.delete_node(name)


def _create(core: Any, node: Machine) -> None:
    taints = [{"key": KEY, "effect": "NoSchedule"}]
    amounts = {"cpu": str(node.cpu), "memory": node.memory, "pods": "110", "ephemeral-storage": "2Ti"}
    if node.gpus:
        taints.append({"key": "nvidia.com/gpu", "effect": "NoSchedule"})
        amounts["nvidia.com/gpu"] = str(node.gpus)
    labels = {KEY: "none", "kubernetes.io/hostname": node.name, "kubernetes.io/os": "linux", **node.labels}
    core.create_node({"metadata": {"name": node.name, "labels": labels}, "spec": {"taints": taints}})
    condition = {"type": "Ready", "status": "True", "reason": "NoMachine", "lastHeartbeatTime": _now()}
    core.patch_node_status(
        node.name, {"status": {"capacity": amounts, "allocatable": amounts, "conditions": [condition]}}
    )


def _keep(core: Any, leases: Any, names: set[str], namespace: str, pod_ip: str, stop: threading.Event) -> None:
    renewed = -float(_RENEW_S)
    while not stop.wait(1):
        with suppress(ApiException):  # an object was deleted or changed meanwhile; the next look sees it
            if time.monotonic() - renewed >= _RENEW_S:
                for name in names:
                    _renew(leases, name)
                renewed = time.monotonic()
            pods = [pod for pod in core.list_namespaced_pod(namespace).items if pod.spec.node_name in names]
            for pod in pods:
                if pod.metadata.deletion_timestamp:
                    core.delete_namespaced_pod(pod.metadata.name, namespace, grace_period_seconds=0)
                elif pod.status.phase == "Pending" and _age_s(pod) > _START_S and not absent_references(core, pod):
                    core.patch_namespaced_pod_status(pod.metadata.name, namespace, {"status": _ready(pod, pod_ip)})


def _age_s(pod: Any) -> float:
    return (datetime.now(UTC) - pod.metadata.creation_timestamp).total_seconds()


def _renew(leases: Any, name: str) -> None:
    spec = {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": _now()}
    try:
        leases.patch_namespaced_lease(name, _LEASES, {"spec": spec})
    except ApiException:
        leases.create_namespaced_lease(_LEASES, {"metadata": {"name": name}, "spec": spec})


def absent_references(core: Any, pod: Any) -> list[str]:
    """Return what a pod needs to start and its namespace lacks, as kind/name or secret/name/key."""
    found = [("service_account", pod.spec.service_account_name, "")]
    for volume in pod.spec.volumes or []:
        if volume.secret and not volume.secret.optional:
            found.append(("secret", volume.secret.secret_name, ""))
        if volume.config_map and not volume.config_map.optional:
            found.append(("config_map", volume.config_map.name, ""))
        if volume.persistent_volume_claim:
            found.append(("persistent_volume_claim", volume.persistent_volume_claim.claim_name, ""))
    for container in [*(pod.spec.init_containers or []), *pod.spec.containers]:
        for variable in container.env or []:
            for kind in ("secret", "config_map"):
                reference = variable.value_from and getattr(variable.value_from, f"{kind}_key_ref")
                if reference and not reference.optional:
                    found.append((kind, reference.name, reference.key))
    return [
        f"{kind}/{name}/{key}".rstrip("/") for kind, name, key in set(found) if not _exists(core, pod, kind, name, key)
    ]


def _exists(core: Any, pod: Any, kind: str, name: str, key: str) -> bool:
    try:
        item = getattr(core, f"read_namespaced_{kind}")(name, pod.metadata.namespace)
    except ApiException:
        return False
    return not key or key in (item.data or {})


def _ready(pod: Any, pod_ip: str) -> dict[str, Any]:
    started = {"running": {"startedAt": _now()}}
    containers = [
        {
            "name": c.name,
            "image": c.image,
            "imageID": "",
            "ready": True,
            "started": True,
            "restartCount": 0,
            "state": started,
        }
        for c in pod.spec.containers
    ]
    kinds = ("Initialized", "PodScheduled", "ContainersReady", "Ready")
    conditions = [{"type": kind, "status": "True", "lastTransitionTime": _now()} for kind in kinds]
    address = {"podIP": pod_ip, "podIPs": [{"ip": pod_ip}], "startTime": _now()}
    return {"phase": "Running", "conditions": conditions, "containerStatuses": containers, **address}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
