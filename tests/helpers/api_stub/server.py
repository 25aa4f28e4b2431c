"""A stateful stub of the Kubernetes API over HTTP or HTTPS, enough for helm, kubectl, the Python client and Ray's autoscaler.

It is not a cluster: it schedules and runs nothing and checks no permissions. ``state`` stores the objects, and ``resources``
lists the supported kinds.
"""

import json
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

from tests.helpers.api_stub import patches, protobuf
from tests.helpers.api_stub.resources import RESOURCES, Resource, discovery
from tests.helpers.api_stub.state import Key, Object, RefusedError, State

WATCH_LIMIT_S = 60


@dataclass
class Stub:
    """A running stub: its URL, its objects and the logs of its pods."""

    url: str
    state: State
    token: str | None
    """Token that requests need; None accepts all requests."""
    certificate: Path | None = None
    served: tuple[Resource, ...] = RESOURCES
    logs: dict[str, str] = field(default_factory=dict)
    """Pod name -> its log."""
    requests: list[str] = field(default_factory=list)
    """Method and path with query of each request, in order."""

    def resource(self, plural: str) -> Resource:
        return next(resource for resource in self.served if resource.plural == plural)

    def create(self, plural: str, body: Object, *, namespace: str = "ml") -> Object:
        return self.state.create(self.resource(plural), namespace, body)

    def set_status(self, plural: str, name: str, status: dict[str, Any], *, namespace: str = "ml") -> None:
        """Write a status, as a controller would."""
        self.state.change((plural, namespace, name), lambda old: {**old, "status": status}, part="status")


@dataclass(frozen=True)
class Target:
    """The object or list that a path names."""

    resource: Resource
    namespace: str
    name: str
    part: str

    @property
    def key(self) -> Key:
        return (self.resource.plural, self.namespace, self.name)


def find_target(path: str, served: tuple[Resource, ...]) -> Target:
    for resource in served:
        rest = path.removeprefix(f"{resource.base}/")
        if rest == path:
            continue
        parts, namespace = rest.split("/"), ""
        if parts[0] == "namespaces" and resource.namespaced and len(parts) > 2:
            namespace, parts = parts[1], parts[2:]
        if parts[0] == resource.plural:
            name, part, *_ = [*parts[1:], "", ""]
            return Target(resource, namespace, name, part)
    raise RefusedError(404, "NotFound", "the server could not find the requested resource")


def write_certificate(folder: Path) -> Path:
    """Write a PEM file with a key and a self-signed certificate for 127.0.0.1, by the openssl command."""
    key, certificate, both = folder / "key.pem", folder / "certificate.pem", folder / "stub.pem"
    options = "-x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=stub"
    command = ["openssl", "req", *options.split(" ")]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    both.write_text(certificate.read_text() + key.read_text())
    return both


@contextmanager
def running_stub(state: State, *, certificate: Path | None = None, token: str | None = "let-me-in") -> Iterator[Stub]:
    """Serve on a free port of the loopback interface; over TLS if a PEM file with certificate and key is given.

    helm and kubectl send no token without TLS.
    """

    class Handler(_Handler):
        pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    stub = Stub(f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_port}", state, token, certificate)
    Handler.stub = stub
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def write_kubeconfig(path: Path, stub: Stub, *, token: str | None = None) -> None:
    """Write a kubeconfig with one context, ``stub``."""
    authority = {"certificate-authority": str(stub.certificate)} if stub.certificate else {}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "stub",
        "clusters": [{"name": "stub", "cluster": {"server": stub.url, **authority}}],
        "users": [{"name": "researcher", "user": {"token": token or stub.token}}],
        "contexts": [{"name": "stub", "context": {"cluster": "stub", "user": "researcher"}}],
    }
    path.write_text(yaml.safe_dump(config), encoding="utf-8")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    stub: Stub

    def answer(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.stub.requests.append(f"{self.command} {self.path}")
        try:
            if self.stub.token and self.headers.get("Authorization") != f"Bearer {self.stub.token}":
                raise RefusedError(401, "Unauthorized", "Unauthorized")
            document = discovery(parts.path.rstrip("/"), self.stub.served) if self.command == "GET" else None
            if document is not None:
                self._send(200, document)
                return
            target = find_target(parts.path.rstrip("/"), self.stub.served)
            if self.command == "GET" and target.part == "log":
                lines = self.stub.logs.get(target.name, "").splitlines(keepends=True)
                self._send_text("".join(lines[-int(query.get("tailLines", len(lines))) :]))
            elif self.command == "GET" and query.get("watch") in ("true", "1"):
                self._watch(target, query)
            else:
                body = self._body(raw) if raw and self.command != "DELETE" else {}
                self._send(*self._handle(target, query, body))
        except RefusedError as refused:
            self._send(refused.code, refused.status)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # the names that http.server calls

    def _handle(self, target: Target, query: dict[str, str], body: Any) -> tuple[int, Object]:
        state = self.stub.state
        if self.command == "POST":
            return 201, state.create(target.resource, target.namespace, body)
        if self.command == "PUT":
            return 200, state.update(target.key, body, part=target.part)
        if self.command == "PATCH":
            return self._patch(target, query, body)
        if self.command == "DELETE":
            names = [target.name] if target.name else [o["metadata"]["name"] for o in self._selected(target, query)]
            gone = [state.delete((target.resource.plural, target.namespace, name)) for name in names]
            return 200, gone[0] if target.name else {"kind": "Status", "apiVersion": "v1", "status": "Success"}
        if target.name:
            return 200, state.get(*target.key)
        return 200, {
            "kind": f"{target.resource.kind}List", "apiVersion": target.resource.api_version,
            "metadata": {"resourceVersion": str(state.version)}, "items": self._selected(target, query),
        }  # fmt: skip

    def _patch(self, target: Target, query: dict[str, str], body: Any) -> tuple[int, Object]:
        state, kind = self.stub.state, self.headers["Content-Type"]
        if kind == patches.APPLY:
            body["metadata"].pop("managedFields", None)
            force = query.get("force") == "true"
            try:
                return 200, state.apply(target.key, query.get("fieldManager", ""), body, force=force)
            except RefusedError as refused:
                if refused.code != 404:
                    raise
                made = state.create(target.resource, target.namespace, deepcopy(body))
                state.apply(target.key, query.get("fieldManager", ""), body, force=True)
                return 201, made
        if kind == patches.JSON_PATCH:
            return 200, state.change(target.key, lambda old: patches.json_patch(old, body), part=target.part)
        return 200, state.change(target.key, lambda old: patches.merge(old, body), part=target.part)

    def _selected(self, target: Target, query: dict[str, str]) -> list[Object]:
        found = self.stub.state.list(target.resource.plural, target.namespace)
        return [one for one in found if is_selected(one, query)]

    def _watch(self, target: Target, query: dict[str, str]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        state, since = self.stub.state, query.get("resourceVersion") or "0"
        initial = query.get("sendInitialEvents") == "true" or since == "0"
        version = state.version if initial else int(since)
        if initial:
            for one in self._selected(target, query):
                self._chunk({"type": "ADDED", "object": one})
            marks = {"resourceVersion": str(version), "annotations": {"k8s.io/initial-events-end": "true"}}
            if query.get("sendInitialEvents") == "true":
                kind = {"kind": target.resource.kind, "apiVersion": target.resource.api_version}
                self._chunk({"type": "BOOKMARK", "object": {**kind, "metadata": marks}})
        deadline = time.monotonic() + min(float(query.get("timeoutSeconds", WATCH_LIMIT_S)), WATCH_LIMIT_S)
        while time.monotonic() < deadline:
            with state.changed:
                news = list(state.events_after(version))
                if not news:
                    state.changed.wait(0.2)
            version = news[-1][0] if news else version
            for _, event, (plural, namespace, _), one in news:
                if plural == target.resource.plural and target.namespace in ("", namespace) and is_selected(one, query):
                    self._chunk({"type": event, "object": one})
        self.wfile.write(b"0\r\n\r\n")

    def _body(self, raw: bytes) -> Any:
        kind = self.headers.get("Content-Type", "")
        if kind == "application/vnd.kubernetes.protobuf":
            return protobuf.decode(raw)
        return yaml.safe_load(raw) if "yaml" in kind else json.loads(raw)

    def _chunk(self, document: Object) -> None:
        line = json.dumps(document).encode() + b"\n"
        self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
        self.wfile.flush()

    def _send(self, code: int, document: Object) -> None:
        payload = json.dumps(document).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def _send_text(self, text: str) -> None:
        payload = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *arguments: object) -> None:
        pass


def is_selected(one: Object, query: dict[str, str]) -> bool:
    """Whether the selectors of a query match an object: equality, ``in`` and existence of labels, equality of fields."""
    labels = one["metadata"].get("labels", {})
    return all(_label_matches(term, labels) for term in _terms(query.get("labelSelector", ""))) and all(
        _field_matches(term, one) for term in _terms(query.get("fieldSelector", ""))
    )


def _terms(selector: str) -> list[str]:
    """Split at commas outside parentheses."""
    terms, depth = [""], 0
    for character in selector:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and not depth:
            terms.append("")
        else:
            terms[-1] += character
    return [term.strip() for term in terms if term.strip()]


def _label_matches(term: str, labels: dict[str, str]) -> bool:
    if " in (" in term:
        name, _, values = term.partition(" in (")
        return labels.get(name.strip()) in [value.strip() for value in values.rstrip(")").split(",")]
    if "!=" in term:
        name, _, value = term.partition("!=")
        return labels.get(name) != value
    name, equals, value = term.replace("==", "=").partition("=")
    return labels.get(name) == value if equals else name in labels


def _field_matches(term: str, one: Object) -> bool:
    path, _, value = term.replace("==", "=").partition("=")
    found: Any = one
    for part in path.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found == value
