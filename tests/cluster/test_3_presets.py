"""The presets as they are shipped: the API server accepts all, and two are installed on nodes of the sizes that they are for.

On such nodes also what needs devices or features that this cluster may lack: claims of devices, schedules, and a Gateway.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import yaml

from benchmarks.kits.cluster import CHART, NAMESPACE, Cluster, script_pod, sets, wait_for
from benchmarks.kits.cluster_release import is_ready
from tests.helpers.machines import PLACE, Machine, machines

TRIAL, LISTENER = f"{NAMESPACE}-trial", "ingress.parentRefs[0].sectionName=https"
PRESETS = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*-values.yaml"))
A100 = {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB"}
# A group whose devices the scheduler allocates to a claim of each pod: eight of one node, which has no other GPUs.
DRIVER, CLAIMED = "gpu.example.org", "claimed"
CLAIM = {"name": "gpus", "resourceClaimTemplateName": "gpus"}
GROUP = {"cpu": "8", "memory": "64Gi", "gpus": 8, "resourceClaims": [CLAIM]}
GATES = ("RayCronJob", "RayServiceIncrementalUpgrade")
# What the operator calls in a head pod: the state of the endpoint's application. Jobs are not there yet.
DASHBOARD = """
import http.server, json
REPLICAS = {"name": "encoder", "status": "HEALTHY", "message": ""}
STATE = {"name": "encoder", "status": "RUNNING", "message": "", "deployments": {"encoder": REPLICAS}}
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        body = json.dumps({"applications": {"encoder": STATE}}).encode()
        self.send_response(200 if self.path.startswith("/api/serve/") else 404)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_PUT = do_GET
http.server.ThreadingHTTPServer(("", 8265), Handler).serve_forever()
"""

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def trial(cluster: Cluster) -> Iterator[str]:
    """Address of the dashboard in a namespace for presets, which the admission policy of the other release does not reach."""
    cluster.run("kubectl", "delete", "namespace", TRIAL, "--ignore-not-found")
    cluster.run("kubectl", "create", "namespace", TRIAL)
    try:
        levels = (f"pod-security.kubernetes.io/{mode}=restricted" for mode in ("enforce", "warn"))
        cluster.run("kubectl", "label", "namespace", TRIAL, *levels)
        keys = ("--from-literal=AWS_ACCESS_KEY_ID=key", "--from-literal=AWS_SECRET_ACCESS_KEY=secret")
        in_trial(cluster, "create", "secret", "generic", "clinical-modernbert-s3", *keys)
        in_trial(
            cluster, "create", "--filename=-", input=json.dumps(script_pod("dashboard", ["python", "-c", DASHBOARD]))
        )
        address = ("get", "pod", "dashboard", "--output=jsonpath={.status.podIP}")
        yield wait_for(lambda: in_trial(cluster, *address), timeout_s=60)
    finally:
        cluster.run("kubectl", "delete", "namespace", TRIAL, "--wait=false")


def test_the_api_server_accepts_every_preset(cluster: Cluster, trial: str) -> None:
    """As a dry run on the server, with unknown fields refused."""
    served = {line.split()[-1] for line in cluster.kubectl("api-resources", "--no-headers").splitlines()}
    assert served >= {"RayCluster", "RayJob", "RayService", "RayCronJob", "ValidatingAdmissionPolicy"}
    objects = [item for preset in PRESETS for item in rendered(cluster, preset) if item["kind"] in served]
    assert len(objects) > 100
    create = ("kubectl", "create", "--dry-run=server", "--validate=strict", "--output=name", "--filename=-")
    done = cluster.run(*create, input=yaml.safe_dump_all(objects))
    assert len(done.stdout.splitlines()) == len(objects)
    assert "PodSecurity" not in done.stderr


def test_preset_cpu_installs_as_shipped_on_three_nodes(cluster: Cluster, trial: str) -> None:
    """Of 16 CPUs and 64 GiB. `helm install --wait` ends once the endpoint is ready; research cluster and jobs have room too."""
    nodes = [Machine(f"machine-{i}", 16, "64Gi") for i in range(3)]
    with machines(cluster.kubeconfig, nodes, namespace=TRIAL, pod_ip=trial), installed(cluster, "cpu", {"cpu": {}}):
        (endpoint,) = json.loads(in_trial(cluster, "get", "rayservices", "--output=json"))["items"]
        assert is_ready(endpoint)
        jobs = {f"trial-clinical-modernbert-{job}" for job in ("corpus", "pretrain", "sweep")}
        wait_for(lambda: submitted(cluster) == jobs, timeout_s=60)


def test_preset_a100_2x8_installs_as_shipped_on_two_gpu_nodes(cluster: Cluster, trial: str) -> None:
    """And two of 48 CPUs and 256 GiB. Pretraining, enabled when the corpus is finished, has one worker on each GPU node.

    A group beside those of the preset gets its GPUs by dynamic resource allocation.
    """
    nodes = [Machine(f"machine-{i}", 48, "256Gi") for i in range(2)]
    nodes += [Machine(f"a100-{i}", 96, "1100Gi", gpus=8, labels=A100) for i in range(2)]
    nodes += [Machine(CLAIMED, 16, "128Gi")]
    claims = ("kind=pretrain", "recipe=pretrain/smoke", f"workers.{CLAIMED}=1")
    with (
        machines(cluster.kubeconfig, nodes, namespace=TRIAL, pod_ip=trial),
        claim(cluster, "clinical-data"),
        devices(cluster, CLAIMED, 8),
        installed(cluster, "a100-2x8", {"cpu": {}, "a100-8": {}, CLAIMED: GROUP}) as upgrade,
    ):
        wait_for(lambda: submitted(cluster) == {"cmb-corpus"}, timeout_s=60)
        enabled = ("jobs.pretrain-paper.enabled=true", "jobs.pretrain-paper.queue=")  # no Kueue here
        upgrade(*enabled, *(f"jobs.claims.{setting}" for setting in claims))
        wait_for(lambda: submitted(cluster) == {"cmb-corpus", "cmb-pretrain-paper", "cmb-claims"}, timeout_s=60)
        places = {pod["spec"]["nodeName"]: pod for pod in pods(cluster)}
        assert {"a100-0", "a100-1", CLAIMED} <= places.keys()
        (allocated,) = json.loads(in_trial(cluster, "get", "resourceclaims", "--output=json"))["items"]
        assert len(allocated["status"]["allocation"]["devices"]["results"]) == 8
        assert "nvidia.com/gpu" not in places[CLAIMED]["spec"]["containers"][0]["resources"]["limits"]


def test_a_schedule_and_an_incremental_upgrade_become_kuberays_objects(cluster: Cluster, trial: str) -> None:
    """A RayJob of the RayCronJob, found by the selector that NOTES print, and the endpoint's Gateway, by its documented name."""
    deployments = cluster.kubectl("get", "deployments", "--all-namespaces", "--output=json")
    if not all(f"{gate}=true" in deployments for gate in GATES):
        pytest.skip(f"KubeRay's operator runs without the feature gates {', '.join(GATES)} (CONTRIBUTING.md)")
    name, nightly = "trial-clinical-modernbert-encoder", "trial-clinical-modernbert-nightly"
    upgrades = {"gatewayClassName": "none", "gatewayService": f"{name}-gateway-none"}
    values = {
        "jobs": {"nightly": {"kind": "build_corpus", "recipe": "corpus/demo", "workers": {"cpu": 1}, "schedule": "0 2 * * *"}},
        "endpoint": {
            "enabled": True, "model": "demo", "workers": {"cpu": 1}, "apiKeys": {"existingSecret": "clinical-modernbert-s3"},
            "upgradeStrategy": "NewClusterWithIncrementalUpgrade", "incrementalUpgrade": upgrades,
        },
        "explorer": {"endpointKey": {"existingSecret": "clinical-modernbert-s3", "key": "AWS_ACCESS_KEY_ID"}},
    }  # fmt: skip
    nodes = [Machine("machine-0", 64, "256Gi")]
    with (
        machines(cluster.kubeconfig, nodes, namespace=TRIAL, pod_ip=trial),
        installed(cluster, "minimal", {"cpu": {}}, values, wait=False),
    ):
        assert found(cluster, "rayjobs", f"ray.io/cronjob-name={nightly}") == []
        every_second = ("--type=merge", '--patch={"spec": {"schedule": "@every 1s"}}')
        in_trial(cluster, "patch", "raycronjob", nightly, *every_second)
        jobs = wait_for(lambda: found(cluster, "rayjobs", f"ray.io/cronjob-name={nightly}"), timeout_s=30)
        in_trial(cluster, "patch", "raycronjob", nightly, "--type=merge", '--patch={"spec": {"suspend": true}}')
        assert (jobs[0]["spec"]["backoffLimit"], jobs[0]["spec"]["entrypoint"].split()[:2]) == (
            0, ["python", "jobs/build_corpus.py"]
        )  # fmt: skip

        (gateway,) = wait_for(lambda: found(cluster, "gateways"), timeout_s=60)
        assert gateway["metadata"]["name"] == f"{name}-gateway"
        assert [listener["port"] for listener in gateway["spec"]["listeners"]] == [80]
        (route,) = wait_for(lambda: found(cluster, "httproutes"), timeout_s=60)
        (backend,) = route["spec"]["rules"][0]["backendRefs"]
        services = {service["metadata"]["name"] for service in found(cluster, "services")}
        assert backend["name"] in services and backend["name"].startswith(f"{name}-")
        assert backend["name"] != f"{name}-serve-svc"


@contextmanager
def installed(
    cluster: Cluster,
    preset: str,
    groups: dict[str, dict[str, Any]],
    further: dict[str, Any] | None = None,
    *,
    wait: bool = True,
) -> Iterator[Callable[..., None]]:
    """Install a preset as shipped, but for a selector of the nodes without machines; yield what upgrades it.

    ``groups`` are worker groups, each with values beside those of the preset; ``further`` are other values.
    """
    place = cluster.folder / f"{preset}.yaml"
    placed = {name: {**PLACE, **group} for name, group in groups.items()}
    place.write_text(json.dumps({"head": PLACE, "explorer": PLACE, "workerGroups": placed, **(further or {})}))
    values = ("--values", str(CHART / "ci" / f"{preset}-values.yaml"), "--values", str(place))
    waits = ("--namespace", TRIAL, "--server-side=false", *(("--wait", "--timeout=120s") if wait else ()))

    def upgrade(*settings: str) -> None:
        cluster.run("helm", "upgrade", "trial", str(CHART), *waits, *values, *sets(*settings))

    try:
        cluster.run("helm", "install", "trial", str(CHART), *waits, *values)
        yield upgrade
    finally:
        cluster.run("helm", "uninstall", "trial", "--namespace", TRIAL)
        wait_for(lambda: len(pods(cluster)) == 1, timeout_s=60)  # the dashboard


@contextmanager
def claim(cluster: Cluster, name: str) -> Iterator[None]:
    """A claim of a volume that many nodes may read."""
    shared = {"accessModes": ["ReadOnlyMany"], "storageClassName": ""}
    target = {"claimRef": {"namespace": TRIAL, "name": name}, "hostPath": {"path": "/nonexistent"}}
    volume = {"capacity": {"storage": "1Ti"}, **target, **shared}
    request = {"resources": {"requests": {"storage": "1Ti"}}, "volumeName": f"{TRIAL}-{name}", **shared}
    items = [
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": f"{TRIAL}-{name}"}, "spec": volume},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": request},
    ]
    in_trial(cluster, "apply", "--filename=-", input=yaml.safe_dump_all(items))
    try:
        yield
    finally:
        in_trial(cluster, "delete", "persistentvolumeclaim", name, "--wait=false")
        in_trial(cluster, "delete", "persistentvolume", f"{TRIAL}-{name}", "--wait=false")


@contextmanager
def devices(cluster: Cluster, node: str, count: int) -> Iterator[None]:
    """Devices of a node, as a driver publishes them, and a template of claims for all of them."""
    kind = {"apiVersion": "resource.k8s.io/v1"}
    pool = {"name": node, "generation": 1, "resourceSliceCount": 1}
    slice_ = {"driver": DRIVER, "nodeName": node, "pool": pool, "devices": [{"name": f"gpu-{i}"} for i in range(count)]}
    selectors = [{"cel": {"expression": f"device.driver == '{DRIVER}'"}}]
    request = {"name": "gpus", "exactly": {"deviceClassName": DRIVER, "allocationMode": "ExactCount", "count": count}}
    template = {"spec": {"devices": {"requests": [request]}}}
    items: list[dict[str, Any]] = [
        {**kind, "kind": "DeviceClass", "metadata": {"name": DRIVER}, "spec": {"selectors": selectors}},
        {**kind, "kind": "ResourceSlice", "metadata": {"name": node}, "spec": slice_},
        {**kind, "kind": "ResourceClaimTemplate", "metadata": {"name": "gpus"}, "spec": template},
    ]
    in_trial(cluster, "apply", "--filename=-", input=yaml.safe_dump_all(items))
    try:
        yield
    finally:
        for item in items:
            in_trial(cluster, "delete", item["kind"], item["metadata"]["name"])


def found(cluster: Cluster, kind: str, selector: str = "") -> list[dict[str, Any]]:
    """The objects of a kind in the namespace."""
    text = in_trial(cluster, "get", kind, f"--selector={selector}", "--output=json")
    items: list[dict[str, Any]] = json.loads(text)["items"]
    return items


def submitted(cluster: Cluster) -> set[str]:
    """RayJobs whose submitter has room: KubeRay creates it when head and workers are ready."""
    running = [pod for pod in pods(cluster) if pod["status"]["phase"] == "Running"]
    return {pod["metadata"].get("labels", {}).get("job-name") for pod in running} - {None}


def pods(cluster: Cluster) -> list[dict[str, Any]]:
    """The pods of the namespace."""
    return found(cluster, "pods")


def in_trial(cluster: Cluster, *arguments: str, **options: Any) -> str:
    """What kubectl prints in the namespace."""
    return cluster.run("kubectl", "--namespace", TRIAL, *arguments, **options).stdout


def rendered(cluster: Cluster, preset: str) -> list[dict[str, Any]]:
    """The objects of a preset, with hosts as Ingresses and as routes of a Gateway."""
    command = ("helm", "template", "trial", str(CHART), "--namespace", TRIAL, *sets("operatorCheck=false"))
    command += ("--values", str(CHART / "ci" / f"{preset}-values.yaml"))
    text = cluster.run(*command).stdout
    if preset == "everything":
        routes = ("--show-only", "templates/ingress/ingress.yaml", *sets("ingress.parentRefs[0].name=public", LISTENER))
        text += cluster.run(*command, *routes).stdout
    # The pod of `helm test` needs its account, which a dry run does not create.
    return [item for item in yaml.safe_load_all(text) if item and item["kind"] != "Pod"]
