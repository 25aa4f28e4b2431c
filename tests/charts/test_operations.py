"""Monitoring, budgets, access from outside and test pod: what the chart renders for operators."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import ray
import yaml
from clinical_modernbert.cluster.drift import differences
from clinical_modernbert.serving import problems
from clinical_modernbert.serving.metrics import METRICS

from tests.helpers.chart import CHART, PRESETS, Helm, Render, of_kind

pytestmark = pytest.mark.helm

METRIC = re.compile(r"\b([a-z][a-z0-9_]+)\b(?=\{)")
# From Prometheus itself, KubeRay's operator (controllers/ray/metrics), kube-state-metrics and the kubelet.
OF_OTHERS = {
    "up",
    "kuberay_job_deployment_status",
    "kube_pod_status_phase",
    "kube_pod_status_reason",
    "kubelet_volume_stats_available_bytes",
    "kubelet_volume_stats_capacity_bytes",
}
SERVED = ("endpoint.enabled=true", "endpoint.model=m")
INCREMENTAL = (*SERVED, "endpoint.upgradeStrategy=NewClusterWithIncrementalUpgrade")
KEYED, GATEWAY = "endpoint.apiKeys.existingSecret=keys", "endpoint.incrementalUpgrade.gatewayService=g"
HISTOGRAM_SUFFIXES = ("_bucket", "_sum", "_count")


def dashboards(manifests: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    found = [m for m in of_kind(manifests, "ConfigMap") if "grafana_dashboard" in m["metadata"]["labels"]]
    return {m["metadata"]["name"].rpartition("-")[2]: json.loads(*m["data"].values()) for m in found}


def expressions(manifests: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for name, dashboard in dashboards(manifests).items():
        for panel in dashboard["panels"]:
            yield from ((f"{name}: {panel['title']}", target["expr"]) for target in panel["targets"])
    for rule in of_kind(manifests, "PrometheusRule"):
        yield from ((alert["alert"], alert["expr"]) for alert in rule["spec"]["groups"][0]["rules"])


def test_there_is_a_dashboard_for_each_component(render: Render) -> None:
    found = dashboards(render("everything"))

    assert found.keys() == {"training", "serving", "corpus", "cluster"}
    for dashboard in found.values():
        assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"]) >= 7
        places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in dashboard["panels"]]
        assert len(set(places)) == len(places)


OF_A_RUN = ("ray_cm_train_", "ray_cm_held_out_")


def test_every_expression_is_promql_over_metrics_that_exist(render: Render) -> None:
    """Each name is one of our documented metrics or is used in the dashboards that Ray ships."""
    shipped = Path(ray.__file__).parent / "dashboard" / "modules" / "metrics" / "dashboards"
    of_ray = set(re.findall(r"\bray_[a-z0-9_]+", "".join(path.read_text() for path in shipped.glob("*_panels.py"))))
    of_ours = set()
    for metric in METRICS:
        ends = {"counter": ("_total",), "histogram": HISTOGRAM_SUFFIXES, "gauge": ("",)}[metric.kind]
        of_ours |= {f"ray_{metric.name}{end}" for end in ends}
    found = dict(expressions(render("everything")))

    assert len(found) > 40
    for where, expression in found.items():
        promql_parser.parse(expression)
        assert "NAMESPACE" not in expression
        # Those of a run are held against what a run records in tests/unit/training/test_trackers.py.
        metrics = {name for name in METRIC.findall(expression) if not name.startswith(OF_A_RUN)}
        known = of_ray | of_ours | OF_OTHERS
        assert METRIC.findall(expression) and metrics <= known, (where, metrics - known)
        assert all("namespace=" in labels for labels in re.findall(r"\{(.*?)\}", expression)), where


def test_a_key_that_has_used_its_own_rate_is_no_overload(render: Render) -> None:
    """It gets a 429 too, and more replicas would not help it."""
    expression = dict(expressions(render("everything")))["ClinicalModernbertEndpointOverloaded"]
    refusals = [problems.queue_full(1, 1), problems.queue_too_slow(1, 1), problems.too_many_requests(1)]
    (causes,) = re.findall(r'cause=~"(.+?)"', expression)
    assert set(causes.split("|")) == {refusal.body.error.code for refusal in refusals}


def test_every_documented_metric_of_the_endpoint_is_on_its_dashboard(render: Render) -> None:
    serving = json.dumps(dashboards(render("everything"))["serving"])

    assert [metric.name for metric in METRICS if f"ray_{metric.name}" not in serving] == []


def test_pod_monitors_select_ports_that_the_pods_have(render: Render) -> None:
    manifests = render("everything")
    heads = {m["metadata"]["name"].rpartition("-")[2]: m["spec"] for m in of_kind(manifests, "PodMonitor")}
    (cluster,) = of_kind(manifests, "RayCluster")
    groups = {"head": cluster["spec"]["headGroupSpec"], "worker": cluster["spec"]["workerGroupSpecs"][0]}

    for node_type, spec in heads.items():
        ports = {port["name"] for port in groups[node_type]["template"]["spec"]["containers"][0]["ports"]}
        selector = dict(spec["selector"]["matchLabels"])
        assert {endpoint["port"] for endpoint in spec["podMetricsEndpoints"]} <= ports
        assert selector.pop("ray.io/node-type") == node_type
        assert selector.items() <= groups[node_type]["template"]["metadata"]["labels"].items()
    assert heads.keys() == {"head", "worker"}


@pytest.mark.parametrize("preset", PRESETS)
def test_budgets_never_block_the_last_pod_that_can_be_replaced(render: Render, preset: str) -> None:
    manifests = render(preset)
    budgets = {
        m["metadata"]["name"].removeprefix("cm-clinical-modernbert-"): m
        for m in of_kind(manifests, "PodDisruptionBudget")
    }

    for service in of_kind(manifests, "RayService"):
        workers = sum(g["maxReplicas"] for g in service["spec"]["rayClusterConfig"]["workerGroupSpecs"])
        assert next(b for n, b in budgets.items() if n.endswith("endpoint"))["spec"]["minAvailable"] == workers - 1
    if preset == "everything":
        assert budgets.keys() == {"endpoint", "explorer", "login-explorer", "login-dashboard", "research"}
    if preset == "minimal":
        assert budgets == {}


def test_no_budget_keeps_a_pod_that_serves_nobody(render: Render) -> None:
    """While an endpoint waits for its model, no worker is ready, and where replicas follow the load some have none."""

    def budgets(*settings: str) -> dict[str, Any]:
        found = of_kind(
            render("cpu", "explorer.replicas=2", "endpoint.workers.cpu=4", *settings), "PodDisruptionBudget"
        )
        return {budget["metadata"]["name"].rpartition("-")[2]: budget["spec"] for budget in found}

    replicas = "endpoint.overrides.scaling\\.{}_replicas={}".format
    whole = budgets(replicas("num", 4), "podDisruptionBudgets.protectResearchHead=true")
    assert {name: spec.get("unhealthyPodEvictionPolicy") for name, spec in whole.items()} == {
        "endpoint": "AlwaysAllow", "explorer": "AlwaysAllow", "research": None
    }  # fmt: skip
    assert whole["endpoint"]["minAvailable"] == 3
    assert budgets(replicas("num", 2), replicas("max", 8))["endpoint"]["minAvailable"] == 1
    assert "endpoint" not in budgets(replicas("num", 1), replicas("max", 8))


def test_helm_test_has_a_key_of_an_endpoint_that_needs_one(render: Render) -> None:
    def key(preset: str) -> list[Any]:
        (pod,) = of_kind(render(preset), "Pod")
        return [v["valueFrom"] for v in pod["spec"]["containers"][0]["env"] if v["name"] == "ENDPOINT_KEY"]

    assert key("everything") == [{"secretKeyRef": {"name": "explorer-endpoint-key", "key": "key"}}]
    assert key("cpu") == []


def test_access_from_outside_needs_tls_and_login(render: Render) -> None:
    manifests = render("everything")
    services = {m["metadata"]["name"] for m in of_kind(manifests, "Service")}
    backends = {}
    for ingress in of_kind(manifests, "Ingress"):
        (rule,), (tls,) = ingress["spec"]["rules"], ingress["spec"]["tls"]
        assert tls == {"hosts": [rule["host"]], "secretName": "wildcard-tls"}
        backends[rule["host"]] = rule["http"]["paths"][0]["backend"]["service"]["name"]

    assert backends == {
        "explorer.example.org": "cm-clinical-modernbert-login-explorer",
        "ray.example.org": "cm-clinical-modernbert-login-dashboard",
        "embeddings.example.org": "cm-clinical-modernbert-encoder-gateway-istio",
    }
    assert {backend for backend in backends.values() if "login" in backend} <= services
    proxies = {
        m["metadata"]["name"]: m["spec"]["template"]["spec"]
        for m in of_kind(manifests, "Deployment")
        if "login" in m["metadata"]["name"]
    }
    for name, pod in proxies.items():
        (container,) = pod["containers"]
        plain = {variable["name"]: variable["value"] for variable in container["env"] if "value" in variable}
        assert plain == {"OAUTH2_PROXY_COOKIE_EXPIRE": "12h"}  # login.env; the secrets come from their Secret
        assert len(container["env"]) == 4
        assert not any("secret" in argument for argument in container["args"])
        assert "--upstream=http://cm-clinical-modernbert-" in " ".join(container["args"]), name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("ingress.explorerHost=a.example.org", "ingress.tlsSecret=tls"), "ingress.explorerHost needs login.enabled=true"),
        (("ingress.dashboardHost=a.example.org", "ingress.tlsSecret=tls"), "ingress.dashboardHost needs login.enabled=true"),
        ((*SERVED, "ingress.endpointHost=a.example.org"), "ingress.tlsSecret is required"),
        ((*SERVED, "ingress.endpointHost=a.example.org", "ingress.tlsSecret=tls"), "needs endpoint.apiKeys.existingSecret"),
        (("ingress.endpointHost=a", "ingress.tlsSecret=t", "endpoint.apiKeys.existingSecret=k"), "has no target: endpoint"),
        (("login.enabled=true",), "login.issuerUrl is required"),
        (("login.enabled=true", "login.issuerUrl=https://id", "login.existingSecret=s"), "every user of the issuer can log in"),
        (("devStore.enabled=true", "objectStore.endpoint=", "devStore.image.tag="), "devStore.image.tag or"),
        (INCREMENTAL, "endpoint.incrementalUpgrade.gatewayService is required"),
        ((*INCREMENTAL, GATEWAY, "endpoint.incrementalUpgrade.gatewayClassName=c"),
         "needs endpoint.apiKeys.existingSecret: KubeRay's Gateway listens without TLS"),
        ((*INCREMENTAL, GATEWAY, KEYED), "gatewayClassName is required"),
        ((*SERVED, "workerGroups.a.cpu=8000m", "workerGroups.a.memory=8Gi", "workerGroups.a.gpus=1", "endpoint.workers.a=1"),
         "endpoint.workers.a: the endpoint computes on CPUs, and this group has GPUs"),
        ((*SERVED, "endpoint.headRecovery.redisAddress=redis:6379"), "headRecovery.existingSecret is required with redisAddress"),
    ],
)  # fmt: skip
def test_access_that_is_unsafe_or_incomplete_is_refused(helm: Helm, settings: tuple[str, ...], message: str) -> None:
    sets = [part for setting in ("operatorCheck=false", *settings) for part in ("--set", setting)]
    result = helm("template", "cm", str(CHART), "--values", str(CHART / "ci" / "minimal-values.yaml"), *sets)

    assert result.returncode != 0
    assert message in result.stderr


def test_one_registry_replaces_the_registry_of_every_image(render: Render) -> None:
    images = set(re.findall(r"image: ([^\s\\]+)", yaml.safe_dump(render("everything"))))

    assert len(images) == 4
    assert all(image.startswith("registry.example.org/mirror/") for image in images)


def test_rdma_adds_device_and_nccl_to_its_groups_only_and_keeps_pods_restricted(render: Render) -> None:
    def containers(*settings: str) -> dict[str, dict[str, Any]]:
        (job,) = [
            m for m in of_kind(render("everything", *settings), "RayJob") if m["metadata"]["name"].endswith("evaluate")
        ]
        spec = job["spec"]["rayClusterSpec"]
        groups = {"head": spec["headGroupSpec"], "a100": spec["workerGroupSpecs"][0]}
        return {name: group["template"]["spec"]["containers"][0] for name, group in groups.items()}

    found = containers()
    nccl = {v["name"]: v["value"] for v in found["a100"]["env"] if v["name"].startswith("NCCL")}
    assert found["a100"]["resources"]["limits"]["rdma/ib"] == "1"
    assert nccl == {"NCCL_IB_HCA": "mlx5", "NCCL_SOCKET_IFNAME": "eth0"}
    assert "rdma/ib" not in found["head"]["resources"]["limits"]
    assert found["a100"]["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    locked = containers("rdma.ipcLock=true")
    assert locked["a100"]["securityContext"]["capabilities"] == {"add": ["IPC_LOCK"], "drop": ["ALL"]}
    assert locked["head"]["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_each_component_gets_the_keys_of_its_role(render: Render) -> None:
    manifests, secrets = render("everything"), {}
    for manifest in manifests:
        text = yaml.safe_dump(manifest)
        if manifest["kind"] in ("RayCluster", "RayJob", "RayService", "Deployment") and "ARTIFACT_ROOT" in text:
            secrets[manifest["metadata"]["name"].rpartition("-")[2]] = set(
                re.findall(r"clinical-modernbert-s3[a-z-]*", text)
            )

    assert secrets == {
        "research": {"clinical-modernbert-s3"},
        "pretrain": {"clinical-modernbert-s3-trainer"},
        "evaluate": {"clinical-modernbert-s3-trainer"},
        "encoder": {"clinical-modernbert-s3-reader"},
        "explorer": {"clinical-modernbert-s3-reader"},
    }


@pytest.mark.parametrize("preset", PRESETS)
def test_helm_test_compares_the_live_objects_with_what_the_release_renders(render: Render, preset: str) -> None:
    manifests = render(preset)
    (test,) = of_kind(manifests, "Pod")
    (volume,) = [volume for volume in test["spec"]["volumes"] if volume["name"] == "manifests"]
    (data,) = [
        m["data"] for m in of_kind(manifests, "ConfigMap") if m["metadata"]["name"] == volume["configMap"]["name"]
    ]
    (role,) = [m for m in of_kind(manifests, "Role") if m["metadata"]["name"] == test["spec"]["serviceAccountName"]]
    compared = list(yaml.safe_load_all(data["manifests.yaml"]))

    assert compared == [*of_kind(manifests, "RayCluster"), *of_kind(manifests, "RayService")]
    assert {(rule["resources"][0], rule["resourceNames"][0]) for rule in role["rules"]} == {
        (f"{manifest['kind'].lower()}s", manifest["metadata"]["name"]) for manifest in compared
    }
    assert all(rule["verbs"] == ["get"] for rule in role["rules"])
    assert differences(compared[0], compared[0]) == []
    without = render(preset, "serviceAccount.create=false", "serviceAccount.name=a", "serviceAccount.headName=b")
    (test,) = of_kind(without, "Pod")
    assert test["spec"]["serviceAccountName"] == "a" and "manifests" not in yaml.safe_dump(test)


def test_submitters_get_only_the_rights_that_submitting_needs(render: Render) -> None:
    roles, bindings = (of_kind(render("everything"), kind) for kind in ("Role", "RoleBinding"))
    (role,), (binding,) = ([m for m in ms if m["metadata"]["name"].endswith("-submitter")] for ms in (roles, bindings))
    rights = {resource: rule for rule in role["rules"] for resource in rule["resources"]}

    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert rights["secrets"]["resourceNames"] == ["ray-token"]
    assert rights["configmaps"]["resourceNames"] == ["cm-clinical-modernbert-rayjob"]
    assert [
        resource for resource, rule in rights.items() if {"create", "delete", "update", "patch"} & set(rule["verbs"])
    ] == ["rayjobs", "pods/portforward"]
    assert rights["services"]["resourceNames"] == ["cm-clinical-modernbert-research-head-svc"]
    assert rights["services"]["verbs"] == ["get"]
    assert rights["workloads"] == {
        "apiGroups": ["kueue.x-k8s.io"],
        "resources": ["workloads"],
        "verbs": ["get", "list"],
    }
    assert not [m for m in of_kind(render("minimal"), "Role") if m["metadata"]["name"].endswith("-submitter")]

    submitter = ("rbac.submitters[0].kind=Group", "rbac.submitters[0].name=researchers")
    (role,) = [
        m for m in of_kind(render("minimal", *submitter), "Role") if m["metadata"]["name"].endswith("-submitter")
    ]
    (secrets,) = [rule for rule in role["rules"] if "secrets" in rule["resources"]]
    assert secrets["resourceNames"] == ["cm-clinical-modernbert-research"]  # KubeRay's own token


def test_the_endpoint_scales_only_for_an_incremental_upgrade(render: Render) -> None:
    (plain,), (incremental,) = (of_kind(render(preset), "RayService") for preset in ("cpu", "everything"))

    assert "enableInTreeAutoscaling" not in plain["spec"]["rayClusterConfig"]
    assert incremental["spec"]["rayClusterConfig"]["enableInTreeAutoscaling"] is True
    assert (
        incremental["spec"]["rayClusterConfig"]["gcsFaultToleranceOptions"]["redisAddress"] == "redis://redis.ml:6379"
    )
    (research,) = of_kind(render("everything"), "RayCluster")
    assert "gcsFaultToleranceOptions" not in research["spec"]  # Ray supports it for Serve only
    assert [group["minReplicas"] for group in research["spec"]["workerGroupSpecs"]] == [0, 0]


def test_keys_of_the_endpoint_come_as_a_file_and_are_then_required(render: Render) -> None:
    (keyed,), (open_to_all,) = (of_kind(render(preset), "RayService") for preset in ("everything", "cpu"))
    (application,) = yaml.safe_load(keyed["spec"]["serveConfigV2"])["applications"]
    pod = keyed["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["template"]["spec"]
    (container,) = pod["containers"]
    (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == "api-keys"]
    variables = {variable["name"]: variable.get("value") for variable in container["env"]}

    assert application["args"]["require_keys"] is True
    assert variables["CLINICAL_API_KEYS_FILE"] == f"{mount['mountPath']}/keys"
    assert {"name": "api-keys", "secret": {"secretName": "endpoint-keys", "defaultMode": 0o440}} in pod["volumes"]
    assert "api-keys" not in yaml.safe_dump(open_to_all) and "require_keys" not in open_to_all["spec"]["serveConfigV2"]
    assert "api-keys" not in yaml.safe_dump(of_kind(render("everything"), "RayJob"))
