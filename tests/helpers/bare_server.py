"""The endpoint's app on a bare server in a thread, for tests that need no Ray."""

import hashlib
import http.client
import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from clinical_modernbert.recipe import ServeRecipe
from clinical_modernbert.serving.api import build_api
from clinical_modernbert.serving.engine import Engine, load_engine
from clinical_modernbert.serving.forward import EncodeTask
from clinical_modernbert.serving.key_ring import KeyRing
from clinical_modernbert.serving.keys import parse_keys
from clinical_modernbert.serving.service import EmbeddingService
from clinical_modernbert.serving.tracing import Trace, no_trace
from numpy.typing import NDArray

from tests.helpers.ports import free_port

LIMITS = {
    "max_tokens": 64,
    "max_texts": 300,
    "max_body_bytes": 100_000,
    "body_timeout_s": 1,
    "request_timeout_s": 5,
    "max_requests": 12,
}
KEYS = {"full": "k-full-000", "old": "k-old-111", "vectors": "k-vec-222"}


@dataclass(frozen=True, slots=True)
class InterruptedEngine(Engine):
    """The engine of a model, which calls ``before_batch`` in the compute thread first."""

    before_batch: Callable[[], object] = lambda: None

    @classmethod
    def of(cls, engine: Engine, before_batch: Callable[[], object]) -> "InterruptedEngine":
        return cls(**{part.name: getattr(engine, part.name) for part in fields(engine)}, before_batch=before_batch)

    def compute(self, tasks: Sequence[EncodeTask]) -> Sequence[NDArray[np.float32]]:
        self.before_batch()
        return Engine.compute(self, tasks)


class Server:
    """One server in a thread, with the metrics that it recorded; a test may set ``before_batch`` to delay or fail batches."""

    def __init__(
        self,
        root: Path,
        keys: str,
        *,
        model: str = "tiny",
        pooling: str = "cls",
        trace: Trace = no_trace,
        port: int | None = None,
    ) -> None:
        recipe = ServeRecipe.model_validate({"name": "tiny", "model": model, "pooling": pooling, "limits": LIMITS})
        self.records: list[tuple[str, float, dict[str, str]]] = []
        self.before_batch: Callable[[], object] = lambda: None
        self.engine = InterruptedEngine.of(load_engine(str(root), recipe), lambda: self.before_batch())
        self.service = EmbeddingService(self.engine, record=lambda *record: self.records.append(record), trace=trace)
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        app = build_api(self.service, keys=KeyRing(parse_keys(keys, origin="test")))
        self.server = uvicorn.Server(uvicorn.Config(app, port=self.port, log_level="warning"))
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.02)

    def post(
        self, path: str, body: Any, key: str | None = KEYS["full"], headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        status, _, answer = self.ask(path, body, key, headers)
        return status, answer

    def ask(
        self, path: str, body: Any, key: str | None = KEYS["full"], headers: dict[str, str] | None = None
    ) -> tuple[int, http.client.HTTPMessage, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        sent = {
            "Content-Type": "application/json",
            **({"Authorization": f"Bearer {key}"} if key else {}),
            **(headers or {}),
        }
        connection.request("POST", path, body if isinstance(body, bytes) else json.dumps(body).encode(), sent)
        answer = connection.getresponse()
        return answer.status, answer.headers, json.loads(answer.read())

    def get(self, path: str, key: str | None = KEYS["full"]) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", path, headers={"Authorization": f"Bearer {key}"} if key else {})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())

    def close(self) -> None:
        self.server.should_exit = True
        self.thread.join(10)
        self.service.close()

    def offline(self, texts: list[str]) -> np.ndarray:
        encoder = self.engine.encoder
        return encoder.embed(encoder.tokenize(texts), pooling=self.engine.pooling, normalize=True)


def key_lines() -> str:
    """Return a keys file: every scope for all keys but the last."""
    return "\n".join(f"{name} {hashlib.sha256(key.encode()).hexdigest()}" for name, key in KEYS.items()) + " embed"
