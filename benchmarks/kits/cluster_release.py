"""The chart's release in the namespace of tests and drills: installed as the documentation says, upgraded, looked at, deleted."""

import re
import subprocess
from typing import Any

from benchmarks.kits.cluster import CHART, FULL_NAME, NAMESPACE, RELEASE, ROOT, Cluster, sets, values

PRESET = "minimal"
ENDPOINT, PRETRAINING = f"{FULL_NAME}-encoder", f"{FULL_NAME}-pretrain"
SMALL_CORPUS = (
    "sources=[{type: synthetic_notes, name: notes, num_documents: 400}]",
    "tokenizer={base: train, vocabulary_size: 1024}",
)
OWN_CLUSTER = ("--release", FULL_NAME, "--workers", "cpu=1")
_PAGE, _HEADING = ROOT / "docs" / "platform-team.md", "## Install on bare KubeRay\n"
_KEYS = "--from-literal AWS_ACCESS_KEY_ID=key --from-literal AWS_SECRET_ACCESS_KEY=secret-of-the-tests"


def install(cluster: Cluster) -> None:
    """Run the commands of docs/platform-team.md as printed, but for the namespace, the keys and the values."""
    chosen = " ".join(f"'{argument}'" for argument in values(PRESET))
    for line in _documented():
        command = re.sub(
            r"--from-literal AWS_ACCESS_KEY_ID=\.\.\.\s+--from-literal AWS_SECRET_ACCESS_KEY=\.\.\.", _KEYS, line
        )
        command = command.replace("--values my-values.yaml", chosen)
        cluster.run("bash", "-c", re.sub(r"\bml\b", NAMESPACE, command))


def _documented() -> list[str]:
    """The page's commands from the namespace to `helm install`, each on one line."""
    section = _PAGE.read_text(encoding="utf-8").partition(_HEADING)[2]
    block = re.search(r"```bash\n(.*?)```", section, re.DOTALL)
    assert block, f"{_PAGE} has no commands below {_HEADING}"
    lines = block[1].replace("\\\n", " ").splitlines()
    found = [line for line in lines if line.startswith(("kubectl ", "helm install cm "))]
    assert found[-1].startswith("helm install cm "), found
    return found


def upgrade(
    cluster: Cluster, *settings: str, timeout: str = "6m", check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Upgrade with the endpoint on, as NOTES and docs/platform-team.md print it."""
    chosen = [*values(PRESET), *sets("endpoint.enabled=true", *settings)]
    command = ("helm", "upgrade", RELEASE, str(CHART), "--namespace", NAMESPACE, "--server-side=false")
    options = ("--rollback-on-failure", "--timeout", timeout)
    return cluster.run(*command, *chosen, *options, check=check, timeout=800)  # also for the rollback


def delete_namespace(cluster: Cluster) -> None:
    """Delete the release and the namespace."""
    cluster.run("helm", "uninstall", RELEASE, "--namespace", NAMESPACE, "--ignore-not-found", "--wait")
    cluster.run("kubectl", "delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=180s")


def research_is_ready(cluster: Cluster) -> bool:
    """Whether KubeRay calls the research cluster ready."""
    return cluster.get("raycluster", f"{FULL_NAME}-research").get("status", {}).get("state") == "ready"


def endpoint_is_ready(cluster: Cluster) -> bool:
    """Whether KubeRay calls the endpoint ready."""
    return is_ready(cluster.get("rayservice", ENDPOINT))


def endpoint_is_settled(cluster: Cluster) -> bool:
    """Whether the endpoint is ready and no upgrade is under way or still to come."""
    service = cluster.get("rayservice", ENDPOINT)
    return is_ready(service) and is_settled(service)


def is_ready(item: dict[str, Any]) -> bool:
    """Whether a pod or a RayService is Ready and is not being deleted."""
    conditions = item.get("status", {}).get("conditions", [])
    ready = any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
    return ready and "deletionTimestamp" not in item["metadata"]


def is_settled(service: dict[str, Any]) -> bool:
    """Whether the operator has seen the last change of a RayService, and prepares no second cluster for it."""
    status = service.get("status", {})
    pending = status.get("pendingServiceStatus", {}).get("rayClusterName")
    return status.get("observedGeneration") == service["metadata"]["generation"] and not pending


def active_cluster(cluster: Cluster) -> str:
    """The RayCluster that takes the endpoint's requests: during an upgrade there is a second one."""
    status = cluster.get("rayservice", ENDPOINT).get("status", {})
    return str(status.get("activeServiceStatus", {}).get("rayClusterName", "none"))


def ready_heads(cluster: Cluster) -> list[str]:
    """The endpoint's head, if it is ready."""
    return [pod["metadata"]["name"] for pod in _ready(cluster, "head")]


def ready_workers(cluster: Cluster) -> list[str]:
    """The endpoint's workers that take requests."""
    return [pod["metadata"]["name"] for pod in _ready(cluster, "worker")]


def worker_containers(cluster: Cluster) -> set[str]:
    """Ids of the containers of these workers. A pod that stays may start its container again."""
    return {c["containerID"] for pod in _ready(cluster, "worker") for c in pod["status"]["containerStatuses"]}


def worker_images(cluster: Cluster) -> set[str]:
    """The images of these workers."""
    return {pod["spec"]["containers"][0]["image"] for pod in _ready(cluster, "worker")}


def _ready(cluster: Cluster, node: str) -> list[dict[str, Any]]:
    selector = f"ray.io/cluster={active_cluster(cluster)},ray.io/node-type={node}"
    return [pod for pod in cluster.list("pods", "--selector", selector) if is_ready(pod)]
