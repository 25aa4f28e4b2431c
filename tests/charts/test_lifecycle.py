"""What KubeRay and Kubernetes do with the objects over time: lost nodes, more workers, disks, devices, alerts."""

import os
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from clinical_modernbert.cluster.kuberay_rules import cluster_spec, refusals
from clinical_modernbert.recipe import ServeRecipe

from tests.helpers.chart import CHART, Helm, Render, of_kind

pytestmark = pytest.mark.helm

SERVED = ("endpoint.enabled=true", "endpoint.model=m")
RAY_KINDS = ("RayCluster", "RayJob", "RayService", "RayCronJob")
LOST = {"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"}
# KubeRay's default of RAYJOB_STATUS_CHECK_TIMEOUT_SECONDS; then a job fails without a retry.
GIVES_UP_S = 300


def heads(manifests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [cluster_spec(m)["headGroupSpec"]["template"] for m in manifests if m["kind"] in RAY_KINDS]


def endpoint_workers(manifests: list[dict[str, Any]]) -> dict[str, Any]:
    (service,) = of_kind(manifests, "RayService")
    (group,) = service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    worker: dict[str, Any] = group["template"]
    return worker


def test_a_head_leaves_a_lost_node_long_before_kuberay_gives_its_job_up(render: Render) -> None:
    for head in heads(render("cpu")):
        waits = {t["key"]: t["tolerationSeconds"] for t in head["spec"]["tolerations"] if t["effect"] == "NoExecute"}
        assert waits.keys() == LOST and max(waits.values()) <= GIVES_UP_S / 5


def test_the_wait_for_a_lost_node_may_be_set(render: Render) -> None:
    own = "head.tolerations[0]"
    settings = ("key=node.kubernetes.io/unreachable", "operator=Exists", "effect=NoExecute", "tolerationSeconds=120")
    (head,) = heads(render("minimal", *(f"{own}.{setting}" for setting in settings)))

    assert sorted(t["tolerationSeconds"] for t in head["spec"]["tolerations"]) == [30, 120]


@pytest.mark.parametrize("preset", ["cpu", "everything"])
def test_the_services_that_kuberay_makes_select_the_heads(render: Render, preset: str) -> None:
    """Those of a RayJob and a RayService have this selector, whatever the labels of the pods are."""
    for head in heads(render(preset)):
        assert head["metadata"]["labels"]["app.kubernetes.io/name"] == "kuberay"


def test_more_workers_of_an_endpoint_are_a_new_template(render: Render) -> None:
    """KubeRay compares templates without the number of pods."""
    one, two = (endpoint_workers(render("minimal", *SERVED, f"endpoint.workers.cpu={n}")) for n in (1, 2))

    assert one != two
    assert one["spec"] == two["spec"]
    (research,) = of_kind(render("minimal"), "RayCluster")
    assert "annotations" not in research["spec"]["workerGroupSpecs"][0]["template"]["metadata"]


def test_a_worker_of_the_endpoint_that_stops_first_finishes_its_requests(render: Render) -> None:
    """The replica's own limit, Serve's, the pod's and the old cluster's are in this order."""
    recipe = ServeRecipe.model_validate({"name": "x", "model": "m"})
    longest_s = recipe.limits.body_timeout_s + recipe.limits.request_timeout_s
    (service,) = of_kind(render("minimal", *SERVED), "RayService")
    pod = endpoint_workers([service])["spec"]
    (stop,) = [container["lifecycle"]["preStop"]["exec"]["command"][-1] for container in pod["containers"]]
    drain_s = int(stop.partition("--deadline-remaining-seconds ")[2].split()[0])

    assert longest_s <= drain_s < pod["terminationGracePeriodSeconds"]
    assert longest_s < service["spec"]["rayClusterDeletionDelaySeconds"]
    assert subprocess.run(["bash", "-n", "-c", stop], check=False).returncode == 0
    assert stop.endswith("; ray stop")
    own = endpoint_workers(render("minimal", *SERVED, "workerGroups.cpu.terminationGracePeriodSeconds=7"))
    assert own["spec"]["terminationGracePeriodSeconds"] == 7


def test_one_late_answer_to_its_probe_leaves_a_worker_in_the_service(render: Render) -> None:
    """A busy node answers late for all workers at once."""
    (worker,) = endpoint_workers(render("minimal", *SERVED))["spec"]["containers"]
    probe = worker["readinessProbe"]
    assert probe["failureThreshold"] * probe["periodSeconds"] >= 15
    assert probe["periodSeconds"] <= 2  # between Serve's start and the next look the Service has no ready pod


def test_a_worker_that_waits_says_why_and_is_never_restarted_for_it(render: Render, tmp_path: Path) -> None:
    """The output of a probe that fails is an event of the pod; a notice that is not repeated is not printed."""
    (service,) = of_kind(render("minimal", *SERVED), "RayService")
    head = cluster_spec(service)["headGroupSpec"]["template"]["spec"]["containers"][0]
    (worker,) = endpoint_workers([service])["spec"]["containers"]
    notice = {"name": "CLINICAL_WAIT_NOTICE", "value": "/tmp/wait-notice"}
    assert notice in head["env"] and notice in worker["env"]
    assert worker["startupProbe"]["failureThreshold"] == 2**31 - 1
    file = tmp_path / "wait-notice"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        command = [part.replace("/8000", f"/{port}") for part in worker["startupProbe"]["exec"]["command"]]

        def probe() -> tuple[int, str]:
            environment = {"CLINICAL_WAIT_NOTICE": str(file), "PATH": os.environ["PATH"]}
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            return done.returncode, done.stdout

        assert probe() == (0, "")
    assert probe() == (1, "Ray Serve has no proxy in this pod yet\n")
    file.write_text("the endpoint waits: no model 'm'\n")
    assert probe() == (1, "the endpoint waits: no model 'm'\n")
    os.utime(file, (time.time() - 180,) * 2)
    assert probe() == (1, "Ray Serve has no proxy in this pod yet\n")


def test_pods_request_disk_except_in_a_queue(render: Render) -> None:
    def requests(manifest: dict[str, Any]) -> list[str | None]:
        spec = cluster_spec(manifest)
        pods = [group["template"]["spec"] for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])]
        return [pod["containers"][0]["resources"]["requests"].get("ephemeral-storage") for pod in pods]

    corpus = of_kind(render("cpu"), "RayJob")[0]
    assert requests(corpus) == ["10Gi", "10Gi"]
    assert requests(of_kind(render("cpu", "jobDefaults.queue=research"), "RayJob")[0]) == [None, None]


def test_scratch_may_be_a_volume_of_a_storage_class(render: Render) -> None:
    (cluster,) = of_kind(render("minimal", "workerGroups.cpu.scratchStorageClass=fast"), "RayCluster")
    pod = cluster["spec"]["workerGroupSpecs"][0]["template"]["spec"]
    claims = {v["name"]: v["ephemeral"]["volumeClaimTemplate"]["spec"] for v in pod["volumes"] if "ephemeral" in v}

    assert claims.keys() == {"tmp", "home", "ray-logs"}
    assert {claim["storageClassName"] for claim in claims.values()} == {"fast"}


def test_claimed_devices_replace_the_limit_and_are_counted_by_ray(render: Render) -> None:
    group = "workerGroups.a"
    settings = ("cpu=8000m", "memory=8Gi", "gpus=2", "resourceClaims[0].name=gpus")
    sets = [f"{group}.{setting}" for setting in settings]
    template = f"{group}.resourceClaims[0].resourceClaimTemplateName=two-gpus"
    bounds = ("research.workers.a.minReplicas=0", "research.workers.a.maxReplicas=1")
    (cluster,) = of_kind(render("minimal", *sets, template, *bounds), "RayCluster")
    (claimed,) = [g for g in cluster["spec"]["workerGroupSpecs"] if g["groupName"] == "a"]
    pod = claimed["template"]["spec"]

    assert pod["resourceClaims"] == [{"name": "gpus", "resourceClaimTemplateName": "two-gpus"}]
    assert pod["containers"][0]["resources"]["claims"] == [{"name": "gpus"}]
    assert "nvidia.com/gpu" not in pod["containers"][0]["resources"]["limits"]
    assert claimed["rayStartParams"] == {"num-gpus": "2"}
    assert "modernbert-gpu" in pod["containers"][0]["image"]
    assert refusals(cluster) == []


def test_alerts_of_a_component_come_with_it(render: Render) -> None:
    def alerts(*settings: str) -> set[str]:
        (rule,) = of_kind(render("minimal", "monitoring.rules.enabled=true", *settings), "PrometheusRule")
        return {alert["alert"].removeprefix("ClinicalModernbert") for alert in rule["spec"]["groups"][0]["rules"]}

    assert "EndpointDown" in alerts(*SERVED) and "EndpointDown" not in alerts()
    assert "AutoscalerDown" in alerts() and "AutoscalerDown" not in alerts("research.enabled=false")
    assert "AutoscalerDown" not in alerts("research.queue=team"), "a cluster in a queue has no autoscaler"
    assert {"JobFailed", "TrainingStalled", "PodEvicted", "PodPending"} <= alerts()


def test_the_alert_of_the_autoscaler_looks_at_the_research_cluster_alone(render: Render) -> None:
    (rule,) = of_kind(render("everything"), "PrometheusRule")
    (alert,) = [a for a in rule["spec"]["groups"][0]["rules"] if a["alert"].endswith("AutoscalerDown")]

    assert 'ray_io_cluster="cm-clinical-modernbert-research"' in alert["expr"]


def test_a_job_with_a_schedule_is_a_cron_job_of_the_same_pods(render: Render) -> None:
    settings = ("kind=build_corpus", "recipe=corpus/demo", "workers.cpu=1")
    job = [f"jobs.nightly.{setting}" for setting in settings]
    (once,) = of_kind(render("minimal", *job), "RayJob")
    schedule = ("jobs.nightly.schedule=0 2 * * *", "jobs.nightly.timeZone=Europe/Berlin")
    (nightly,) = of_kind(render("minimal", *job, *schedule), "RayCronJob")

    assert nightly["spec"] == {"schedule": "0 2 * * *", "timeZone": "Europe/Berlin", "jobTemplate": once["spec"]}
    assert refusals(nightly) == []


def test_a_schedule_and_a_queue_exclude_each_other(helm: Helm) -> None:
    values = {
        "jobs.n.kind": "build_corpus", "jobs.n.recipe": "corpus/demo", "jobs.n.workers.cpu": "1",
        "jobs.n.schedule": "@daily", "jobDefaults.queue": "research", "operatorCheck": "false",
    }  # fmt: skip
    sets = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
    result = helm("template", "cm", str(CHART), "--values", str(CHART / "ci" / "minimal-values.yaml"), *sets)

    assert "jobs.n has a schedule and the queue" in result.stderr


def test_research_and_endpoint_may_wait_in_a_queue(render: Render) -> None:
    """Kueue admits a Ray cluster of fixed size, as a whole."""
    manifests = render("minimal", *SERVED, "research.queue=team", "endpoint.queue=team", "research.queuePriority=low")
    (cluster,), (service,) = of_kind(manifests, "RayCluster"), of_kind(manifests, "RayService")
    (group,) = cluster["spec"]["workerGroupSpecs"]

    for manifest in (cluster, service):
        assert manifest["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team"
        assert "enableInTreeAutoscaling" not in cluster_spec(manifest)
        assert "ephemeral-storage" not in str(cluster_spec(manifest))
    assert cluster["metadata"]["labels"]["kueue.x-k8s.io/priority-class"] == "low"
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (4, 4, 4)
    assert "autoscaler-token" not in str(cluster) and not refusals(cluster)
    (plain,) = of_kind(render("minimal"), "RayCluster")
    assert not [label for label in plain["metadata"]["labels"] if "kueue" in label]


def test_workload_identity_replaces_keys_everywhere(render: Render) -> None:
    manifests = render("cpu", "objectStore.workloadIdentity=true", "objectStore.existingSecret=")

    assert "AWS_SECRET_ACCESS_KEY" not in str(manifests) and "AWS_REGION" in str(manifests)


def test_the_cache_is_mounted_where_the_code_looks_for_it(render: Render) -> None:
    manifests = render("minimal", *SERVED, "cache.existingClaim=model-cache")
    pods = [*heads(manifests), endpoint_workers(manifests)]

    for pod in pods:
        container = pod["spec"]["containers"][0]
        (path,) = [variable["value"] for variable in container["env"] if variable["name"] == "CLINICAL_CACHE"]
        (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == "artifact-cache"]
        assert mount == {"name": "artifact-cache", "mountPath": path}
    (explorer,) = of_kind(manifests, "Deployment")
    assert "CLINICAL_CACHE" not in str(explorer)
    assert "CLINICAL_CACHE" not in str(render("minimal", *SERVED))


def test_hosts_may_be_routes_of_a_gateway(render: Render) -> None:
    """The same hosts and Services as by Ingress, and only at the named listener."""
    listener = ("name=public", "namespace=gateways", "sectionName=https")
    manifests = render("everything", *(f"ingress.parentRefs[0].{setting}" for setting in listener))
    routes = {m["spec"]["hostnames"][0]: m["spec"] for m in of_kind(manifests, "HTTPRoute")}
    by_ingress = {
        rule["host"]: rule["http"]["paths"][0]["backend"]["service"]
        for ingress in of_kind(render("everything"), "Ingress")
        for rule in ingress["spec"]["rules"]
    }

    assert not of_kind(manifests, "Ingress")
    assert {
        host: {
            "name": spec["rules"][0]["backendRefs"][0]["name"],
            "port": {"number": spec["rules"][0]["backendRefs"][0]["port"]},
        }
        for host, spec in routes.items()
    } == by_ingress
    for spec in routes.values():
        assert spec["parentRefs"] == [{"name": "public", "namespace": "gateways", "sectionName": "https"}]
