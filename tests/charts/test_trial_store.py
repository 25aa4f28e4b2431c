"""The store for trials: its users, its two servers, and the command lines as they are rendered, with the real SeaweedFS."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from clinical_modernbert.artifacts import open_store
from clinical_modernbert.cluster.access import ROLES
from clinical_modernbert.cluster.checks import check_access
from clinical_modernbert.errors import StoreError

from tests.helpers.chart import CHART, Helm, Render, of_kind
from tests.helpers.pod_security import pod_specs, restricted_violations
from tests.helpers.s3_server import free_ports, weed_path

pytestmark = pytest.mark.helm

TRIAL = ("devStore.enabled=true", "objectStore.endpoint=")
KEYS = {"AWS_ACCESS_KEY_ID": "dev", "AWS_SECRET_ACCESS_KEY": "dev-secret"}
KEYS_OF_ROLES = {
    f"{role.upper()}_{name}": f"{role}-{name.lower()}"
    for role in ROLES
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY")
}


def test_the_store_may_be_minio(render: Render) -> None:
    values = (
        "devStore.flavor=minio",
        "devStore.image.repository=minio/minio",
        "devStore.image.tag=RELEASE.2025-09-07T16-13-09Z",
        *(f"objectStore.roleSecrets.{role}=" for role in ROLES),
    )
    objects = render("everything", *values)
    (workload,) = of_kind(objects, "StatefulSet")
    pod = workload["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (bucket,) = pod["initContainers"]
    services = [o for o in of_kind(objects, "Service") if o["metadata"]["name"] == workload["spec"]["serviceName"]]

    assert container["command"] == ["minio", "server", "/data", "--address=:9000"]
    assert {variable["name"] for variable in container["env"]} == {"MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD"}
    assert bucket["command"] == ["mkdir", "-p", "/data/clinical-modernbert"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/minio/health/ready"
    assert [service["spec"]["ports"][0]["port"] for service in services] == [9000]
    assert [problem for spec in pod_specs(workload).values() for problem in restricted_violations(spec)] == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("devStore.flavor=minio", "objectStore.roleSecrets.reader=r"), "devStore.flavor=minio has one user"),
        (("objectStore.roleSecrets.reader=r", "objectStore.roleSecrets.trainer=r"), "name one Secret twice"),
        (("objectStore.roleSecrets.reader=clinical-modernbert-s3",), "name one Secret twice"),
    ],
)
def test_roles_that_the_store_cannot_tell_apart_are_refused(
    helm: Helm, settings: tuple[str, ...], message: str
) -> None:
    sets = [part for setting in ("operatorCheck=false", *TRIAL, *settings) for part in ("--set", setting)]
    result = helm("template", "cm", str(CHART), "--values", str(CHART / "ci" / "minimal-values.yaml"), *sets)

    assert result.returncode != 0
    assert message in result.stderr


@pytest.mark.s3
def test_the_store_starts_by_its_own_command_line(
    render: Render, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = pod_of(render("minimal", *TRIAL))
    assert "initContainers" not in pod and "s3.config" not in str(pod)
    with running(pod, tmp_path, "s3://clinical-modernbert", monkeypatch):
        assert open_store("s3://clinical-modernbert").read_bytes("work/x") == b"1"


@pytest.mark.s3
def test_the_store_holds_each_role_with_keys_of_its_own_to_its_policy(
    render: Render, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the init container writes is what the server reads. A role without keys of its own is no user."""
    pod = pod_of(render("everything"))
    (init,) = pod["initContainers"]
    (mount,) = [mount for mount in init["volumeMounts"] if mount["name"] == "identities"]
    given = KEYS | KEYS_OF_ROLES
    assert {variable["name"] for variable in init["env"]} == given.keys() | {"ARTIFACT_ROOT"}
    assert f"-s3.config={init['command'][-1]}" in pod["containers"][0]["command"]
    assert init["command"][-1].startswith(f"{mount['mountPath']}/")
    (root,) = [variable["value"] for variable in init["env"] if variable["name"] == "ARTIFACT_ROOT"]
    write_identities(init, repository, tmp_path, {**given, "ARTIFACT_ROOT": root})

    with running(pod, tmp_path, root, monkeypatch):
        for role in ROLES:
            for name in KEYS:
                monkeypatch.setenv(name, KEYS_OF_ROLES[name.replace("AWS", role.upper())])
            assert [str(finding) for finding in check_access(open_store(root), role) if not finding.ok] == []


def pod_of(manifests: list[dict[str, Any]]) -> dict[str, Any]:
    (workload,) = of_kind(manifests, "StatefulSet")
    assert [problem for spec in pod_specs(workload).values() for problem in restricted_violations(spec)] == []
    spec: dict[str, Any] = workload["spec"]["template"]["spec"]
    return spec


def write_identities(init: dict[str, Any], repository: Path, folder: Path, variables: Mapping[str, str]) -> None:
    """Run the init container's command; only the folder of its file is changed."""
    command = [word.replace("/identities/", f"{folder}/") for word in init["command"]]
    environment = {"PYTHONPATH": str(repository / "platform"), **variables}
    subprocess.run([sys.executable, *command[1:]], cwd=repository, env=environment, check=True)


@contextmanager
def running(pod: dict[str, Any], folder: Path, root: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run the rendered command with the administrator's keys; only folders and ports are changed."""
    (container,) = pod["containers"]
    ports = free_ports(9)
    names = ("master.port", "filer.port", "volume.port", "admin.port")
    extra = [f"-{name}{grpc}={ports.pop()}" for name in names for grpc in ("", ".grpc")] + [
        f"-s3.port.grpc={ports[0] + 1}"
    ]
    changed = (("/data", str(folder)), ("/identities", str(folder)))
    command = [weed_path() if word == "weed" else word for word in container["command"]]
    for old, new in changed:
        command = [word.replace(old, new) for word in command]
    command = [f"-s3.port={ports[0]}" if word.startswith("-s3.port=") else word for word in command]
    assert KEYS.keys() == {variable["name"] for variable in container["env"]}
    for name, value in {**KEYS, "S3_ENDPOINT_URL": f"http://127.0.0.1:{ports[0]}"}.items():
        monkeypatch.setenv(name, value)
    with (folder / "weed.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, *extra], cwd=folder, stdout=log, stderr=log, env={"PATH": os.environ["PATH"], **KEYS}
        )
    try:
        deadline = time.monotonic() + 30
        while not _written(root):
            assert process.poll() is None and time.monotonic() < deadline, (folder / "weed.log").read_text()[-3000:]
            time.sleep(0.1)
        yield
    finally:
        process.kill()
        process.wait()


def _written(root: str) -> bool:
    try:
        open_store(root).write_bytes("work/x", b"1")
    except StoreError:
        return False
    return True
