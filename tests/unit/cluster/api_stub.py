"""An API stub: enough of the Kubernetes API over HTTP for the client of this project. Not a cluster: nothing is scheduled.

It keeps RayJobs, pods and ConfigMaps in memory, answers with the API server's ``Status`` objects, and lets a test script the
states that KubeRay's operator would write into a RayJob's status.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

_JOBS = "/apis/ray.io/v1/namespaces/ml/rayjobs"
_PODS, _CONFIG_MAPS = "/api/v1/namespaces/ml/pods", "/api/v1/namespaces/ml/configmaps/"


class ApiStub:
    """The state of the stub; ``states`` are handed out one by one to each look at a RayJob, the last for ever."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.token = "let-me-in"
        self.served = True
        self.jobs: dict[str, dict[str, Any]] = {}
        self.queries: dict[str, dict[str, list[str]]] = {}
        self.pods: list[dict[str, Any]] = []
        self.config_maps: dict[str, dict[str, str]] = {}
        self.states: list[dict[str, Any]] = [{}]

    def answer(self, method: str, url: str, body: dict[str, Any], authorization: str) -> tuple[int, dict[str, Any]]:
        parts = urlsplit(url)
        self.queries[f"{method} {parts.path}"] = parse_qs(parts.query)
        if authorization != f"Bearer {self.token}":
            return _status(401, "Unauthorized")
        if parts.path.startswith(_JOBS) and self.served:
            return self._answer_job(method, parts.path.removeprefix(_JOBS).strip("/"), body)
        if method == "GET" and parts.path == _PODS:
            return 200, {"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": self._selected(parts.query)}
        name = parts.path.removeprefix(_CONFIG_MAPS)
        if method == "GET" and name in self.config_maps:
            metadata = {"name": name, "namespace": "ml"}
            return 200, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": self.config_maps[name]}
        return _status(404, f'"{name.rpartition("/")[2]}" not found')

    def _answer_job(self, method: str, name: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if method == "POST":
            name = body["metadata"]["name"]
            if name in self.jobs:
                return _status(409, f'rayjobs.ray.io "{name}" already exists')
            self.jobs[name] = body
            return 201, body
        if name not in self.jobs:
            return _status(404, f'rayjobs.ray.io "{name}" not found')
        if method == "DELETE":
            return 200, self.jobs.pop(name)
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return 200, {**self.jobs[name], "status": state}

    def _selected(self, query: str) -> list[dict[str, Any]]:
        key, _, value = parse_qs(query)["labelSelector"][0].partition("=")
        return [pod for pod in self.pods if pod["metadata"]["labels"].get(key) == value]


@contextmanager
def serve_stub() -> Iterator[ApiStub]:
    """Serve an API stub on a free port of the loopback interface."""

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            code, document = stub.answer(self.command, self.path, body, self.headers.get("Authorization", ""))
            payload = json.dumps(document).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        do_GET = do_POST = do_DELETE = handle_any  # the names that http.server calls

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stub = ApiStub(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def write_kubeconfig(path: Path, url: str, token: str) -> None:
    """Write a kubeconfig with one context, ``stub``."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "stub",
        "clusters": [{"name": "stub", "cluster": {"server": url}}],
        "users": [{"name": "researcher", "user": {"token": token}}],
        "contexts": [{"name": "stub", "context": {"cluster": "stub", "user": "researcher"}}],
    }
    path.write_text(yaml.safe_dump(config), encoding="utf-8")


def _status(code: int, message: str) -> tuple[int, dict[str, Any]]:
    return code, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}
