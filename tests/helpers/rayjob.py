"""A small RayJob skeleton, the ConfigMap that carries it, a job, a pod, and an API stub whose RayJobs go through given states."""

from typing import Any

import yaml
from clinical_modernbert.cluster.skeleton import fill

from tests.helpers.api_stub.server import Stub
from tests.helpers.api_stub.state import Object, RefusedError, State

SUBMIT = ["pretrain", "pretrain/demo", "--release", "cm", "--namespace", "ml", "--workers", "cpu=2", "--poll-s", "0"]
INITIALIZING = {"jobDeploymentStatus": "Initializing", "rayClusterName": "run-abc"}
RUNNING = {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING", "rayClusterName": "run-abc"}
COMPLETE = {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED", "rayClusterName": "run-abc"}
FAILED = {
    "jobDeploymentStatus": "Failed",
    "jobStatus": "FAILED",
    "reason": "AppFailed",
    "message": "exit 2",
    "failed": 3,
}


def _pod(container: str, image: str, secret: str, resources: dict[str, str]) -> dict[str, Any]:
    keys = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": name}}}
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    ]
    limits = {"limits": resources, "requests": resources}
    return {
        "metadata": {"labels": {"component": "job"}},
        "spec": {"containers": [{"name": container, "image": image, "env": keys, "resources": limits}]},
    }


def _group(name: str, template: dict[str, Any]) -> dict[str, Any]:
    sizes = {"replicas": 0, "minReplicas": 0, "maxReplicas": 0}
    return {"groupName": name, **sizes, "rayStartParams": {}, "template": template}


def skeleton(secret: str = "trainer-keys") -> dict[str, Any]:
    """A skeleton with a group of CPU workers and one of eight GPUs; its pods use ``secret``."""
    head = _pod("ray-head", "cpu:1", secret, {"cpu": "2", "memory": "8Gi"})
    cpu = _pod("ray-worker", "cpu:1", secret, {"cpu": "4", "memory": "16Gi"})
    a100 = _pod("ray-worker", "gpu:1", secret, {"cpu": "90", "memory": "900Gi", "nvidia.com/gpu": "8"})
    rules = [
        {"policy": "DeleteCluster", "condition": {"jobStatus": "SUCCEEDED", "ttlSeconds": 300}},
        {"policy": "DeleteCluster", "condition": {"jobStatus": "FAILED", "ttlSeconds": 3600}},
    ]
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {"labels": {"component": "job"}},
        "spec": {
            "submissionMode": "K8sJobMode",
            "backoffLimit": 0,
            "deletionStrategy": {"deletionRules": rules},
            "submitterPodTemplate": _pod("ray-job-submitter", "cpu:1", secret, {"cpu": "500m", "memory": "1Gi"}),
            "rayClusterSpec": {
                "rayVersion": "2.60.0",
                "authOptions": {"mode": "token"},
                "headGroupSpec": {"rayStartParams": {"num-cpus": "0"}, "template": head},
                "workerGroupSpecs": [_group("a100", a100), _group("cpu", cpu)],
            },
        },
    }


def queued(job: dict[str, Any]) -> dict[str, Any]:
    """``job`` with a queue of Kueue, as the chart renders one."""
    spec = {key: value for key, value in job["spec"].items() if key != "deletionStrategy"}
    labels = {**job["metadata"]["labels"], "kueue.x-k8s.io/queue-name": "research"}
    return {**job, "metadata": {"labels": labels}, "spec": {**spec, "shutdownAfterJobFinishes": True}}


def config_map_data() -> dict[str, str]:
    """The data of the chart's ConfigMap, with a role for each of two kinds of job."""
    return {
        "roles.yaml": "build_corpus: publisher\npretrain: trainer\n",
        "publisher.yaml": yaml.safe_dump(skeleton("publisher-keys")),
        "trainer.yaml": yaml.safe_dump(skeleton("trainer-keys")),
    }


class ScriptedState(State):
    """Returns ``states`` as the status of a RayJob, one at each read, the last one from then on; a number is an error's code."""

    def __init__(self) -> None:
        super().__init__()
        self.states: list[dict[str, Any] | int] = [{}]

    def get(self, plural: str, namespace: str, name: str) -> Object:
        stored = super().get(plural, namespace, name)
        if plural == "rayjobs":
            state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
            if isinstance(state, int):
                raise RefusedError(state, "Unavailable", "etcdserver: leader changed")
            stored["status"] = state
        return stored


def script(stub: Stub, states: list[dict[str, Any] | int]) -> None:
    """Let the RayJob of the stub go through ``states``."""
    assert isinstance(stub.state, ScriptedState)
    stub.state.states = states


def job(name: str = "run") -> dict[str, Any]:
    """A RayJob of the skeleton with one worker."""
    return fill(skeleton(), name=name, namespace="ml", command="python jobs/x.py", workers={"cpu": 1})


def pending(name: str, **status: Any) -> dict[str, Any]:
    """A pod of the Ray cluster ``run-abc`` that does not run."""
    metadata = {"name": name, "namespace": "ml", "labels": {"ray.io/cluster": "run-abc"}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": {"phase": "Pending", **status}}
