"""Pod Security "restricted" for every pod that an object of the chart creates, including the containers that KubeRay adds."""

from collections.abc import Iterator
from typing import Any

from clinical_modernbert.cluster.kuberay_rules import cluster_spec

# Images of other projects, which write where their own mounts say.
_OTHER_PROJECTS = {"oauth2-proxy", "object-store", "bucket"}
_RESTRICTED_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


def pod_specs(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """``where -> pod spec`` of every pod that this object creates, including the containers that KubeRay adds."""
    if manifest["kind"] == "Pod":
        return {"pod": manifest["spec"]}
    if manifest["kind"] in ("Deployment", "StatefulSet"):
        return {"pod": _with_claims(manifest["spec"])}
    if not manifest["apiVersion"].startswith("ray.io/"):
        return {}
    cluster = cluster_spec(manifest)
    found = {"head": _with_autoscaler(cluster)}
    for group in cluster["workerGroupSpecs"]:
        found[f"worker {group['groupName']}"] = _with_init_container(group["template"]["spec"])
    if manifest["kind"] in ("RayJob", "RayCronJob"):
        spec = manifest["spec"].get("jobTemplate", manifest["spec"])
        found["submitter"] = spec.get("submitterPodTemplate", {}).get("spec", {"containers": [{"name": "default"}]})
    return found


def restricted_violations(spec: dict[str, Any]) -> list[str]:
    """What Pod Security "restricted" refuses, and a root file system that can be written."""
    return list(_restricted_violations(spec))


def _with_claims(spec: dict[str, Any]) -> dict[str, Any]:
    """The pod of a workload, with a volume for each claim that a StatefulSet makes."""
    pod = spec["template"]["spec"]
    claims = [
        {"name": claim["metadata"]["name"], "persistentVolumeClaim": {}}
        for claim in spec.get("volumeClaimTemplates", [])
    ]
    return {**pod, "volumes": [*pod.get("volumes", []), *claims]}


def _with_autoscaler(cluster: dict[str, Any]) -> dict[str, Any]:
    spec = cluster["headGroupSpec"]["template"]["spec"]
    if not cluster.get("enableInTreeAutoscaling"):
        return spec
    options = cluster.get("autoscalerOptions", {})
    sidecar = {
        "name": "autoscaler",
        **{key: options[key] for key in ("securityContext", "volumeMounts") if key in options},
    }
    return {**spec, "containers": [*spec["containers"], sidecar]}


def _with_init_container(spec: dict[str, Any]) -> dict[str, Any]:
    ray = spec["containers"][0]
    wait = {
        "name": "wait-gcs-ready",
        "securityContext": ray.get("securityContext"),
        "volumeMounts": ray.get("volumeMounts", []),
    }
    return {**spec, "initContainers": [*spec.get("initContainers", []), wait]}


def _restricted_violations(spec: dict[str, Any]) -> Iterator[str]:
    pod = spec.get("securityContext", {})
    yield from (f"{field} is set" for field in ("hostNetwork", "hostPID", "hostIPC") if spec.get(field))
    for volume in spec.get("volumes", []):
        if not (volume.keys() - {"name"}) <= _RESTRICTED_VOLUMES:
            yield f"volume {volume['name']} of a type that is not allowed"
    mounted = {volume["name"] for volume in spec.get("volumes", [])}
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        name, own = container["name"], container.get("securityContext") or {}
        security = {**pod, **own}
        if security.get("runAsNonRoot") is not True or security.get("runAsUser", 1) == 0:
            yield f"{name} may run as root"
        if security.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
            yield f"{name} has no seccomp profile"
        if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
            yield f"{name} may gain privileges"
        if own.get("capabilities", {}).get("drop") != ["ALL"] or own.get("capabilities", {}).get("add"):
            yield f"{name} keeps capabilities"
        if own.get("readOnlyRootFilesystem") is not True:
            yield f"{name} can write its root file system"
        if any("hostPort" in port for port in container.get("ports", [])):
            yield f"{name} takes a host port"
        paths = {mount["mountPath"]: mount["name"] for mount in container.get("volumeMounts", [])}
        if name not in _OTHER_PROJECTS and not {"/tmp", "/home/ray"} <= paths.keys():
            yield f"{name} has no writable /tmp or home"
        yield from (f"{name} mounts {volume}, which is no volume" for volume in set(paths.values()) - mounted)
