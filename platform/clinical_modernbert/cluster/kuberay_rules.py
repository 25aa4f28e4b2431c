"""What KubeRay's operator 1.7 refuses in a ``ray.io/v1`` object although its CRDs allow it.

The operator writes a refusal into the object's status, where users rarely look, so an object is checked before it is sent. The
rules are those of the operator's ``validation.go``, with feature gates at their defaults. Not covered: fields that the chart
does not write.
"""

import re
from collections.abc import Iterator
from typing import Any

KubernetesObject = dict[str, Any]
"""A Kubernetes object, or one field of it, as its JSON: its schema is KubeRay's or Kubernetes', and the API server checks it."""

# KubeRay appends to names, and services are DNS labels of 63 characters.
NAME_LIMITS = {"RayCluster": 53, "RayJob": 47, "RayService": 47, "RayCronJob": 36}
NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")

_NEED_A_GATE = ("networkPolicy", "tlsOptions", "historyServerOptions")
_DELETION_ORDER = ("DeleteWorkers", "DeleteCluster", "DeleteSelf")
_RESOURCE_PARAMETERS = frozenset({"num-cpus", "num-gpus", "memory", "resources"})
_REDIS_VARIABLES = frozenset({"RAY_REDIS_ADDRESS", "REDIS_USERNAME", "REDIS_PASSWORD"})
_AUTOSCALER_VARIABLE = "RAY_enable_autoscaler_v2"


def refusals(manifest: KubernetesObject) -> list[str]:
    """Return each reason for which the operator would refuse ``manifest``; empty if it would accept it."""
    return list(_refusals(manifest))


def cluster_spec(manifest: KubernetesObject) -> KubernetesObject:
    """Return the Ray cluster inside a RayCluster, RayJob, RayCronJob or RayService."""
    spec: KubernetesObject = manifest["spec"]
    if manifest["kind"] == "RayCronJob":
        spec = spec["jobTemplate"]
    field = {"RayCronJob": "rayClusterSpec", "RayJob": "rayClusterSpec", "RayService": "rayClusterConfig"}.get(
        manifest["kind"]
    )
    return spec.get(field) or {} if field else spec


def name_refusal(kind: str, name: str) -> str | None:
    """Return why the operator would refuse the name, or None."""
    if len(name) > NAME_LIMITS[kind]:
        return (
            f"name {name!r} has {len(name)} characters, at most {NAME_LIMITS[kind]} are allowed: KubeRay appends to it"
        )
    if not NAME.fullmatch(name):
        return f"name {name!r} must start with a letter and contain lower-case letters, digits and inner dashes"
    return None


def _refusals(manifest: KubernetesObject) -> Iterator[str]:
    kind, spec = manifest["kind"], manifest["spec"]
    if manifest["apiVersion"] != "ray.io/v1":
        yield f"apiVersion {manifest['apiVersion']} is not ray.io/v1"
    if reason := name_refusal(kind, manifest["metadata"]["name"]):
        yield reason
    if kind == "RayCronJob":
        kind, spec = "RayJob", spec["jobTemplate"]
    selects = bool(spec.get("clusterSelector"))
    cluster = cluster_spec(manifest)
    if cluster:
        yield from _cluster_refusals(cluster, owned=kind != "RayCluster")
    elif not (kind == "RayJob" and selects):
        yield "no specification of a Ray cluster"
    if kind == "RayJob":
        yield from _mode_refusals(spec, cluster)
        yield from _job_refusals(spec)
        yield from _rule_refusals(spec, cluster)
    if kind == "RayService":
        yield from _upgrade_refusals(spec, cluster)


def _cluster_refusals(spec: KubernetesObject, *, owned: bool) -> Iterator[str]:
    if owned and "upgradeStrategy" in spec:
        yield "upgradeStrategy of a cluster that a RayJob or RayService owns"
    yield from (f"{field} needs a feature gate that is off by default" for field in _NEED_A_GATE if field in spec)
    yield from _auth_refusals(spec, owned=owned)
    scaled = bool(spec.get("enableInTreeAutoscaling"))
    groups = spec.get("workerGroupSpecs", [])
    for name, group in [("head", spec["headGroupSpec"]), *((group["groupName"], group) for group in groups)]:
        yield from _pod_refusals(name, group, scaled=scaled)
    for group in groups:
        yield from _size_refusals(group, scaled=scaled)
    recovery = spec.get("gcsFaultToleranceOptions")
    variables = _variables(spec["headGroupSpec"])
    if recovery and any("redis" in parameter for parameter in spec["headGroupSpec"].get("rayStartParams", {})):
        yield "head: redis in rayStartParams together with gcsFaultToleranceOptions"
    if bad := sorted(_REDIS_VARIABLES & variables):
        yield f"head: {', '.join(bad)} in env; use gcsFaultToleranceOptions"
    if _AUTOSCALER_VARIABLE in variables:
        yield f"head: {_AUTOSCALER_VARIABLE} in env; use autoscalerOptions.version"
    if spec.get("autoscalerOptions", {}).get("idleTimeoutSeconds", 0) < 0:
        yield "autoscalerOptions.idleTimeoutSeconds is negative"


def _auth_refusals(spec: KubernetesObject, *, owned: bool) -> Iterator[str]:
    auth = spec.get("authOptions", {})
    if auth.get("mode") != "token":
        return
    version = spec.get("rayVersion", "")
    if not re.fullmatch(r"\d+\.\d+\.\d+.*", version):
        yield f"token authentication needs rayVersion, this is {version!r}"
        return
    minor = tuple(map(int, version.split(".")[:2]))
    if minor < (2, 52):
        yield f"token authentication needs Ray 2.52, rayVersion is {version}"
    if auth.get("enableK8sTokenAuth"):
        if owned or auth.get("secretName"):
            yield "enableK8sTokenAuth with secretName, or for a RayJob or RayService"
        if minor < (2, 55):
            yield f"enableK8sTokenAuth needs Ray 2.55, rayVersion is {version}"


def _pod_refusals(name: str, group: KubernetesObject, *, scaled: bool) -> Iterator[str]:
    start, pod = group.get("rayStartParams", {}), group["template"]["spec"]
    if group.get("resources") and _RESOURCE_PARAMETERS & start.keys():
        yield f"{name}: resources both in rayStartParams and in the group"
    if "labels" in start:
        yield f"{name}: labels in rayStartParams; use the group's labels"
    if not pod.get("containers"):
        yield f"{name}: no container"
    if scaled and pod.get("restartPolicy", "Never") != "Never":
        yield f"{name}: restartPolicy {pod['restartPolicy']} with the autoscaler, which needs Never"


def _size_refusals(group: KubernetesObject, *, scaled: bool) -> Iterator[str]:
    name = group["groupName"]
    if not scaled and not {"minReplicas", "maxReplicas"} <= group.keys():
        yield f"{name}: minReplicas and maxReplicas are needed without the autoscaler"
    if group.get("minReplicas", 0) < 0 or group.get("minReplicas", 0) > group.get("maxReplicas", 2**31 - 1):
        yield f"{name}: minReplicas {group['minReplicas']} is negative or above maxReplicas"
    if not scaled and not {"idleTimeoutSeconds", "priority"}.isdisjoint(group):
        yield f"{name}: idleTimeoutSeconds or priority without the autoscaler"
    if scaled and group.get("suspend"):
        yield f"{name}: suspend with the autoscaler"


def _mode_refusals(spec: KubernetesObject, cluster: KubernetesObject) -> Iterator[str]:
    mode, retries = spec.get("submissionMode", "K8sJobMode"), spec.get("backoffLimit", 0)
    if spec.get("clusterSelector") and (mode == "SidecarMode" or spec.get("suspend") or retries > 0):
        yield "clusterSelector with SidecarMode, suspend or backoffLimit"
    if mode == "InteractiveMode" and retries > 0:
        yield "backoffLimit with InteractiveMode"
    if mode == "SidecarMode":
        if not {"submitterPodTemplate", "submitterConfig"}.isdisjoint(spec):
            yield "submitterPodTemplate or submitterConfig with SidecarMode"
        head = cluster.get("headGroupSpec", {}).get("template", {}).get("spec", {})
        if head.get("restartPolicy", "Never") != "Never":
            yield "head: restartPolicy must be Never with SidecarMode"


def _job_refusals(spec: KubernetesObject) -> Iterator[str]:
    shutdown = spec.get("shutdownAfterJobFinishes", False)
    rules = spec.get("deletionStrategy", {}).get("deletionRules", [])
    if spec.get("suspend") and not shutdown:
        yield "suspend without shutdownAfterJobFinishes"
    if spec.get("ttlSecondsAfterFinished", 0) < 0 or (spec.get("ttlSecondsAfterFinished", 0) and not shutdown):
        yield "ttlSecondsAfterFinished is negative, or without shutdownAfterJobFinishes"
    if rules and shutdown:
        yield "deletionRules with shutdownAfterJobFinishes"
    if "deletionStrategy" in spec and not rules:
        yield "deletionStrategy without deletionRules"
    for field in ("activeDeadlineSeconds", "preRunningDeadlineSeconds"):
        if spec.get(field, 1) <= 0:
            yield f"{field} must be positive, this is {spec[field]}"
    if spec.get("backoffLimit", 0) < 0:
        yield f"backoffLimit must not be negative, this is {spec['backoffLimit']}"


def _rule_refusals(spec: KubernetesObject, cluster: KubernetesObject) -> Iterator[str]:
    ttl: dict[tuple[str, str], int] = {}
    for number, rule in enumerate(spec.get("deletionStrategy", {}).get("deletionRules", [])):
        condition, where = rule["condition"], f"deletionRules[{number}]"
        statuses = [condition[field] for field in ("jobStatus", "jobDeploymentStatus") if condition.get(field)]
        if len(statuses) != 1 or condition.get("ttlSeconds", 0) < 0:
            yield f"{where}: exactly one of jobStatus and jobDeploymentStatus, and no negative ttlSeconds"
            continue
        if (statuses[0], rule["policy"]) in ttl:
            yield f"{where}: a second rule {rule['policy']} for {statuses[0]}"
        ttl[statuses[0], rule["policy"]] = condition.get("ttlSeconds", 0)
        if rule["policy"] == "DeleteWorkers" and cluster.get("enableInTreeAutoscaling"):
            yield f"{where}: DeleteWorkers with the autoscaler"
    for status in sorted({status for status, _ in ttl}):
        times = [ttl[status, policy] for policy in _DELETION_ORDER if (status, policy) in ttl]
        if times != sorted(times):
            yield f"{status}: workers, cluster and job must be deleted in this order"


def _upgrade_refusals(spec: KubernetesObject, cluster: KubernetesObject) -> Iterator[str]:
    if spec.get("rayClusterDeletionDelaySeconds", 0) < 0:
        yield "rayClusterDeletionDelaySeconds is negative"
    strategy = spec.get("upgradeStrategy", {})
    if strategy.get("type") != "NewClusterWithIncrementalUpgrade":
        return
    options = strategy.get("clusterUpgradeOptions", {})
    if not cluster.get("enableInTreeAutoscaling"):
        yield "NewClusterWithIncrementalUpgrade needs the autoscaler"
    if not options.get("gatewayClassName"):
        yield "NewClusterWithIncrementalUpgrade needs gatewayClassName"
    step, surge = options.get("stepSizePercent", -1), options.get("maxSurgePercent", 100)
    if not 0 <= step <= surge <= 100:
        yield f"stepSizePercent {step} must be between 0 and maxSurgePercent, which is at most 100"
    if options.get("intervalSeconds", 0) <= 0:
        yield "intervalSeconds must be positive"


def _variables(group: KubernetesObject) -> set[str]:
    return {variable["name"] for variable in group["template"]["spec"]["containers"][0].get("env", [])}
