"""Requests that are meant to stop an endpoint: other clients wait at most twice as long, and no process of it dies.

Each attack is sent by one client again and again for some seconds, next to another one without pauses in a process of its own, on
Ray Serve with one replica, and with the middleware of the images in its proxy. Before and after each attack the other client is
measured alone: ``recovered`` counts attacks under which its 99th percentile was at most twice the quiet one, it was always
answered 200, and all processes stayed. ``lost`` counts its failed requests, ``wrong`` attacks that were answered by a 5xx. The
bar is for a machine without other work.
"""

import http.client
import json
import os
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from clinical_modernbert.recipe.serve import ServeLimits

from benchmarks.drill import Outcome
from benchmarks.kits.client_load import processes_named
from benchmarks.kits.endpoints import Endpoint, clinical_texts, ours, publish_model

SECONDS = 20.0
NUM_IDLE = 10_000
_WORST = 2.0
_LEAST_S = 0.05
"""Percentiles below it are taken as this: a turn of the scheduler is no attack."""
ENVIRONMENT = {"RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "clinical_modernbert.serving.proxy.middlewares"}
_PROCESSES = ("ray::ServeReplica", "ray::ProxyActor", "ray::ServeController")


def run(scratch: Path, seed: int) -> Outcome:
    """Send every attack."""
    seconds = float(os.environ.get("HOSTILE_SECONDS", SECONDS))
    return drill(scratch, seed=seed, seconds=seconds, num_idle=NUM_IDLE)


def drill(
    scratch: Path,
    *,
    seed: int,
    seconds: float,
    num_idle: int,
    names: tuple[str, ...] | None = None,
    environment: dict[str, str] = ENVIRONMENT,
    server: str = "ray",
) -> Outcome:
    """Send each attack for ``seconds``, next to another client; ``environment`` is the endpoint's, ``server`` as of ``ours``."""
    export = publish_model(scratch, num_layers=1)
    texts = clinical_texts(export, [50] * 50, seed=seed)
    measured: dict[str, dict[str, Any]] = {}
    lost = wrong = 0
    with ours(export, server=server, environment=environment) as endpoint, get_context("spawn").Pool(1) as pool:

        def client(seconds: float) -> list[tuple[int, float]]:
            where = (endpoint.port, endpoint.path, endpoint.model)
            found: list[tuple[int, float]] = pool.apply(_ask, (*where, texts, seconds))
            return found

        attacks = {**_bodies(), **_connections(num_idle)}
        client(3)  # warm
        for name, attack in attacks.items():
            if names is not None and name not in names:
                continue
            before = processes_named(endpoint, lambda title: title.startswith(_PROCESSES))
            quiet = client(seconds / 2)
            statuses: Counter[str] = Counter()
            with attack(endpoint, statuses):
                cpu_s = endpoint.cpu_s()
                attacked = client(seconds)
                cpu_s = endpoint.cpu_s() - cpu_s
            quiet_after = client(seconds / 2)
            calm = max(_LEAST_S, _p99(quiet), _p99(quiet_after))
            failed = sum(status != 200 for status, _ in attacked)
            server_errors = sum(number for status, number in statuses.items() if status.startswith("5"))
            measured[name] = {
                "ratio": round(max(_LEAST_S, _p99(attacked)) / calm, 2),
                "p99_s": round(_p99(attacked), 3),
                "quiet_p99_s": round(calm, 3),
                "requests": len(attacked),
                "quiet_requests": len(quiet) + len(quiet_after),
                "endpoint_cpus": round(cpu_s / seconds, 2),
                "failed": failed,
                "statuses": dict(statuses),
                "restarted": processes_named(endpoint, lambda title: title.startswith(_PROCESSES)) != before,
            }
            lost, wrong = lost + failed, wrong + bool(server_errors)
            sys.stdout.write(f"{name}: {measured[name]}\n")
    good = [row for row in measured.values() if row["ratio"] <= _WORST and not row["failed"] and not row["restarted"]]
    return Outcome(injected=len(measured), recovered=len(good), lost=lost, wrong=wrong, facts=measured)


Attack = Callable[[Endpoint, "Counter[str]"], Any]


def _bodies() -> dict[str, Attack]:
    """Requests for much work, and bodies of just as many bytes as the endpoint takes or of four times as many."""
    size = ServeLimits().max_body_bytes - 1000
    bodies: dict[str, tuple[str, Any]] = {
        "fill-mask, 2,000 masks": ("/fill-mask", {"inputs": "[MASK]" * 2000, "parameters": {"top_k": 1000}}),
        "fill-mask, 4 times 300 masks": ("/fill-mask", {"inputs": ["[MASK] " * 300] * 4, "parameters": {"top_k": 500}}),
        "tokenize, long texts": ("/tokenize", {"inputs": ["acute kidney injury " * 1000] * (size // 20_010)}),
        "embed_all, 256 texts": ("/embed_all", {"inputs": ["acute kidney injury " * 225] * 256}),
        "embed_sparse, 256 texts": ("/embed_sparse", {"inputs": ["acute kidney injury " * 225] * 256}),
        "token ids": ("/v1/embeddings", b'{"model":"bench","input":[' + b"9," * (size // 2) + b"9]}"),
        "short texts": ("/v1/embeddings", b'{"model":"bench","input":[' + b'"a",' * (size // 4) + b'"a"]}'),
        "deep lists": ("/embed", b'{"inputs":' + b"[" * size),
        "deep objects": ("/embed", b'{"inputs":' + b'{"a":' * (size // 5)),
        "a long text": ("/embed", {"inputs": "x" * size}),
        "no JSON": ("/embed", b"\xff" * size),
        "a body beyond the limit": ("/embed", {"inputs": "x" * (4 * size)}),
    }
    return {name: _repeated(path, _encoded(body)) for name, (path, body) in bodies.items()}


def _encoded(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()


def _repeated(path: str, body: bytes) -> Attack:
    """Send one request again as soon as it is answered."""

    @contextmanager
    def attack(endpoint: Endpoint, statuses: "Counter[str]") -> Iterator[None]:
        def send() -> None:
            connection = endpoint.connect()
            with suppress(OSError, http.client.HTTPException), ExitStack() as stack:
                stack.callback(connection.close)
                connection.request("POST", path, body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                answer.read()
                statuses[str(answer.status)] += 1
                return
            statuses["no answer"] += 1

        with _repeating(send):
            yield

    return attack


def _connections(num_idle: int) -> dict[str, Attack]:
    return {
        "slow bodies": _held(200, b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n", drip=b"x"),
        "slow headers": _held(200, b"POST /embed HTTP/1.1\r\nHost: x\r\n", drip=b"X: y\r\n"),
        "huge headers": _large_headers,
        "idle connections": _held(num_idle, b"", drip=b""),
    }


def _held(number: int, first: bytes, *, drip: bytes) -> Attack:
    """Open many connections and hold them, with a few bytes each second."""

    @contextmanager
    def attack(endpoint: Endpoint, statuses: "Counter[str]") -> Iterator[None]:
        with ExitStack() as stack:
            opened = []
            for _ in range(number):
                with suppress(OSError):
                    opened.append(
                        stack.enter_context(socket.create_connection(("127.0.0.1", endpoint.port), timeout=5))
                    )
                    opened[-1].sendall(first)
            statuses["open"] = len(opened)
            if len(opened) < number:
                raise RuntimeError(
                    f"only {len(opened)} of {number} connections were opened: is `ulimit -n` large enough?"
                )

            def send() -> None:
                for one in opened if drip else ():
                    with suppress(OSError):
                        one.sendall(drip)
                time.sleep(1)

            with _repeating(send):
                yield

    return attack


@contextmanager
def _large_headers(endpoint: Endpoint, statuses: "Counter[str]") -> Iterator[None]:
    def send() -> None:
        answer = b""
        with suppress(OSError), socket.create_connection(("127.0.0.1", endpoint.port), timeout=30) as one:
            with suppress(OSError):  # the server may answer and close before it has read all
                one.sendall(b"POST /embed HTTP/1.1\r\nHost: x\r\n")
                for number in range(200):
                    one.sendall(b"X-%d: %s\r\n" % (number, b"y" * 100_000))
                one.sendall(b"\r\n")
            answer = one.recv(1 << 16)
        statuses[answer.split(b" ", 2)[1].decode() if answer.startswith(b"HTTP/") else "cut"] += 1

    with _repeating(send):
        yield


@contextmanager
def _repeating(send: Callable[[], None]) -> Iterator[None]:
    ended = threading.Event()

    def repeat() -> None:
        while not ended.is_set():
            send()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _ask(port: int, path: str, model: str, texts: list[str], seconds: float) -> list[tuple[int, float]]:
    """Ask for ``seconds``; return status and seconds of each request. A broken connection has the status 0."""
    connection, found, ended = _connect(port), list[tuple[int, float]](), time.monotonic() + seconds
    while time.monotonic() < ended:
        body, began = json.dumps({"model": model, "input": texts[len(found) % len(texts)]}), time.monotonic()
        try:
            connection.request("POST", path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            status = answer.status
        except (OSError, http.client.HTTPException):
            status, connection = 0, _connect(port)
        found.append((status, time.monotonic() - began))
    connection.close()
    return found


def _connect(port: int) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", port, timeout=300)


def _p99(found: list[tuple[int, float]]) -> float:
    return float(np.percentile([seconds for _, seconds in found], 99))
