"""Every preset renders into objects that the API server, KubeRay's operator and Pod Security would accept."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from clinical_modernbert.cluster.kuberay_rules import cluster_spec, refusals
from clinical_modernbert.cluster.skeleton import JOB_KINDS

from tests.helpers.chart import CHART, PRESETS, Helm, Render, no_less_than_it_may_use, of_kind, skeletons
from tests.helpers.kuberay_schema import count_rules, crds_path, gateway_crds_path, problems, read_schema
from tests.helpers.pod_security import pod_specs, restricted_violations

pytestmark = pytest.mark.helm

KUBERNETES_VERSIONS = tuple(f"1.{minor}" for minor in range(31, 38))
CUSTOM = ("ray.io/", "monitoring.coreos.com/", "gateway.networking.k8s.io/")
RAY_KINDS = ("RayCluster", "RayJob", "RayService", "RayCronJob")
LISTENER = ("name=public", "namespace=gateways", "sectionName=https")
CLUSTER_WIDE = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")


@pytest.mark.parametrize("preset", PRESETS)
def test_lint_is_clean(helm: Helm, preset: str) -> None:
    result = helm("lint", "--strict", str(CHART), "--values", str(CHART / "ci" / f"{preset}-values.yaml"))

    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("preset", PRESETS)
def test_ray_objects_satisfy_the_crds(render: Render, repository: Path, preset: str) -> None:
    crds = crds_path(repository)
    ray = [manifest for manifest in render(preset) if manifest["apiVersion"].startswith("ray.io/")]

    assert ray
    assert {
        manifest["metadata"]["name"]: problems(crds, manifest) for manifest in ray if problems(crds, manifest)
    } == {}


def test_routes_satisfy_the_crds_of_the_gateway_api(render: Render) -> None:
    crds = gateway_crds_path()
    routes = of_kind(render("everything", *(f"ingress.parentRefs[0].{setting}" for setting in LISTENER)), "HTTPRoute")

    assert len(routes) == 3
    assert {route["metadata"]["name"]: problems(crds, route) for route in routes if problems(crds, route)} == {}
    routes[0]["spec"]["rules"][0]["backendRefs"][0]["portNumber"] = 80
    assert problems(crds, routes[0]) != []


@pytest.fixture(scope="module")
def _schemas_read_once() -> Iterator[None]:
    """The library reads the definitions of a version, 1.5 MB of JSON, again for every object."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kubernetes_validate.utils, "schema_contents", cache(kubernetes_validate.utils.schema_contents))
        yield


@pytest.mark.usefixtures("_schemas_read_once")
@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
@pytest.mark.parametrize("preset", PRESETS)
def test_core_objects_satisfy_kubernetes(render: Render, preset: str, version: str) -> None:
    core = [manifest for manifest in render(preset) if not manifest["apiVersion"].startswith(CUSTOM)]

    assert core
    for manifest in core:
        kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_operator_refuses_nothing(render: Render, preset: str) -> None:
    for manifest in render(preset):
        if manifest["kind"] in RAY_KINDS:
            assert refusals(manifest) == [], manifest["metadata"]["name"]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_pod_is_restricted_and_gets_no_token(render: Render, preset: str) -> None:
    pods = {
        (manifest["kind"], manifest["metadata"]["name"], where): spec
        for manifest in render(preset)
        for where, spec in pod_specs(manifest).items()
    }

    assert len(pods) >= 3
    assert {key: restricted_violations(spec) for key, spec in pods.items() if restricted_violations(spec)} == {}
    assert not [key for key, spec in pods.items() if spec["automountServiceAccountToken"]]
    # Two containers call the API server: KubeRay's autoscaler, in the head of a cluster that scales itself, and `helm test`.
    tokens = {
        (*key, container["name"])
        for key, spec in pods.items()
        for container in [*spec.get("initContainers", []), *spec["containers"]]
        for mount in container.get("volumeMounts", [])
        if "serviceaccount" in mount["mountPath"] or "token" in mount["name"]
    }
    scaled = {
        (manifest["kind"], manifest["metadata"]["name"], "head", "autoscaler")
        for manifest in render(preset)
        if manifest["kind"] in RAY_KINDS and cluster_spec(manifest).get("enableInTreeAutoscaling")
    }
    (test,) = of_kind(render(preset), "Pod")
    assert tokens == scaled | {("Pod", test["metadata"]["name"], "pod", "test")}
    assert test["spec"]["serviceAccountName"].endswith("-test")
    assert all(spec["serviceAccountName"] != "default" for spec in pods.values())


@pytest.mark.parametrize("preset", PRESETS)
def test_requests_equal_limits_and_no_image_is_latest(render: Render, preset: str) -> None:
    for manifest in render(preset):
        for spec in pod_specs(manifest).values():
            for container in spec["containers"]:
                if container["name"] != "autoscaler":  # its image is KubeRay's choice: the head's
                    assert no_less_than_it_may_use(container)
                    assert not container["image"].endswith(":latest")
                    assert ":" in container["image"].rpartition("/")[2]


@pytest.mark.parametrize("preset", PRESETS)
def test_names_are_unique_and_labels_complete(render: Render, preset: str) -> None:
    manifests = render(preset)
    names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests]

    assert len(names) == len(set(names))
    for manifest in manifests:
        assert manifest["metadata"].get("namespace") == (None if manifest["kind"] in CLUSTER_WIDE else "ml")
        labels = manifest["metadata"]["labels"]
        assert {"name", "instance", "component", "version", "managed-by"} <= {key.rpartition("/")[2] for key in labels}


def test_the_explorer_service_selects_the_explorer_alone(render: Render) -> None:
    manifests = render("cpu")
    (service,), (deployment,) = of_kind(manifests, "Service"), of_kind(manifests, "Deployment")
    assert deployment["metadata"]["name"].endswith("-explorer")
    selector = service["spec"]["selector"].items()

    assert selector <= deployment["spec"]["template"]["metadata"]["labels"].items()
    for manifest in manifests:
        if manifest["kind"] in RAY_KINDS:
            cluster = cluster_spec(manifest)
            for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
                assert not selector <= group["template"]["metadata"]["labels"].items()


def test_the_explorer_knows_its_endpoint_its_login_and_its_mode(render: Render) -> None:
    def environment(preset: str, *settings: str) -> dict[str, Any]:
        (deployment,) = [
            m
            for m in of_kind(render(preset, *settings), "Deployment")
            if m["metadata"]["name"].endswith("modernbert-explorer")
        ]
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        assert container["command"] == ["streamlit", "run", "dashboards/explorer.py"]
        assert {"--client.showErrorDetails=none", "--browser.gatherUsageStats=false"} <= set(container["args"])
        return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container["env"]}

    whole = environment("everything")
    assert whole["EXPLORER_MODE"] == "researcher"
    assert whole["EXPLORER_USER_HEADER"] == "X-Forwarded-Email"
    assert whole["ENDPOINT_URL"] == "http://cm-clinical-modernbert-encoder-gateway-istio:80"
    assert environment("cpu")["ENDPOINT_URL"] == "http://cm-clinical-modernbert-encoder-serve-svc:8000"
    assert whole["ENDPOINT_KEY"] == {"secretKeyRef": {"name": "explorer-endpoint-key", "key": "key"}}
    least = environment("minimal")
    assert least["EXPLORER_MODE"] == "clinician"
    assert not {"EXPLORER_USER_HEADER", "ENDPOINT_URL", "ENDPOINT_KEY"} & least.keys()


def test_gpu_workers_get_the_gpu_image_and_its_toleration(render: Render) -> None:
    jobs = of_kind(render("a100-2x8", "jobs.pretrain-paper.enabled=true"), "RayJob")
    (job,) = [m for m in jobs if m["metadata"]["name"] == "cmb-pretrain-paper"]
    (group,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    pod = group["template"]["spec"]

    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (2, 2, 2)
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "8"
    assert pod["containers"][0]["image"].startswith("registry.example.org/research/clinical-modernbert-gpu@sha256:")
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in pod["tolerations"]
    assert {"name": "shared-mem", "emptyDir": {"medium": "Memory", "sizeLimit": "900Gi"}} in pod["volumes"]
    head = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    assert not any(toleration["key"] == "nvidia.com/gpu" for toleration in head["tolerations"])
    assert "-gpu" not in head["containers"][0]["image"]


def test_a_job_in_a_queue_can_be_suspended_and_is_not_resuspended_by_an_upgrade(render: Render) -> None:
    jobs = of_kind(render("a100-2x8", "jobs.pretrain-paper.enabled=true"), "RayJob")
    (job,) = [m for m in jobs if m["metadata"]["name"] == "cmb-pretrain-paper"]

    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "research"
    assert "suspend" not in job["spec"]
    assert refusals({**job, "spec": {**job["spec"], "suspend": True}}) == []


def test_a_job_may_set_a_default_to_zero(render: Render) -> None:
    jobs = {manifest["metadata"]["name"]: manifest["spec"] for manifest in of_kind(render("cpu"), "RayJob")}

    assert "--retries" not in jobs["cm-clinical-modernbert-pretrain"]["entrypoint"]
    assert jobs["cm-clinical-modernbert-corpus"]["entrypoint"].endswith(" --retries 2")
    assert "cm-clinical-modernbert-map-codes" not in jobs


def test_an_input_error_is_final_because_kuberay_retries_nothing(render: Render) -> None:
    """The command retries the failures that another attempt can change; KubeRay cannot tell them from others."""
    manifests = render("everything")
    specs = [m["spec"] for m in of_kind(manifests, "RayJob")]
    specs += [m["spec"]["jobTemplate"] for m in of_kind(manifests, "RayCronJob")]
    specs += [yaml.safe_load(text)["spec"] for name, text in skeletons(manifests).items() if name != "roles.yaml"]

    assert len(specs) >= 4
    for spec in specs:
        assert spec["backoffLimit"] == 0 and spec["entrypoint"].endswith("--retries 2")


def test_the_endpoint_serves_the_application_with_its_arguments(render: Render) -> None:
    (service,) = of_kind(render("cpu"), "RayService")
    config = yaml.safe_load(service["spec"]["serveConfigV2"])
    (application,) = config["applications"]

    assert application["import_path"] == "apps.encoder:build"
    assert application["args"] == {
        "recipe": "serve/demo", "root": "s3://clinical-modernbert/cpu", "scaling.num_replicas": 2, "wait_for_model": True,
        "num_nodes": 2,
    }  # fmt: skip


def test_jobs_of_the_chart_wait_for_their_inputs(render: Render) -> None:
    def commands(*settings: str) -> list[str]:
        return [manifest["spec"]["entrypoint"] for manifest in of_kind(render("cpu", *settings), "RayJob")]

    assert all(" --wait-for-inputs 86400" in command for command in commands())
    assert not any("--wait" in command for command in commands("jobDefaults.inputWaitSeconds=0"))


def test_the_crd_rules_are_really_evaluated(render: Render, repository: Path) -> None:
    crds = crds_path(repository)
    job = next(m for m in of_kind(render("cpu"), "RayJob"))
    both = {"jobStatus": "FAILED", "jobDeploymentStatus": "Failed"}
    bad = {"deletionRules": [{"policy": "DeleteCluster", "condition": both}]}

    assert count_rules(read_schema(crds, "RayJob")) >= 4
    assert any(
        "breaks" in problem for problem in problems(crds, {**job, "spec": {**job["spec"], "deletionStrategy": bad}})
    )
    assert any("'typo'" in problem for problem in problems(crds, {**job, "spec": {**job["spec"], "typo": 1}}))
    assert any("rayVersion" in p for p in problems(crds, {**job, "spec": {"rayClusterSpec": {"rayVersion": 2.6}}}))


def test_kinds_of_jobs_are_the_same_in_the_chart_in_python_and_as_files(render: Render, repository: Path) -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))

    assert tuple(schema["$defs"]["job"]["properties"]["kind"]["enum"]) == JOB_KINDS
    assert yaml.safe_load(skeletons(render("minimal"))["roles.yaml"]).keys() == set(JOB_KINDS)
    assert [kind for kind in JOB_KINDS if not (repository / "jobs" / f"{kind}.py").is_file()] == []
