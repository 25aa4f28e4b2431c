"""A release from install to uninstall against the API stub: real helm, real kubectl, the Python client."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from clinical_modernbert.cluster.client import Cluster
from clinical_modernbert.cluster.drift import differences
from clinical_modernbert.cluster.skeleton import fill
from kubernetes import client, config

from tests.helpers.api_stub.server import Stub, running_stub, write_certificate, write_kubeconfig
from tests.helpers.api_stub.state import Object, State
from tests.helpers.chart import CHART
from tests.helpers.kuberay_schema import crds_path, problems

pytestmark = [pytest.mark.helm, pytest.mark.slow]

CLIENT_SIDE = "--server-side=false"
RESEARCH = "cm-clinical-modernbert-research"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def stub(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stub]:
    """An API stub that checks ray.io objects against KubeRay's CRDs."""
    crds = crds_path(repository)

    def check(body: Object) -> list[str]:
        whole = {name: value for name, value in body.items() if name != "status"}
        return problems(crds, whole) if body["apiVersion"].startswith("ray.io/") else []

    with running_stub(State(check), certificate=write_certificate(tmp_path_factory.mktemp("tls"))) as stub:
        yield stub


@pytest.fixture(scope="module")
def run(stub: Stub, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """``run("helm", ...)`` and ``run("kubectl", ...)`` with their own home and kubeconfig."""
    home = tmp_path_factory.mktemp("home")
    write_kubeconfig(home / "kubeconfig", stub)
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "KUBECONFIG": str(home / "kubeconfig")}

    def start(tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        binary = Path(os.environ.get(tool.upper(), repository / ".tools" / tool))
        if not binary.is_file():
            pytest.skip(f"no {tool} at {binary}: run `python tools/fetch_helm.py`, or set {tool.upper()}")
        return subprocess.run(
            [str(binary), *arguments, "--namespace", "ml"],
            env=environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    return start


def apply(run: Run, verb: str, *settings: str, chart: Path = CHART) -> subprocess.CompletedProcess[str]:
    """Install or upgrade the release ``cm`` with everything enabled and client-side apply, as the guide says."""
    sets = [part for setting in settings for part in ("--set", setting)]
    values = str(CHART / "ci" / "everything-values.yaml")
    return run("helm", verb, "cm", str(chart), "--values", values, "--wait", "--timeout", "60s", CLIENT_SIDE, *sets)


def most_workers(run: Run) -> str:
    """``maxReplicas`` of the research cluster's groups, as kubectl reads them."""
    path = "jsonpath={.spec.workerGroupSpecs[*].maxReplicas}"
    return run("kubectl", "get", "raycluster", RESEARCH, "--output", path).stdout


def test_a_release_lives_from_install_to_uninstall(stub: Stub, run: Run, tmp_path: Path) -> None:
    installed = apply(run, "install", "research.workers.cpu.maxReplicas=4")
    assert installed.returncode == 0, installed.stderr
    assert "SUBMIT TO THE RESEARCH CLUSTER" in installed.stdout
    assert most_workers(run) == "1 4"

    tested = run("helm", "test", "cm")
    assert tested.returncode == 0 and "Phase:          Succeeded" in tested.stdout, tested.stdout + tested.stderr

    upgraded = apply(run, "upgrade", "research.workers.cpu.maxReplicas=7", "monitoring.rules.enabled=false")
    assert upgraded.returncode == 0, upgraded.stderr
    assert most_workers(run) == "1 7"
    assert stub.state.list("prometheusrules") == []

    # The autoscaler's number of workers survives an upgrade that does not change the cluster.
    stub.state.change(("rayclusters", "ml", RESEARCH), scale_up)
    again = apply(run, "upgrade", "research.workers.cpu.maxReplicas=7", "explorer.memory=3Gi")
    assert again.returncode == 0, again.stderr
    assert most_workers(run) == "1 7" and replicas(stub) == {"cpu": 3}

    back = run("helm", "rollback", "cm", "1", "--wait", "--timeout", "60s", CLIENT_SIDE)
    assert back.returncode == 0, back.stderr
    assert most_workers(run) == "1 4"
    assert len(stub.state.list("prometheusrules")) == 1

    broken = shutil.copytree(CHART, tmp_path / "broken")
    template = broken / "templates" / "_raycluster.tpl"
    template.write_text(template.read_text().replace("minReplicas: {{ $count.minReplicas }}", "minReplicas: some"))
    failed = apply(run, "upgrade", "research.workers.cpu.maxReplicas=9", chart=broken)
    assert failed.returncode != 0
    assert "minReplicas: 'some' is not of type 'integer'" in failed.stderr
    history = run("helm", "history", "cm").stdout.splitlines()
    assert [line.split("\t")[2].strip() for line in history[1:]][-2:] == ["deployed", "failed"]
    assert most_workers(run) == "1 4"

    gone = run("helm", "uninstall", "cm", "--wait")
    assert gone.returncode == 0, gone.stderr
    left = {one["kind"] for plural in KINDS_OF_THE_CHART for one in stub.state.list(plural)}
    assert left == set(), "helm deletes the test pod after a success"


def test_server_side_apply_would_undo_what_the_autoscaler_chose_and_is_stopped(stub: Stub, run: Run) -> None:
    """Helm 4 applies on the server by default. KubeRay's lists have no keys, so the last client that wrote a list owns it."""
    command = ("cm", str(CHART), "--values", str(CHART / "ci" / "cpu-values.yaml"), "--server-side=true")
    installed = run("helm", "install", *command, "--wait", "--timeout", "60s")
    assert installed.returncode == 0, installed.stderr
    try:
        stub.state.change(("rayclusters", "ml", RESEARCH), scale_up)
        upgraded = run("helm", "upgrade", *command, "--set", "explorer.memory=3Gi")
        assert upgraded.returncode != 0
        assert ".spec.workerGroupSpecs" in upgraded.stderr
        assert replicas(stub) == {"cpu": 3}
    finally:
        run("helm", "uninstall", "cm", "--wait")


def test_an_upgrade_over_a_failed_one_is_seen_and_repaired(stub: Stub, run: Run, tmp_path: Path) -> None:
    """Without server-side apply Helm compares with the last deployed revision, not with the live object."""
    broken = shutil.copytree(CHART, tmp_path / "broken")
    template = broken / "templates" / "_rayobjects.tpl"
    template.write_text(
        template.read_text().replace("excludeHeadPodFromServeSvc: true", "excludeHeadPodFromServeSvc: some")
    )
    assert apply(run, "install", "research.workers.cpu.maxReplicas=4").returncode == 0
    try:
        assert not drift(stub, run)
        failed = apply(run, "upgrade", "research.workers.cpu.maxReplicas=9", chart=broken)
        assert failed.returncode != 0 and "excludeHeadPodFromServeSvc" in failed.stderr
        again = apply(run, "upgrade", "research.workers.cpu.maxReplicas=4")
        assert again.returncode == 0 and "STATUS: deployed" in again.stdout
        assert drift(stub, run) == ["spec.workerGroupSpecs[1].maxReplicas is 9, the manifest has 4"]

        values = str(CHART / "ci" / "everything-values.yaml")
        repair = ("--server-side=true", "--force-conflicts", "--set", "research.workers.cpu.maxReplicas=4")
        repaired = run("helm", "upgrade", "cm", str(CHART), "--values", values, *repair)
        assert repaired.returncode == 0, repaired.stderr
        assert not drift(stub, run)
    finally:
        run("helm", "uninstall", "cm", "--wait")


def drift(stub: Stub, run: Run) -> list[str]:
    """How the live research cluster differs from what Helm reports."""
    manifests = list(yaml.safe_load_all(run("helm", "get", "manifest", "cm").stdout))
    (manifest,) = [m for m in manifests if m and m["kind"] == "RayCluster"]
    return differences(manifest, stub.state.get("rayclusters", "ml", RESEARCH))


def test_kubectl_and_the_python_client_read_the_release_and_submit_to_it(stub: Stub, run: Run, tmp_path: Path) -> None:
    assert apply(run, "install").returncode == 0
    try:
        listed = run("kubectl", "get", "rayclusters,rayjobs,rayservices,deployments,statefulsets", "--output", "name")
        assert set(listed.stdout.split()) == {
            f"raycluster.ray.io/{RESEARCH}",
            "rayjob.ray.io/cm-clinical-modernbert-pretrain",
            "rayjob.ray.io/cm-clinical-modernbert-gpu-evaluate",
            "rayservice.ray.io/cm-clinical-modernbert-encoder",
            "deployment.apps/cm-clinical-modernbert-explorer",
            "deployment.apps/cm-clinical-modernbert-login-explorer",
            "deployment.apps/cm-clinical-modernbert-login-dashboard",
            "statefulset.apps/cm-clinical-modernbert-store",
        }
        write_kubeconfig(tmp_path / "kubeconfig", stub)
        api = config.new_client_from_config(str(tmp_path / "kubeconfig"))
        service = client.CustomObjectsApi(api).get_namespaced_custom_object(
            "ray.io", "v1", "ml", "rayservices", "cm-clinical-modernbert-encoder"
        )
        policies = client.NetworkingV1Api(api).list_namespaced_network_policy("ml").items
        skeleton = Cluster(api, namespace="ml").read_skeleton("cm-clinical-modernbert", "pretrain")
        assert service["spec"]["rayClusterConfig"]["authOptions"] == {"mode": "token", "secretName": "ray-token"}
        assert len(policies) == len(stub.state.list("networkpolicies")) > 10
        job = fill(skeleton, name="run", namespace="ml", command="python jobs/x.py", workers={"a100": 2})
        created = Cluster(api, namespace="ml").submit(job)
        assert stub.state.get("rayjobs", "ml", created)["spec"] == job["spec"]
        Cluster(api, namespace="ml").delete(created)
    finally:
        run("helm", "uninstall", "cm", "--wait")


KINDS_OF_THE_CHART = (
    "rayclusters", "rayjobs", "raycronjobs", "rayservices", "deployments", "statefulsets", "services", "ingresses",
    "networkpolicies", "poddisruptionbudgets", "horizontalpodautoscalers", "roles", "rolebindings", "serviceaccounts",
    "configmaps", "podmonitors", "prometheusrules", "pods", "secrets",
)  # fmt: skip


def scale_up(cluster: Object) -> Object:
    for group in cluster["spec"]["workerGroupSpecs"]:
        if group["groupName"] == "cpu":
            group["replicas"] = 3
    return cluster


def replicas(stub: Stub) -> dict[str, int]:
    groups = stub.state.get("rayclusters", "ml", RESEARCH)["spec"]["workerGroupSpecs"]
    return {group["groupName"]: group["replicas"] for group in groups if "replicas" in group}
