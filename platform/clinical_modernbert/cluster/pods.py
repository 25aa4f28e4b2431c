"""The pods of a Ray cluster and of the submitter: Pod Security "restricted", a read-only root, named writable volumes.

KubeRay copies the security context of the first container to the init container that it adds, and fills in commands and
probes. Requests equal limits, since Ray reads what it may use from the limits.
"""

from collections.abc import Mapping
from typing import Any

from clinical_modernbert.cluster.access import Role
from clinical_modernbert.cluster.settings import Node, Shape

_APPLICATION_PATH = "/app"
_HOME_PATH = "/home/ray"
_CA_FOLDER = "/etc/clinical-modernbert"
_HEAD_PORTS = {
    "gcs-server": 6379,
    "dashboard": 8265,
    "client": 10001,
    "metrics": 8080,
    "as-metrics": 44217,
    "dash-metrics": 44227,
}


def head_pod(shape: Shape, *, role: Role, serve: bool) -> dict[str, Any]:
    """Return the pod template of a head: drivers run there, tasks do not."""
    ports = _with_serve(_HEAD_PORTS, serve)
    environment = _environment(shape, role, {})
    container = _ray_container(shape, shape.head, environment, name="ray-head", image=shape.image, ports=ports)
    return _ray_pod(shape, shape.head, role, container, serve=serve)


def worker_pod(shape: Shape, node: Node, *, role: Role, serve: bool) -> dict[str, Any]:
    """Return the pod template of the workers of one group."""
    image = shape.gpu_image if node.gpus else shape.image
    ports = _with_serve({"metrics": 8080}, serve)
    environment = _environment(shape, role, node.env)
    container = _ray_container(shape, node, environment, name="ray-worker", image=image, ports=ports)
    container["securityContext"] = _container_security(ipc_lock=node.ipc_lock)
    if serve:
        container["lifecycle"] = {"preStop": {"exec": {"command": ["/bin/bash", "-c", "ray stop"]}}}
        # KubeRay's own probe for Serve workers calls wget, which the image does not have.
        container["readinessProbe"] = {
            "httpGet": {"path": "/-/healthz", "port": "serve"},
            "initialDelaySeconds": 10,
            "periodSeconds": 5,
            "timeoutSeconds": 5,
            "failureThreshold": 1,
        }
    template = _ray_pod(shape, node, role, container, serve=serve)
    if serve:
        template["spec"]["topologySpreadConstraints"] = [_spread(shape)]
    return template


def submitter_pod(shape: Shape) -> dict[str, Any]:
    """Return the pod template that calls ``ray job submit``; KubeRay fills in its command."""
    container = {
        "name": "ray-job-submitter",
        "image": shape.image,
        "imagePullPolicy": shape.image_pull_policy,
        "resources": _resources({"cpu": shape.submitter.cpu, "memory": shape.submitter.memory}),
        "securityContext": _container_security(),
        "volumeMounts": _mounts(shape),
    }
    # It is placed like a head, and is not one: no annotations of it.
    node = shape.head.model_copy(update={"annotations": {}})
    return _pod(shape, node, container, _volumes(shape, "1Gi"), restart_policy="Never")


def _ray_container(
    shape: Shape, node: Node, environment: list[dict[str, Any]], *, name: str, image: str, ports: Mapping[str, int]
) -> dict[str, Any]:
    amounts: dict[str, str] = {"cpu": node.cpu, "memory": node.memory}
    amounts |= {resource: str(count) for resource, count in node.resources.items()}
    if node.gpus:
        amounts["nvidia.com/gpu"] = str(node.gpus)
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": shape.image_pull_policy,
        "workingDir": _APPLICATION_PATH,
        "env": environment,
        "ports": [{"name": port, "containerPort": number} for port, number in ports.items()],
        "resources": _resources(amounts),
        "securityContext": _container_security(),
        # KubeRay mounts volumes of its own at /dev/shm and /tmp/ray unless these paths are taken.
        "volumeMounts": [*_mounts(shape), _mount("ray-logs", "/tmp/ray"), _mount("shared-mem", "/dev/shm")],
    }


def _ray_pod(shape: Shape, node: Node, role: Role, container: dict[str, Any], *, serve: bool) -> dict[str, Any]:
    shared_memory = {"name": "shared-mem", "emptyDir": {"medium": "Memory", "sizeLimit": node.memory}}
    volumes = [*_volumes(shape, node.scratch), _disk("ray-logs", node.scratch), shared_memory]
    # A head that starts again in place has lost its cluster's state: a job begins anew, an endpoint waits for its operator.
    template = _pod(shape, node, container, volumes, restart_policy=None if serve else "Never")
    if shape.hub_cache:
        template["spec"]["initContainers"] = [_hub_cache(shape, role, image=container["image"])]
    return template


def _hub_cache(shape: Shape, role: Role, *, image: str) -> dict[str, Any]:
    return {
        "name": "hub-cache",
        "image": image,
        "imagePullPolicy": shape.image_pull_policy,
        "workingDir": _APPLICATION_PATH,
        "command": ["python", "jobs/hub_cache.py", "pull"],
        "env": _environment(shape, role, {}),
        "resources": _resources({"cpu": "500m", "memory": "1Gi"}),
        "securityContext": _container_security(),
        "volumeMounts": _mounts(shape),
    }


def _pod(
    shape: Shape, node: Node, container: dict[str, Any], volumes: list[dict[str, Any]], *, restart_policy: str | None
) -> dict[str, Any]:
    spec: dict[str, Any] = {"automountServiceAccountToken": False, "enableServiceLinks": False}
    if shape.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in shape.image_pull_secrets]
    if node.node_selector:
        spec["nodeSelector"] = dict(node.node_selector)
    if node.priority_class:
        spec["priorityClassName"] = node.priority_class
    if node.runtime_class:
        spec["runtimeClassName"] = node.runtime_class
    spec["securityContext"] = _pod_security(shape)
    spec["serviceAccountName"] = shape.service_account
    if tolerations := _tolerations(node):
        spec["tolerations"] = tolerations
    if restart_policy:
        spec["restartPolicy"] = restart_policy
    metadata = {"annotations": dict(node.annotations)} if node.annotations else {}
    return {
        "metadata": {**metadata, "labels": dict(shape.labels)},
        "spec": {**spec, "containers": [container], "volumes": volumes},
    }


def _environment(shape: Shape, role: Role, further: Mapping[str, str]) -> list[dict[str, Any]]:
    store = shape.object_store
    secret = getattr(store.secrets, role)
    return [
        {"name": "ARTIFACT_ROOT", "value": store.root},
        {"name": "S3_ENDPOINT_URL", "value": store.endpoint},
        {"name": "AWS_REGION", "value": store.region},
        _from_secret("AWS_ACCESS_KEY_ID", secret, store.access_key_id_key),
        _from_secret("AWS_SECRET_ACCESS_KEY", secret, store.secret_access_key_key),
        {"name": "HF_HUB_OFFLINE", "value": "1" if shape.hub_offline else "0"},
        {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"},
        *([{"name": "SSL_CERT_FILE", "value": f"{_CA_FOLDER}/ca.crt"}] if store.ca_config_map else []),
        *({"name": name, "value": value} for name, value in sorted(further.items())),
    ]


def _from_secret(name: str, secret: str, key: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def _tolerations(node: Node) -> list[dict[str, Any]]:
    gpu = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    return [*node.tolerations, *([gpu] if node.gpus else [])]


def _pod_security(shape: Shape) -> dict[str, Any]:
    security: dict[str, Any] = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    if shape.security.run_as_user is not None:
        security["runAsUser"] = shape.security.run_as_user
    if shape.security.run_as_group is not None:
        security["runAsGroup"] = shape.security.run_as_group
    if shape.security.fs_group is not None:
        security |= {"fsGroup": shape.security.fs_group, "fsGroupChangePolicy": "OnRootMismatch"}
    return security


def _spread(shape: Shape) -> dict[str, Any]:
    return {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": dict(shape.labels)},
    }


def _container_security(*, ipc_lock: bool = False) -> dict[str, Any]:
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"add": ["IPC_LOCK"], "drop": ["ALL"]} if ipc_lock else {"drop": ["ALL"]},
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _resources(amounts: Mapping[str, str]) -> dict[str, Any]:
    return {"limits": dict(amounts), "requests": dict(amounts)}


def _with_serve(ports: Mapping[str, int], serve: bool) -> dict[str, int]:
    return {**ports, "serve": 8000} if serve else dict(ports)


def _mounts(shape: Shape) -> list[dict[str, Any]]:
    ca = [{"name": "store-ca", "mountPath": _CA_FOLDER, "readOnly": True}] if shape.object_store.ca_config_map else []
    return [_mount("tmp", "/tmp"), _mount("home", _HOME_PATH), *ca]


def _volumes(shape: Shape, size: str) -> list[dict[str, Any]]:
    name = shape.object_store.ca_config_map
    ca = [{"name": "store-ca", "configMap": {"name": name}}] if name else []
    return [_disk("tmp", size), _disk("home", size), *ca]


def _mount(volume: str, path: str) -> dict[str, Any]:
    return {"name": volume, "mountPath": path}


def _disk(name: str, size: str) -> dict[str, Any]:
    return {"name": name, "emptyDir": {"sizeLimit": size}}
