"""RayJob and RayService objects (``ray.io/v1``) as plain values: what the chart renders, built from the same shape.

Pure functions: nothing here calls a cluster. What KubeRay's operator would refuse later, and leave in a status, is refused
here at once. Pods keep Pod Security "restricted" with a read-only root. Not covered: clusters that scale themselves.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from clinical_modernbert.cluster.access import Role, role_of
from clinical_modernbert.cluster.kuberay_rules import name_refusal, refusals
from clinical_modernbert.cluster.pods import head_pod, submitter_pod, worker_pod
from clinical_modernbert.cluster.settings import Limits, Shape
from clinical_modernbert.errors import ClusterError

JOB_KINDS = ("build_corpus", "pretrain", "sweep", "evaluate", "map_codes", "embed")

_RECIPE = re.compile(r"[a-z0-9_]+/[A-Za-z0-9_.-]+")
_OVERRIDE = re.compile(r"[A-Za-z0-9_.]+=[A-Za-z0-9_.:/,+@%=\[\]{}\" -]*")


def ray_job(
    name: str,
    *,
    kind: str,
    recipe: str,
    shape: Shape,
    workers: Mapping[str, int],
    overrides: Sequence[str] = (),
    namespace: str = "default",
    labels: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the RayJob that runs ``jobs/<kind>.py <recipe>`` on a cluster of its own.

    ``workers`` maps a worker group of the shape to its number of pods, which stays fixed. A failed job starts again on a new
    cluster and goes on from the store; its workers go at once and its head after a while, for the logs.
    """
    spec: dict[str, Any] = {
        "entrypoint": entrypoint(kind, recipe, overrides),
        "submissionMode": "K8sJobMode",
        "backoffLimit": shape.limits.backoff_limit,
        "activeDeadlineSeconds": shape.limits.active_deadline_s,
        "preRunningDeadlineSeconds": shape.limits.pre_running_deadline_s,
        **_deletion(shape.limits),
        "submitterConfig": {"backoffLimit": shape.submitter.backoff_limit},
        "submitterPodTemplate": submitter_pod(shape),
        "rayClusterSpec": _ray_cluster(shape, workers, role=role_of(kind), serve=False),
    }
    return _object("RayJob", name, namespace, {**shape.labels, **(labels or {}), **_queue(shape.limits)}, spec)


def ray_service(
    name: str,
    *,
    args: Mapping[str, Any],
    shape: Shape,
    workers: Mapping[str, int],
    import_path: str = "apps.encoder:build",
    namespace: str = "default",
    labels: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the RayService that serves ``import_path`` with ``args``; an upgrade starts a second cluster beside the first."""
    application = {"name": "encoder", "route_prefix": "/", "import_path": import_path, "args": dict(args)}
    serve_config = {
        "proxy_location": "EveryNode",
        "http_options": {"host": "0.0.0.0", "port": 8000},
        "applications": [application],
    }
    spec = {
        "upgradeStrategy": {"type": "NewCluster"},
        "excludeHeadPodFromServeSvc": True,
        "serveConfigV2": yaml.safe_dump(serve_config, sort_keys=False),
        "rayClusterConfig": _ray_cluster(shape, workers, role="reader", serve=True),
    }
    return _object("RayService", name, namespace, {**shape.labels, **(labels or {})}, spec)


def entrypoint(kind: str, recipe: str, overrides: Sequence[str]) -> str:
    """Return the command line of a job.

    It passes Kubernetes, which reads ``$(NAME)``, and two shells, the submitter's and the driver's: the quotes keep a value
    whole in the first, Ray quotes it again for the second, and characters that could end the quotes are refused.
    """
    if kind not in JOB_KINDS:
        raise ClusterError(f"kind {kind!r} is no job; choose one of {', '.join(JOB_KINDS)}")
    if not _RECIPE.fullmatch(recipe):
        raise ClusterError(f"recipe {recipe!r} must be <kind>/<name> below jobs/recipes: a cluster has no other file")
    for override in overrides:
        if not _OVERRIDE.fullmatch(override):
            raise ClusterError(
                f"override {override!r} must be path.to.field=value with a value of letters, digits, blanks and any of "
                '_.:/,+@%=[]{}"- (it passes two shells); write anything else into the recipe'
            )
    return " ".join([f"python jobs/{kind}.py {recipe}", *(f"--set '{override}'" for override in overrides)])


def _object(kind: str, name: str, namespace: str, labels: Mapping[str, str], spec: dict[str, Any]) -> dict[str, Any]:
    """Return the whole object; raises ``ClusterError`` with every reason for which the operator would refuse it."""
    if reason := name_refusal(kind, name):
        raise ClusterError(reason)
    metadata = {"name": name, "namespace": namespace, "labels": dict(labels)}
    manifest = {"apiVersion": "ray.io/v1", "kind": kind, "metadata": metadata, "spec": spec}
    if reasons := refusals(manifest):
        raise ClusterError(f"KubeRay would refuse {kind} {name}:\n  " + "\n  ".join(reasons))
    return manifest


def _queue(limits: Limits) -> dict[str, str]:
    labels = {"kueue.x-k8s.io/queue-name": limits.queue, "kueue.x-k8s.io/priority-class": limits.queue_priority}
    return {name: value for name, value in labels.items() if limits.queue and value}


def _deletion(limits: Limits) -> dict[str, Any]:
    """When the cluster of a job goes.

    Kueue suspends a job until it is admitted, and KubeRay refuses to suspend one with deletion rules. A job may fail without
    a job status: past a deadline, or never submitted.
    """
    if limits.queue:
        return {"shutdownAfterJobFinishes": True, "ttlSecondsAfterFinished": limits.keep_failed_s}
    rules = [_rule("DeleteCluster", {"jobStatus": "SUCCEEDED"}, limits.keep_succeeded_s)]
    for condition in ({"jobStatus": "FAILED"}, {"jobDeploymentStatus": "Failed"}):
        rules += [_rule("DeleteWorkers", condition, 0), _rule("DeleteCluster", condition, limits.keep_failed_s)]
    return {"deletionStrategy": {"deletionRules": rules}}


def _rule(policy: str, condition: Mapping[str, str], ttl_s: int) -> dict[str, Any]:
    return {"policy": policy, "condition": {**condition, "ttlSeconds": ttl_s}}


def _ray_cluster(shape: Shape, workers: Mapping[str, int], *, role: Role, serve: bool) -> dict[str, Any]:
    if not workers:
        raise ClusterError(f"no workers: name a group and a number, such as {next(iter(shape.worker_groups))}=2")
    auth = {"mode": "token"} | ({"secretName": shape.auth_secret} if shape.auth_secret else {})
    return {
        "rayVersion": shape.ray_version,
        "authOptions": auth,
        "headGroupSpec": {"rayStartParams": {"num-cpus": "0"}, "template": head_pod(shape, role=role, serve=serve)},
        "workerGroupSpecs": [
            _worker_group(shape, group, count, role=role, serve=serve) for group, count in workers.items()
        ],
    }


def _worker_group(shape: Shape, group: str, count: int, *, role: Role, serve: bool) -> dict[str, Any]:
    if group not in shape.worker_groups:
        raise ClusterError(f"no worker group {group!r}; this cluster has: {', '.join(sorted(shape.worker_groups))}")
    if count < 1:
        raise ClusterError(f"worker group {group!r}: {count} pods; ask for at least 1")
    return {
        "groupName": group,
        "replicas": count,
        "minReplicas": count,
        "maxReplicas": count,
        "rayStartParams": {},
        "template": worker_pod(shape, shape.worker_groups[group], role=role, serve=serve),
    }
