"""Each rule of KubeRay's operator, broken once in an object that was valid."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
from clinical_modernbert.cluster.kuberay_rules import cluster_spec, refusals
from clinical_modernbert.cluster.skeleton import fill

from tests.helpers.rayjob import skeleton

Break = Callable[[dict[str, Any], dict[str, Any]], object]
"""Changes (spec, cluster inside it) in place."""


def env(group: dict[str, Any], name: str) -> None:
    group["template"]["spec"]["containers"][0]["env"].append({"name": name, "value": "1"})


def rule(policy: str, ttl_s: int, **condition: str) -> dict[str, Any]:
    return {"policy": policy, "condition": {**condition, "ttlSeconds": ttl_s}}


BROKEN_JOBS: dict[str, Break] = {
    "no specification of a Ray cluster": lambda spec, _: spec.pop("rayClusterSpec"),
    "upgradeStrategy of a cluster that": lambda _, ray: ray.update(upgradeStrategy={"type": "Recreate"}),
    "networkPolicy needs a feature gate": lambda _, ray: ray.update(networkPolicy={"mode": "DenyAll"}),
    "needs Ray 2.52, rayVersion is 2.51.1": lambda _, ray: ray.update(rayVersion="2.51.1"),
    "token authentication needs rayVersion": lambda _, ray: ray.update(rayVersion=""),
    "enableK8sTokenAuth with secretName": lambda _, ray: ray["authOptions"].update(enableK8sTokenAuth=True),
    "head: REDIS_PASSWORD in env": lambda _, ray: env(ray["headGroupSpec"], "REDIS_PASSWORD"),
    "head: RAY_enable_autoscaler_v2 in env": lambda _, ray: env(ray["headGroupSpec"], "RAY_enable_autoscaler_v2"),
    "head: labels in rayStartParams": lambda _, ray: ray["headGroupSpec"]["rayStartParams"].update(labels="a=b"),
    "head: resources both": lambda _, ray: ray["headGroupSpec"].update(resources={"CPU": "1"}),
    "cpu: minReplicas and maxReplicas are needed": lambda _, ray: ray["workerGroupSpecs"][0].pop("maxReplicas"),
    "cpu: minReplicas 9": lambda _, ray: ray["workerGroupSpecs"][0].update(minReplicas=9),
    "cpu: idleTimeoutSeconds or priority": lambda _, ray: ray["workerGroupSpecs"][0].update(idleTimeoutSeconds=60),
    "cpu: no container": lambda _, ray: ray["workerGroupSpecs"][0]["template"]["spec"].update(containers=[]),
    "suspend without shutdownAfterJobFinishes": lambda spec, _: spec.update(suspend=True),
    "ttlSecondsAfterFinished is negative": lambda spec, _: spec.update(ttlSecondsAfterFinished=60),
    "deletionRules with shutdownAfterJobFinishes": lambda spec, _: spec.update(shutdownAfterJobFinishes=True),
    "deletionStrategy without deletionRules": lambda spec, _: spec.update(deletionStrategy={}),
    "activeDeadlineSeconds must be positive": lambda spec, _: spec.update(activeDeadlineSeconds=0),
    "backoffLimit must not be negative": lambda spec, _: spec.update(backoffLimit=-1),
    "backoffLimit with InteractiveMode": lambda spec, _: spec.update(submissionMode="InteractiveMode", backoffLimit=1),
    "with SidecarMode": lambda spec, _: spec.update(submissionMode="SidecarMode"),
    "clusterSelector with": lambda spec, _: spec.update(clusterSelector={"ray.io/cluster": "research"}, backoffLimit=1),
    "deletionRules[0]: DeleteWorkers with the autoscaler": lambda spec, ray: (
        ray.update(enableInTreeAutoscaling=True),
        spec["deletionStrategy"].update(deletionRules=[rule("DeleteWorkers", 0, jobStatus="FAILED")]),
    ),
    "deletionRules[0]: exactly one of": lambda spec, _: spec["deletionStrategy"].update(
        deletionRules=[rule("DeleteCluster", 0)]
    ),
    "deletionRules[1]: a second rule": lambda spec, _: spec["deletionStrategy"].update(
        deletionRules=[rule("DeleteCluster", ttl_s, jobStatus="FAILED") for ttl_s in (0, 1)]
    ),
    "FAILED: workers, cluster and job": lambda spec, _: spec["deletionStrategy"].update(
        deletionRules=[rule("DeleteWorkers", 9, jobStatus="FAILED"), rule("DeleteCluster", 0, jobStatus="FAILED")]
    ),
}

BROKEN_SERVICES: dict[str, Break] = {
    "needs the autoscaler": lambda spec, _: spec.update(upgradeStrategy=incremental()),
    "needs gatewayClassName": lambda spec, _: spec.update(upgradeStrategy=incremental(gatewayClassName="")),
    "stepSizePercent 60": lambda spec, _: spec.update(upgradeStrategy=incremental(stepSizePercent=60)),
    "intervalSeconds must be positive": lambda spec, _: spec.update(upgradeStrategy=incremental(intervalSeconds=0)),
    "rayClusterDeletionDelaySeconds is negative": lambda spec, _: spec.update(rayClusterDeletionDelaySeconds=-1),
    "redis in rayStartParams": lambda _, ray: (
        ray.update(gcsFaultToleranceOptions={"redisAddress": "redis:6379"}),
        ray["headGroupSpec"]["rayStartParams"].update({"redis-password": "x"}),
    ),
}


def incremental(**changes: Any) -> dict[str, Any]:
    options = {"gatewayClassName": "istio", "stepSizePercent": 20, "intervalSeconds": 60, "maxSurgePercent": 50}
    return {"type": "NewClusterWithIncrementalUpgrade", "clusterUpgradeOptions": {**options, **changes}}


def job() -> dict[str, Any]:
    return deepcopy(fill(skeleton(), name="run", namespace="ml", command="python x.py", workers={"cpu": 1}))


def service() -> dict[str, Any]:
    spec = {"upgradeStrategy": {"type": "NewCluster"}, "rayClusterConfig": cluster_spec(job())}
    return {"apiVersion": "ray.io/v1", "kind": "RayService", "metadata": {"name": "encoder"}, "spec": spec}


@pytest.mark.parametrize("reason", BROKEN_JOBS)
def test_a_job_that_breaks_a_rule_is_refused_for_it(reason: str) -> None:
    manifest = job()
    assert refusals(manifest) == []
    BROKEN_JOBS[reason](manifest["spec"], cluster_spec(manifest))

    assert any(reason in refusal for refusal in refusals(manifest)), refusals(manifest)


@pytest.mark.parametrize("reason", BROKEN_SERVICES)
def test_a_service_that_breaks_a_rule_is_refused_for_it(reason: str) -> None:
    manifest = service()
    assert refusals(manifest) == []
    BROKEN_SERVICES[reason](manifest["spec"], cluster_spec(manifest))

    assert any(reason in refusal for refusal in refusals(manifest)), refusals(manifest)
