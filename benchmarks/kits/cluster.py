"""A real Kubernetes cluster for tests and drills: kubectl, helm and jobs/submit.py against the one that ``KUBECONFIG`` names.

They use one namespace, which they create and delete, and one release of the chart. The cluster has
KubeRay's operator, and its nodes have the two images that ``CLUSTER_IMAGE`` and ``CLUSTER_STORE_IMAGE`` name.
"""

import base64
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

IMAGE = os.environ.get("CLUSTER_IMAGE", "local/clinical-modernbert:test")
STORE_IMAGE = os.environ.get("CLUSTER_STORE_IMAGE", "local/seaweedfs:4.48")
NAMESPACE, RELEASE, FULL_NAME = "cm-test", "cm", "cm-clinical-modernbert"
ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "clinical-modernbert"
_SIZES = ROOT / "tests" / "cluster" / "values.yaml"


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster as one person reaches it."""

    kubeconfig: Path
    folder: Path
    """Folder for files of the tests."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Further variables of every command."""

    @property
    def environment(self) -> dict[str, str]:
        """Variables of every command: the tools of this checkout first, and no store of this machine."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "S3_", "ARTIFACT_"))}
        tools = os.pathsep.join([str(ROOT / ".tools"), str(Path(sys.executable).parent), own["PATH"]])
        home = {"HOME": str(self.folder), "PYTHONPATH": str(ROOT / "platform")}
        return {**own, **home, "PATH": tools, "KUBECONFIG": str(self.kubeconfig), **self.variables}

    def run(
        self, *command: str, check: bool = True, timeout: float = 300, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a command from the root of the checkout."""
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=timeout, check=False, **options
        )  # fmt: skip
        assert done.returncode == 0 or not check, f"{' '.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done

    def kubectl(self, *arguments: str, **options: Any) -> str:
        """Return what kubectl prints in the namespace of the tests."""
        return self.run("kubectl", "--namespace", NAMESPACE, *arguments, **options).stdout

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """Return an object, {} if it does not exist."""
        text = self.kubectl("get", kind, name, "--ignore-not-found", "--output", "json")
        return json.loads(text) if text else {}

    def list(self, kinds: str, *arguments: str) -> list[dict[str, Any]]:
        """Return the objects of some kinds, such as "pods,rayjobs"."""
        items: list[dict[str, Any]] = json.loads(self.kubectl("get", kinds, "--output", "json", *arguments))["items"]
        return items

    def apply(self, *objects: dict[str, Any], **options: Any) -> subprocess.CompletedProcess[str]:
        """Create or change objects."""
        text = yaml.safe_dump_all(objects)
        return self.run("kubectl", "--namespace", NAMESPACE, "apply", "--filename", "-", input=text, **options)

    def submit(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run jobs/submit.py to its end."""
        return self.run(*self._submit(arguments), **options)

    def start_submit(self, *arguments: str) -> subprocess.Popen[str]:
        """Start jobs/submit.py; its stderr and stdout are one stream."""
        # A process that a shell starts in the background ignores Ctrl-C, and so would its children.
        command = ("env", "--default-signal=INT", *self._submit(arguments))
        return subprocess.Popen(
            command, cwd=ROOT, env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def _submit(self, arguments: tuple[str, ...]) -> tuple[str, ...]:
        where = () if "--address" in arguments else ("--namespace", NAMESPACE)
        return (sys.executable, "jobs/submit.py", *arguments, *where)

    @contextmanager
    def forward(self, service: str, port: int) -> Iterator[str]:
        """Yield the URL of a port of a Service, by kubectl port-forward."""
        command = ["kubectl", "--namespace", NAMESPACE, "port-forward", f"service/{service}", f":{port}"]
        process = subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            found = re.search(r"127\.0\.0\.1:\d+", process.stdout.readline())
            assert found, f"no port-forward to {service}"
            yield f"http://{found[0]}"
        finally:
            process.kill()
            process.wait()

    def person(self, name: str, group: str) -> "Cluster":
        """Return the cluster as a user of a group reaches it, who has only what RoleBindings give."""
        key, request = self.folder / f"{name}.key", self.folder / f"{name}.csr"
        subject = f"/O={group}/CN={name}"
        self.run(
            "openssl",
            "req",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            str(key),
            "-out",
            str(request),
            "-subj",
            subject,
        )
        spec = {
            "request": base64.b64encode(request.read_bytes()).decode(),
            "signerName": "kubernetes.io/kube-apiserver-client",
            "usages": ["client auth"],
        }
        kind = {"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest"}
        self.kubectl("delete", "csr", f"cm-test-{name}", "--ignore-not-found")
        self.apply({**kind, "metadata": {"name": f"cm-test-{name}"}, "spec": spec})
        self.kubectl("certificate", "approve", f"cm-test-{name}")
        certificate = wait_for(lambda: self.get("csr", f"cm-test-{name}")["status"].get("certificate"), timeout_s=30)
        config = yaml.safe_load(self.kubectl("config", "view", "--raw", "--minify", "--flatten"))
        data = base64.b64encode(key.read_bytes()).decode()
        config["users"][0]["user"] = {"client-certificate-data": certificate, "client-key-data": data}
        path = self.folder / f"{name}.conf"
        path.write_text(yaml.safe_dump(config))
        return replace(self, kubeconfig=path)


def script_pod(
    name: str, command: list[str], *, labels: Mapping[str, str] | None = None, **container: Any
) -> dict[str, Any]:
    """Return a pod that runs a command in the image of the tests, as Pod Security "restricted" allows it."""
    pod_security = {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}}
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    first = {"name": name, "image": IMAGE, "command": command, "securityContext": security, **container}
    spec = {"restartPolicy": "Never", "securityContext": pod_security, "containers": [first]}
    metadata = {"name": name, "labels": dict(labels or {})}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def sets(*settings: str) -> list[str]:
    """Return ``--set`` before each setting, as helm and jobs/submit.py take them."""
    return [part for setting in settings for part in ("--set", setting)]


def values(preset: str) -> list[str]:
    """Return helm's arguments for a preset, sized down, with the images of the cluster."""
    arguments = ["--values", str(CHART / "ci" / f"{preset}-values.yaml"), "--values", str(_SIZES)]
    for name, image in (("image", IMAGE), ("devStore.image", STORE_IMAGE)):
        repository, _, tag = image.rpartition(":")
        parts = {"registry": "", "repository": repository, "tag": tag}
        arguments += sets(*(f"{name}.{key}={value}" for key, value in parts.items()))
    return arguments


def wait_for(look: Callable[[], Any], *, timeout_s: float, pause_s: float = 2) -> Any:
    """Return the first true answer of ``look``."""
    deadline = time.monotonic() + timeout_s
    while not (answer := look()):
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(pause_s)
    return answer
