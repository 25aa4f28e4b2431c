"""Differences between a manifest and the live object."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from clinical_modernbert.cluster.drift import differences
from clinical_modernbert.cluster.install import main

from tests.helpers.api_stub.server import Stub


def cluster() -> dict[str, Any]:
    container = {
        "name": "ray-worker",
        "image": "cpu:1",
        "env": [{"name": "A", "value": "1"}],
        "ports": [{"name": "metrics", "containerPort": 8080}],
        "resources": {"limits": {"cpu": "0.5", "memory": "2048Mi"}},
    }
    pod = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container], "serviceAccountName": "cm"}}
    group = {"groupName": "cpu", "minReplicas": 0, "maxReplicas": 4, "rayStartParams": {}, "template": pod}
    return {"kind": "RayCluster", "spec": {"rayVersion": "2.60.0", "workerGroupSpecs": [group]}}


def test_what_the_api_server_the_operator_and_the_autoscaler_add_is_no_difference() -> None:
    live = deepcopy(cluster())
    (group,) = live["spec"]["workerGroupSpecs"]
    group |= {"replicas": 3, "numOfHosts": 1, "scaleStrategy": {"workersToDelete": ["x"]}, "rayStartParams": None}
    (container,) = group["template"]["spec"]["containers"]
    container["ports"][0]["protocol"] = "TCP"
    container["resources"] = {"limits": {"cpu": "500m", "memory": "2Gi"}, "requests": {}}
    group["template"]["metadata"]["creationTimestamp"] = None
    live["status"] = {"state": "ready"}

    assert differences(cluster(), live) == []


def test_a_value_of_an_earlier_revision_is_named_with_its_path() -> None:
    live = cluster()
    live["spec"]["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["image"] = "cpu:tset"

    assert differences(cluster(), live) == [
        "spec.workerGroupSpecs[0].template.spec.containers[0].image is 'cpu:tset', the manifest has 'cpu:1'"
    ]


def test_what_somebody_added_to_a_pod_is_named() -> None:
    live = cluster()
    pod = live["spec"]["workerGroupSpecs"][0]["template"]["spec"]
    pod["containers"][0]["env"].append({"name": "STOLEN", "valueFrom": {"secretKeyRef": {"name": "login", "key": "k"}}})
    pod["initContainers"] = [{"name": "miner", "image": "x"}]

    assert sorted(differences(cluster(), live)) == [
        "spec.workerGroupSpecs[0].template.spec.containers[0].env is list of 2, the manifest has list of 1",
        "spec.workerGroupSpecs[0].template.spec.initContainers is list of 1, the manifest has absent",
    ]


def test_an_object_without_a_group_of_the_manifest_differs() -> None:
    live = {"kind": "RayCluster", "spec": {"rayVersion": "2.60.0"}}

    assert differences(cluster(), live) == ["spec.workerGroupSpecs is absent, the manifest has list of 1"]


def test_an_installation_with_an_object_of_an_earlier_revision_fails(
    stub: Stub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = {"apiVersion": "ray.io/v1", "metadata": {"name": "research", "namespace": "ml"}, **cluster()}
    (tmp_path / "manifests.yaml").write_text(yaml.safe_dump_all([named]))
    live = deepcopy(named)
    live["spec"]["rayVersion"] = "2.59.0"
    command = ["--root", str(tmp_path), "--manifests", str(tmp_path / "manifests.yaml")]
    stub.create("rayclusters", live)
    with pytest.raises(SystemExit) as ended:
        main(command)

    assert ended.value.code == 1
    assert "error: RayCluster research is not what the release installed: spec.rayVersion" in capsys.readouterr().out
    stub.state.change(("rayclusters", "ml", "research"), lambda old: {**old, "spec": named["spec"]})
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 0
    assert "RayCluster research: as the release installed it" in capsys.readouterr().out
