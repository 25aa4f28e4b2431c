"""The platform team installs, by the commands that its page prints."""

from typing import Any

import pytest
import yaml

from benchmarks.kits.cluster import CHART, FULL_NAME, NAMESPACE, RELEASE, Cluster, sets, wait_for
from benchmarks.kits.cluster_release import install, research_is_ready

TRIAL, LISTENER = f"{NAMESPACE}-trial", "ingress.parentRefs[0].sectionName=https"
PRESETS = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*-values.yaml"))

WAITS = "Startup probe failed: the endpoint waits: no model 'smoke' in s3://platform/test"

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]


def test_the_documented_commands_install(cluster: Cluster) -> None:
    install(cluster)
    wait_for(lambda: research_is_ready(cluster), timeout_s=300)
    cluster.kubectl("rollout", "status", f"deployment/{FULL_NAME}-explorer", "--timeout=180s")


def test_helm_test_names_what_the_endpoint_waits_for(cluster: Cluster) -> None:
    """The store has no model yet; everything else passes."""
    done = cluster.run("helm", "test", RELEASE, "--namespace", NAMESPACE, "--logs", check=False)
    errors = [line for line in done.stdout.splitlines() if line.startswith("error: ")]
    assert errors[0].startswith("error: the endpoint waits, and starts when its model is there: no model 'smoke'"), (
        done.stdout
    )
    assert [error for error in errors if f"{FULL_NAME}-encoder" not in error] == errors[:1]
    for passed in ("store s3://platform/test", f"RayCluster {FULL_NAME}-research: as the release", "explorer http://"):
        assert passed in done.stdout


def test_the_endpoint_waits_for_its_model_in_an_event_of_its_pod(cluster: Cluster) -> None:
    """The startup probe prints the reason, and the kubelet writes it; no pod has a token for that."""

    def said() -> set[str]:
        events = cluster.list("events", "--field-selector", "reason=Unhealthy")
        return {event["involvedObject"]["name"] for event in events if WAITS in event["message"]}

    (pod,) = wait_for(said, timeout_s=180)
    assert pod.startswith(f"{FULL_NAME}-encoder-")
    (worker,) = cluster.get("pod", pod)["status"]["containerStatuses"]
    assert (worker["started"], worker["restartCount"]) == (False, 0)


def test_the_api_server_accepts_every_preset(cluster: Cluster) -> None:
    """As a dry run on the server, with unknown fields refused, in a namespace without the admission policy of the release."""
    served = {line.split()[-1] for line in cluster.kubectl("api-resources", "--no-headers").splitlines()}
    assert served >= {"RayCluster", "RayJob", "RayService", "RayCronJob", "ValidatingAdmissionPolicy"}
    objects = [item for preset in PRESETS for item in rendered(cluster, preset) if item["kind"] in served]
    assert len(objects) > 100
    cluster.run("kubectl", "create", "namespace", TRIAL)
    try:
        cluster.run("kubectl", "label", "namespace", TRIAL, "pod-security.kubernetes.io/warn=restricted")
        create = ("create", "--dry-run=server", "--validate=strict", "--output=name", "--filename=-")
        done = cluster.run("kubectl", *create, input=yaml.safe_dump_all(objects))
    finally:
        cluster.run("kubectl", "delete", "namespace", TRIAL, "--wait=false")
    assert len(done.stdout.splitlines()) == len(objects)
    assert "PodSecurity" not in done.stderr


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
