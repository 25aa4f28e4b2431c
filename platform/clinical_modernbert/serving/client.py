"""A small client of the endpoint with safe retry: an embedding is a pure function, so asking again changes nothing.

Standard library and numpy only; it imports neither torch nor ray. One client may be used by several threads.
"""

import base64
import http.client
import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

_RETRIED = frozenset({408, 429, 500, 502, 503, 504})
_MAX_WAIT_S = 30.0


class EndpointError(Exception):
    """The endpoint refused, or could not be reached within the allowed attempts."""

    def __init__(self, message: str, *, status: int | None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        """HTTP status of the last answer; None where there was none."""
        self.code = code
        """The endpoint's own word for the cause."""


@dataclass(slots=True)
class Attempts:
    """What the client met; read it after a drill."""

    num_requests: int = 0
    num_first_failures: int = 0
    """Requests whose first attempt failed, whether or not a later one succeeded."""


@dataclass(frozen=True, slots=True)
class Client:
    """The endpoint at ``url``; every call raises ``EndpointError``."""

    url: str
    """``http://host:port``, with a path where the application lives below one."""
    key: str | None = field(default=None, repr=False)
    timeout_s: float = 150
    """Of one attempt."""
    max_attempts: int = 6
    attempts: Attempts = field(default_factory=Attempts, compare=False)

    def embed(
        self, texts: Sequence[str], *, model: str | None = None, texts_per_request: int = 64, **options: Any
    ) -> NDArray[np.float32]:
        """Return vectors float32 [N, D]; ``options`` are the other fields of ``/v1/embeddings``, such as ``truncate``."""
        name = model or str(self.info()["model"])
        vectors = []
        for part in _parts(texts, texts_per_request):
            body = {**options, "model": name, "input": part, "encoding_format": "base64"}
            answer = self.call("POST", "/v1/embeddings", body)
            vectors += [np.frombuffer(base64.b64decode(item["embedding"]), dtype="<f4") for item in answer["data"]]
        if not vectors:
            raise ValueError("texts must hold at least one text")
        return np.stack(vectors).astype(np.float32, copy=False)

    def fill_mask(self, text: str, *, top_k: int = 5) -> Any:
        """Return the likeliest tokens at each mask, as ``/fill-mask`` answers."""
        return self.call("POST", "/fill-mask", {"inputs": text, "parameters": {"top_k": top_k}})

    def info(self) -> dict[str, Any]:
        """Return which model is served and its limits."""
        found: dict[str, Any] = self.call("GET", "/info")
        return found

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Return one answer's JSON; asks again where the failure may pass, and waits as ``Retry-After`` says."""
        data = None if body is None else json.dumps(body).encode()
        self.attempts.num_requests += 1
        for attempt in range(1, self.max_attempts + 1):
            status, retry_after, content = self._ask(method, path, data)
            if status == 200:
                return json.loads(content)
            self.attempts.num_first_failures += attempt == 1
            if attempt == self.max_attempts or (status is not None and status not in _RETRIED):
                code, message = _reason(content)
                raise EndpointError(f"{method} {path}: {message} (attempt {attempt})", status=status, code=code)
            time.sleep(_wait_s(attempt, retry_after))
        raise ValueError(f"max_attempts must be at least 1, got {self.max_attempts}")

    def _ask(self, method: str, path: str, data: bytes | None) -> tuple[int | None, str | None, bytes]:
        """Return status, ``Retry-After`` and body; no status where the connection broke."""
        parts = urlsplit(self.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        connection = kind(parts.netloc, timeout=self.timeout_s)
        try:
            connection.request(method, parts.path.rstrip("/") + path, data, headers)
            answer = connection.getresponse()
            return answer.status, answer.getheader("Retry-After"), answer.read()
        except (OSError, http.client.HTTPException) as error:
            return None, None, json.dumps({"error": {"code": None, "message": type(error).__name__}}).encode()
        finally:
            connection.close()


def _parts(texts: Sequence[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(texts), size):
        yield list(texts[start : start + size])


def _wait_s(attempt: int, retry_after: str | None) -> float:
    asked = float(retry_after) if retry_after and retry_after.isdigit() else 0.0
    # Jitter: clients that failed together must not come back together.
    return min(max(asked, 0.1 * 2**attempt) * random.uniform(1.0, 1.5), _MAX_WAIT_S)


def _reason(content: bytes) -> tuple[str | None, str]:
    try:
        error = json.loads(content)["error"]
        return error["code"], str(error["message"])
    except (ValueError, KeyError, TypeError):
        return None, "an answer without a reason: not from this endpoint itself"
