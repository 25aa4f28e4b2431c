"""Volumes, variables and other fields that a platform team adds to pods reach every pod of the node, and nothing else changes."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from clinical_modernbert.cluster.kuberay_rules import cluster_spec, refusals

from tests.helpers.chart import CHART, Helm, Render, of_kind, skeletons
from tests.helpers.pod_security import pod_specs, restricted_violations

pytestmark = pytest.mark.helm

Object = dict[str, Any]
MOUNT = {"name": "data", "mountPath": "/data", "readOnly": True}


def groups(manifests: list[Object]) -> Iterator[tuple[str, Object]]:
    """``where, group`` of each head and worker group, also of jobs that submit sends."""
    rays = [manifest for manifest in manifests if manifest["apiVersion"] == "ray.io/v1"]
    rays += [yaml.safe_load(skeletons(manifests)[f"{role}.yaml"]) for role in ("publisher", "trainer")]
    for manifest in rays:
        cluster = cluster_spec(manifest)
        name = manifest["metadata"].get("name", "submitted")
        yield f"{name} head", cluster["headGroupSpec"]
        yield from ((f"{name} {group['groupName']}", group) for group in cluster["workerGroupSpecs"])


def test_the_preset_for_a_paper_mounts_its_raw_data_read_only_in_every_ray_pod(render: Render) -> None:
    enabled = [f"{part}.enabled=true" for part in ("jobs.pretrain-paper", "jobs.evaluate", "endpoint")]
    found = dict(groups(render("a100-2x8", *enabled)))

    assert len(found) > 10
    for where, group in found.items():
        pod = group["template"]["spec"]
        claim = {"claimName": "clinical-data", "readOnly": True}
        assert {"name": "data", "persistentVolumeClaim": claim} in pod["volumes"], where
        assert MOUNT in pod["containers"][0]["volumeMounts"], where


def test_a_mount_is_writable_only_if_it_says_so(render: Render) -> None:
    mounts = {
        mount["name"]: mount["readOnly"]
        for where, group in groups(render("everything"))
        if where.endswith("a100")
        for mount in group["template"]["spec"]["containers"][0]["volumeMounts"]
        if mount["name"] in ("data", "cache")
    }

    assert mounts == {"data": True, "cache": False}


def test_heads_get_variables_labels_affinity_and_time_to_stop(render: Render) -> None:
    heads = [group for where, group in groups(render("everything")) if where.endswith("head")]

    assert len(heads) == 7
    for head in heads:
        pod, labels = head["template"]["spec"], head["template"]["metadata"]["labels"]
        container = pod["containers"][0]
        assert {"name": "HTTPS_PROXY", "value": "http://proxy.example.org:3128"} in container["env"]
        assert container["envFrom"] == [{"secretRef": {"name": "mlflow", "optional": True}}]
        assert pod["terminationGracePeriodSeconds"] == 60 and "nodeAffinity" in pod["affinity"]
        assert labels["team"] == "ml" and labels["app.kubernetes.io/name"] == "kuberay"
        assert head["rayStartParams"] == {"num-cpus": "0"}


def test_containers_and_parameters_are_added_after_those_of_the_chart(render: Render) -> None:
    sets = []
    for node in ("head", "workerGroups.cpu"):
        sets += [
            f"{node}.initContainers[0].name=wait", f"{node}.initContainers[0].image=busybox:1",
            f"{node}.sidecars[0].name=log", f"{node}.sidecars[0].image=fluent-bit:3",
            f"{node}.rayStartParams.log-style=record", f"{node}.labels.app\\.kubernetes\\.io/name=mine",
        ]  # fmt: skip
    for where, group in groups(render("minimal", *sets)):
        pod = group["template"]["spec"]
        assert [container["name"] for container in pod["containers"]][1:] == ["log"], where
        assert pod["containers"][0]["name"].startswith("ray-")
        assert [container["name"] for container in pod["initContainers"]] == ["wait"]
        assert group["rayStartParams"]["log-style"] == "record"
        assert group["template"]["metadata"]["labels"]["app.kubernetes.io/name"] == "kuberay"


def test_the_explorer_takes_volumes_and_sources_of_variables(render: Render) -> None:
    deployment = next(
        m for m in of_kind(render("everything"), "Deployment") if m["metadata"]["name"].endswith("modernbert-explorer")
    )
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]

    assert container["envFrom"] == [{"configMapRef": {"name": "branding", "optional": True}}]
    assert {"name": "branding", "mountPath": "/etc/branding", "readOnly": True} in container["volumeMounts"]
    assert restricted_violations(pod_specs(deployment)["pod"]) == []


def test_a_host_path_renders_but_is_a_violation_of_restricted(render: Render) -> None:
    sets = ("head.volumes[0].name=disk", "head.volumes[0].hostPath.path=/mnt/data")
    (cluster,) = of_kind(render("minimal", *sets), "RayCluster")

    assert refusals(cluster) == []
    assert restricted_violations(pod_specs(cluster)["head"]) == ["volume disk of a type that is not allowed"]


def test_further_objects_are_rendered_with_the_release(render: Render) -> None:
    (site,) = [m for m in of_kind(render("everything"), "ConfigMap") if m["metadata"]["name"].endswith("-site")]

    assert site["metadata"]["name"] == "cm-clinical-modernbert-site" and site["metadata"]["namespace"] == "ml"


def test_further_connections_are_allowed_to_ray_and_the_explorer(render: Render) -> None:
    policies = {m["metadata"]["name"]: m["spec"] for m in of_kind(render("everything"), "NetworkPolicy")}
    extra, dns = policies["cm-clinical-modernbert-extra-egress"], policies["cm-clinical-modernbert-dns"]

    (components,) = extra["podSelector"]["matchExpressions"]
    assert components["values"] == ["endpoint", "explorer", "job", "research"]
    assert extra["egress"] == [
        {"to": [{"ipBlock": {"cidr": "10.0.9.0/24"}}], "ports": [{"protocol": "TCP", "port": 5000}]}
    ]
    assert {"ipBlock": {"cidr": "169.254.25.10/32"}} in dns["egress"][0]["to"]


@pytest.mark.parametrize(
    ("setting", "path"),
    [
        ("head.volumes[0].name=tmp,head.volumes[0].emptyDir.sizeLimit=1Gi", 'head.volumes[0].name "tmp" is taken'),
        (
            "explorer.volumes[0].name=a,explorer.volumes[0].nfs.path=/a,explorer.volumes[1].name=a,explorer.volumes[1].nfs.path=/b",
            'explorer.volumes[1].name "a" is there twice',
        ),
        (
            "workerGroups.cpu.volumeMounts[0].name=data,workerGroups.cpu.volumeMounts[0].mountPath=/data",
            "is not in workerGroups.cpu.volumes, which has: none",
        ),
        ("head.env[0].name=A,head.env[0].value=b", "head.env is a list; it maps each variable to its text"),
        ("workerGroups.cpu.env[0].name=A", "workerGroups.cpu.env is a list"),
        ("head.volumes[0].name=data", "at '/head/volumes/0'"),
        ("head.volumeMounts[0].name=data,head.volumeMounts[0].mountPath=data", "at '/head/volumeMounts/0/mountPath'"),
        ("workerGroups.cpu.volumeMounts[0].path=/data", "at '/workerGroups/cpu/volumeMounts/0'"),
        ("explorer.sidecars[0].name=x", "at '/explorer/sidecars/0'"),
    ],
)
def test_an_addition_that_cannot_work_is_refused_with_its_path(helm: Helm, setting: str, path: str) -> None:
    values = str(CHART / "ci" / "minimal-values.yaml")
    result = helm("template", "cm", str(CHART), "--values", values, "--set", "operatorCheck=false", "--set", setting)

    assert result.returncode != 0
    assert path in result.stderr
