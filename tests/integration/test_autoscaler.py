"""Ray's own provider for KubeRay scales our RayCluster against the API stub. Real are Ray's code and HTTPS; not the operator.

Each case runs in a process of its own, since Ray reads where the API server is when its module is loaded.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.api_stub.server import Stub, running_stub, write_certificate
from tests.helpers.api_stub.state import State
from tests.helpers.chart import Render, helm, render  # noqa: F401  # fixtures
from tests.helpers.kuberay_schema import crds_path, read_schema, with_defaults

pytestmark = [pytest.mark.helm, pytest.mark.slow]

NAME = "cm-clinical-modernbert-research"
SCRIPT = """
import json, sys
from unittest.mock import MagicMock
from ray.autoscaler._private.kuberay.autoscaling_config import AutoscalingConfigProducer
from ray.autoscaler.v2.instance_manager.cloud_providers.kuberay.cloud_provider import KubeRayProvider

name, namespace, action, argument = sys.argv[1:]
provider = KubeRayProvider(name, {"namespace": namespace}, gcs_client=MagicMock())  # asked about no scaling of the cluster's size
if action == "config":
    config = AutoscalingConfigProducer(name, namespace)()
    print(json.dumps({key: config[key] for key in ("available_node_types", "idle_timeout_minutes", "max_workers")}))
else:
    instances = provider.get_non_terminated()
    if action == "launch":
        provider.launch(shape=json.loads(argument), request_id="up")
    else:
        provider.terminate(ids=json.loads(argument), request_id="down")
    print(json.dumps({"seen": sorted(instances), "errors": [repr(error) for error in provider.poll_errors()]}))
"""


@pytest.fixture
def stub(render: Render, repository: Path, tmp_path: Path) -> Iterator[Stub]:  # noqa: F811
    """A stub that holds the research cluster as the chart renders it, with the defaults of KubeRay's CRD."""
    schema = read_schema(crds_path(repository), "RayCluster")
    with running_stub(State(), certificate=write_certificate(tmp_path), token=None) as stub:
        (cluster,) = [m for m in render("cpu") if m["kind"] == "RayCluster"]
        stub.create("rayclusters", with_defaults(schema, cluster))
        add_pod(stub, "head", "head", "headgroup")
        yield stub


def add_pod(stub: Stub, name: str, node_type: str, group: str) -> None:
    """A pod as the operator would make it, running."""
    labels = {"ray.io/cluster": NAME, "ray.io/node-type": node_type, "ray.io/group": group}
    ready = {"name": "ray", "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}
    status = {"phase": "Running", "containerStatuses": [ready]}
    pod = {"metadata": {"name": name, "labels": labels}, "spec": {"containers": [{"name": "ray"}]}, "status": status}
    stub.create("pods", pod)


def provider(stub: Stub, action: str, argument: object = None) -> dict[str, Any]:
    """Do one thing with Ray's provider and return what it saw."""
    certificate = str(stub.certificate)
    environment = {
        **os.environ,
        "KUBERNETES_SERVICE_HOST": "127.0.0.1",
        "KUBERNETES_SERVICE_PORT_HTTPS": stub.url.rpartition(":")[2],
        "RAY_KUBERAY_CA_CERT_PATH": certificate,
        "RAY_KUBERAY_CLIENT_CERT_PATH": certificate,
        "RAY_KUBERAY_CLIENT_KEY_PATH": certificate,
    }
    command = [sys.executable, "-c", SCRIPT, NAME, "ml", action, json.dumps(argument)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def group(stub: Stub) -> dict[str, Any]:
    (found,) = stub.state.get("rayclusters", "ml", NAME)["spec"]["workerGroupSpecs"]
    return dict(found)


def test_ray_reads_machines_and_idle_time_from_our_object(stub: Stub) -> None:
    config = provider(stub, "config")
    cpu = config["available_node_types"]["cpu"]

    assert (cpu["min_workers"], cpu["max_workers"]) == (0, 4)
    assert cpu["resources"]["CPU"] == 4 and cpu["resources"]["memory"] == 16 * 2**30
    assert config["available_node_types"]["headgroup"]["resources"]["CPU"] == 0  # no tasks on the head
    assert config["idle_timeout_minutes"] == 5


def test_ray_scales_our_cluster_up_and_down_to_nothing(stub: Stub) -> None:
    assert group(stub)["replicas"] == 0
    up = provider(stub, "launch", {"cpu": 2})
    assert up["errors"] == []
    assert group(stub)["replicas"] == 2

    for name in ("worker-a", "worker-b"):  # as the operator would
        add_pod(stub, name, "worker", "cpu")
    down = provider(stub, "terminate", ["worker-a", "worker-b"])
    assert down == {"seen": ["head", "worker-a", "worker-b"], "errors": []}
    assert group(stub)["replicas"] == 0
    assert sorted(group(stub)["scaleStrategy"]["workersToDelete"]) == ["worker-a", "worker-b"]
