"""A small client of the endpoint that retries: an embedding is a pure function, so a second request changes nothing.

    client = Client("http://127.0.0.1:8000", key="...")
    vectors = client.embed(["chest pain radiating to the left arm"], truncate=True)

It needs only the standard library and numpy. Several threads may share one client.
"""

import base64
import http.client
import json
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

_RETRIED = frozenset({408, 429, 500, 502, 503, 504})
# A server that asks for a longer pause is obeyed up to the first. Longer pauses of the client's own could miss an endpoint that
# is back for half a minute between two deaths.
_MAX_ASKED_WAIT_S, _MAX_OWN_WAIT_S = 30.0, 8.0


_DTYPES = {"float32": "<f4", "float16": "<f2", "int8": "i1", "binary": "u1"}
"""NumPy's names of the types of ``output_dtype``."""


class EndpointError(Exception):
    """The endpoint refused a request, or could not be reached in ``max_attempts``."""

    def __init__(self, message: str, *, status: int | None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        """HTTP status of the last answer; None if the connection failed."""
        self.code = code
        """The endpoint's code for the cause."""


@dataclass(slots=True)
class Attempts:
    """Counts of requests and failures, for drills."""

    num_requests: int = 0
    first_failures: Counter[str] = field(default_factory=Counter)
    """Requests whose first attempt failed, even if a later one succeeded: by HTTP status, or what happened to the connection."""

    @property
    def num_first_failures(self) -> int:
        """Their number."""
        return self.first_failures.total()


@dataclass(frozen=True, slots=True)
class Client:
    """The endpoint at ``url``; every call raises ``EndpointError``."""

    url: str
    """``http://host:port``, followed by the application's route prefix if it has one."""
    key: str | None = field(default=None, repr=False)
    timeout_s: float = 150
    """Seconds that one attempt may take."""
    connect_timeout_s: float = 30
    """Seconds to connect. Packets to a Service without a ready pod may be lost, and the system repeats them ever less often."""
    max_attempts: int = 16
    """With the waits between them, 84 seconds or more: Ray Serve's proxy needs 30 to 60 to start again."""
    attempts: Attempts = field(default_factory=Attempts, compare=False)

    def embed(
        self, texts: Sequence[str], *, model: str | None = None, texts_per_request: int = 64, **options: Any
    ) -> NDArray[Any]:
        """Return vectors [N, D]; ``options`` are the other fields of ``/v1/embeddings``, such as ``truncate``.

        They are float32, or of the ``output_dtype`` that ``options`` name; eight dimensions are one uint8 in ``binary``. Raises
        ``ValueError`` for one string in the place of a list, and for ``empty="null"``: an array has a vector for each text.
        """
        if isinstance(texts, str):
            raise ValueError("texts must be a list of texts, not one string")
        if options.get("empty") == "null":
            raise ValueError("empty='null': leave empty texts out instead, because an array has a vector for each text")
        dtype = _DTYPES.get(options.get("output_dtype") or "float32", "<f4")
        name = model or str(self.info()["model"])
        vectors = []
        for batch in _batches(texts, texts_per_request):
            body = {**options, "model": name, "input": batch, "encoding_format": "base64"}
            answer = self.call("POST", "/v1/embeddings", body)
            vectors += [np.frombuffer(base64.b64decode(item["embedding"]), dtype=dtype) for item in answer["data"]]
        if not vectors:
            raise ValueError("texts must hold at least one text")
        return np.stack(vectors)

    def fill_mask(self, text: str, *, top_k: int = 5) -> Any:
        """Return the most likely tokens at each mask, as ``/fill-mask`` answers."""
        return self.call("POST", "/fill-mask", {"inputs": text, "parameters": {"top_k": top_k}})

    def info(self) -> dict[str, Any]:
        """Return which model is served, and its limits."""
        answer: dict[str, Any] = self.call("GET", "/info")
        return answer

    def call(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:
        """Return the JSON of an answer; retries transient failures and honours ``Retry-After``."""
        data = None if body is None else json.dumps(body).encode()
        self.attempts.num_requests += 1
        for attempt in range(1, self.max_attempts + 1):
            status, retry_after, content = self._send(method, path, data)
            if status == 200:
                return json.loads(content)
            code, message = _reason(content)
            if attempt == 1:
                self.attempts.first_failures[str(status or message)] += 1
            # The endpoint's own time limit: the same request would take as long again, and all others would wait for it.
            final = (status is not None and status not in _RETRIED) or code == "request_timeout"
            if final or attempt == self.max_attempts:
                raise EndpointError(f"{method} {path}: {message} (attempt {attempt})", status=status, code=code)
            time.sleep(_wait_s(attempt, retry_after))
        raise ValueError(f"max_attempts must be at least 1, got {self.max_attempts}")

    def _send(self, method: str, path: str, data: bytes | None) -> tuple[int | None, str | None, bytes]:
        """Return status, ``Retry-After`` and body; the status is None if the connection failed."""
        parts = urlsplit(self.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        connection = kind(parts.netloc, timeout=self.connect_timeout_s)
        doing = "connecting"
        try:
            connection.connect()
            doing = "waiting for an answer"
            connection.sock.settimeout(self.timeout_s)
            connection.request(method, parts.path.rstrip("/") + path, data, headers)
            answer = connection.getresponse()
            if answer.length is None and not answer.chunked:  # its headers were cut: it would pass for an empty one
                raise http.client.IncompleteRead(b"")
            return answer.status, answer.getheader("Retry-After"), answer.read()
        except (OSError, http.client.HTTPException) as error:
            message = f"{type(error).__name__} while {doing}"
            return None, None, json.dumps({"error": {"code": None, "message": message}}).encode()
        finally:
            connection.close()


def _batches(texts: Sequence[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(texts), size):
        yield list(texts[start : start + size])


def _wait_s(attempt: int, retry_after: str | None) -> float:
    requested = float(retry_after) if retry_after and retry_after.isdigit() else 0.0
    own = min(0.1 * 2**attempt, _MAX_OWN_WAIT_S)
    # Jitter: clients that failed together must not retry together, also where all were asked for the longest pause.
    return max(min(requested, _MAX_ASKED_WAIT_S), own) * random.uniform(1.0, 1.5)


def _reason(content: bytes) -> tuple[str | None, str]:
    try:
        error = json.loads(content)["error"]
        return error["code"], str(error["message"])
    except (ValueError, KeyError, TypeError):
        return None, "an answer without a reason: not from this endpoint itself"
