"""What KubeRay's operator 1.7 refuses though its CRDs allow it (its validation.go), for objects of ours, and Pod Security.

Feature gates count as in the operator's defaults: what needs one that is off is refused.
"""

import re
from collections.abc import Iterator
from typing import Any

_NAME_LIMITS = {"RayCluster": 53, "RayJob": 47, "RayService": 47}
_OFF_BY_DEFAULT = ("networkPolicy", "tlsOptions", "historyServerOptions")
_DELETION_ORDER = ("DeleteWorkers", "DeleteCluster", "DeleteSelf")
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


def refusals(manifest: dict[str, Any]) -> list[str]:
    """Reasons for which the operator would refuse a ray.io object."""
    return list(_refusals(manifest))


def ray_cluster_spec(manifest: dict[str, Any]) -> dict[str, Any]:
    spec = manifest["spec"]
    return {"RayCluster": spec, "RayJob": spec.get("rayClusterSpec"), "RayService": spec.get("rayClusterConfig")}[
        manifest["kind"]
    ]


def pod_specs(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """``where -> pod spec`` of every pod that this object brings about, KubeRay's own additions included."""
    if manifest["kind"] == "Deployment":
        return {"pod": manifest["spec"]["template"]["spec"]}
    if not manifest["apiVersion"].startswith("ray.io/"):
        return {}
    cluster = ray_cluster_spec(manifest)
    found = {"head": _with_autoscaler(cluster)}
    for group in cluster["workerGroupSpecs"]:
        found[f"worker {group['groupName']}"] = _with_init_container(group["template"]["spec"])
    if manifest["kind"] == "RayJob":
        found["submitter"] = (
            manifest["spec"].get("submitterPodTemplate", {}).get("spec", {"containers": [{"name": "default"}]})
        )
    return found


def restricted_violations(spec: dict[str, Any]) -> list[str]:
    """What Pod Security "restricted" refuses, and a root file system that can be written."""
    return list(_restricted_violations(spec))


def _refusals(manifest: dict[str, Any]) -> Iterator[str]:
    kind, name, spec = manifest["kind"], manifest["metadata"]["name"], manifest["spec"]
    if manifest["apiVersion"] != "ray.io/v1":
        yield f"apiVersion {manifest['apiVersion']} is not ray.io/v1"
    if len(name) > _NAME_LIMITS[kind]:
        yield f"name of {len(name)} characters, {_NAME_LIMITS[kind]} are allowed"
    if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name):
        yield f"name {name!r} is no DNS-1035 label"
    cluster = ray_cluster_spec(manifest)
    yield from _cluster_refusals(cluster, owned=kind != "RayCluster")
    if kind == "RayJob":
        yield from _job_refusals(spec, cluster)


def _cluster_refusals(spec: dict[str, Any], *, owned: bool) -> Iterator[str]:
    auth, scaled = spec.get("authOptions", {}), spec.get("enableInTreeAutoscaling", False)
    if owned and "upgradeStrategy" in spec:
        yield "upgradeStrategy of a cluster that a RayJob or RayService owns"
    yield from (f"{field} needs a feature gate that is off" for field in _OFF_BY_DEFAULT if field in spec)
    if auth.get("mode") == "token" and tuple(map(int, spec.get("rayVersion", "0.0").split(".")[:2])) < (2, 52):
        yield f"token authentication with rayVersion {spec.get('rayVersion')}"
    if auth.get("enableK8sTokenAuth") and (owned or auth.get("secretName")):
        yield "enableK8sTokenAuth with secretName, or for a RayJob or RayService"
    groups = [("head", spec["headGroupSpec"]), *((group["groupName"], group) for group in spec["workerGroupSpecs"])]
    for name, group in groups:
        start = group.get("rayStartParams", {})
        if group.get("resources") and {"num-cpus", "num-gpus", "memory", "resources"} & start.keys():
            yield f"{name}: resources both in rayStartParams and in the group"
        if "labels" in start:
            yield f"{name}: labels in rayStartParams"
        if scaled and group["template"]["spec"].get("restartPolicy", "Never") != "Never":
            yield f"{name}: restartPolicy with autoscaler v2"
        if not group["template"]["spec"]["containers"]:
            yield f"{name}: no container"
        names = {variable["name"] for variable in group["template"]["spec"]["containers"][0].get("env", [])}
        yield from (
            f"{name}: env {bad}" for bad in names & {"RAY_REDIS_ADDRESS", "REDIS_USERNAME", "RAY_enable_autoscaler_v2"}
        )
    for name, group in groups[1:]:
        if not scaled and not {"minReplicas", "maxReplicas"} <= group.keys():
            yield f"{name}: minReplicas and maxReplicas are needed without autoscaling"
        if not 0 <= group.get("minReplicas", 0) <= group.get("maxReplicas", 1):
            yield f"{name}: minReplicas above maxReplicas"
        if "idleTimeoutSeconds" in group and not scaled:
            yield f"{name}: idleTimeoutSeconds without autoscaler v2"


def _job_refusals(spec: dict[str, Any], cluster: dict[str, Any]) -> Iterator[str]:
    shutdown, rules = (
        spec.get("shutdownAfterJobFinishes", False),
        spec.get("deletionStrategy", {}).get("deletionRules", []),
    )
    if spec.get("suspend") and not shutdown:
        yield "suspend without shutdownAfterJobFinishes"
    if spec.get("ttlSecondsAfterFinished", 0) > 0 and not shutdown:
        yield "ttlSecondsAfterFinished without shutdownAfterJobFinishes"
    if rules and shutdown:
        yield "deletionRules with shutdownAfterJobFinishes"
    if not rules and not shutdown:
        yield "the cluster is never deleted"
    for field in ("activeDeadlineSeconds", "preRunningDeadlineSeconds"):
        if spec.get(field, 1) <= 0:
            yield f"{field} is not positive"
    ttl: dict[tuple[str, str], int] = {}
    for rule in rules:
        condition = rule["condition"]
        key = (condition.get("jobStatus") or condition["jobDeploymentStatus"], rule["policy"])
        if key in ttl:
            yield f"two rules for {key}"
        ttl[key] = condition.get("ttlSeconds", 0)
        if rule["policy"] == "DeleteWorkers" and cluster.get("enableInTreeAutoscaling"):
            yield "DeleteWorkers with autoscaling"
    for status in {status for status, _ in ttl}:
        times = [ttl[status, policy] for policy in _DELETION_ORDER if (status, policy) in ttl]
        if times != sorted(times):
            yield f"{status}: workers, cluster and job are not deleted in this order"


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
        if not {"/tmp", "/home/ray"} <= paths.keys():
            yield f"{name} has no writable /tmp or home"
        yield from (f"{name} mounts {volume}, which is no volume" for volume in set(paths.values()) - mounted)
