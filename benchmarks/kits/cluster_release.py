"""The chart's release in the namespace of tests and drills: installed as the documentation says, upgraded, looked at, deleted."""

import re
import subprocess

from benchmarks.kits.cluster import CHART, FULL_NAME, NAMESPACE, RELEASE, ROOT, Cluster, values

PRESET = "minimal"
ENDPOINT = f"{FULL_NAME}-encoder"
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
    cluster: Cluster, *settings: str, timeout: str = "4m", check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Upgrade with the endpoint on, as NOTES and docs/platform-team.md print it."""
    sets = [part for setting in ("endpoint.enabled=true", *settings) for part in ("--set", setting)]
    command = ("helm", "upgrade", RELEASE, str(CHART), "--namespace", NAMESPACE, "--server-side=false")
    return cluster.run(*command, *values(PRESET), *sets, "--rollback-on-failure", "--timeout", timeout, check=check)


def delete_namespace(cluster: Cluster) -> None:
    """Delete the release and the namespace."""
    cluster.run("helm", "uninstall", RELEASE, "--namespace", NAMESPACE, "--ignore-not-found", "--wait")
    cluster.run("kubectl", "delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=180s")


def research_is_ready(cluster: Cluster) -> bool:
    """Whether KubeRay calls the research cluster ready."""
    return cluster.get("raycluster", f"{FULL_NAME}-research").get("status", {}).get("state") == "ready"


def endpoint_is_ready(cluster: Cluster) -> bool:
    """Whether KubeRay calls the endpoint ready."""
    conditions = cluster.get("rayservice", ENDPOINT).get("status", {}).get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def ready_heads(cluster: Cluster) -> list[str]:
    """The endpoint's head, if it is ready."""
    return _ready(cluster, "head")


def ready_workers(cluster: Cluster) -> list[str]:
    """The endpoint's workers that take requests."""
    return _ready(cluster, "worker")


def _ready(cluster: Cluster, node: str) -> list[str]:
    """Ready pods of the cluster that takes the requests: during an upgrade there is a second one."""
    status = cluster.get("rayservice", ENDPOINT).get("status", {})
    active = status.get("activeServiceStatus", {}).get("rayClusterName", "none")
    return [
        pod["metadata"]["name"]
        for pod in cluster.list("pods", "--selector", f"ray.io/cluster={active},ray.io/node-type={node}")
        if "deletionTimestamp" not in pod["metadata"]
        if any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))
    ]
