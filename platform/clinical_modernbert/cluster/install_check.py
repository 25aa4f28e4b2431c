"""What ``helm test`` asks of an installation from inside: store, token, endpoint, explorer; standard library alone for HTTP.

Each check returns one line that says what it saw, or raises ``ClusterError`` with what would be right.
"""

import json
import math
import urllib.error
import urllib.request
import uuid
from typing import Any

from clinical_modernbert.artifacts.store import Store, join_key
from clinical_modernbert.cluster.access import WORK
from clinical_modernbert.errors import ClusterError

_TIMEOUT_S = 30
_TEXT = "chest pain radiating to the left arm"


def check_store(store: Store) -> str:
    """Write an object, read it back, find it in a listing, delete it."""
    name = f"install-check-{uuid.uuid4().hex}"
    key, content = join_key(WORK, name), uuid.uuid4().bytes
    store.write_bytes(key, content)
    if store.read_bytes(key) != content:
        raise ClusterError(f"{store.uri}/{key}: other bytes came back than were written")
    if name not in store.names(WORK):
        raise ClusterError(f"{store.uri}/{key}: written, and not in the listing of {WORK}/")
    store.delete(key)
    return f"store {store.uri}: written, read, listed, deleted"


def check_token(url: str, token: str | None) -> str:
    """The dashboard of a Ray cluster refuses requests without its token, and takes them with it."""
    status, _ = _request(f"{url}/api/jobs/")
    if status not in (401, 403):
        raise ClusterError(
            f"{url} answers {status} without a token: whoever reaches it runs any code. Set authOptions.mode"
        )
    if token is None:
        return f"research {url}: refuses requests without a token; no token at hand to try"
    status, _ = _request(f"{url}/api/jobs/", headers={"Authorization": f"Bearer {token}"})
    if status != 200:
        raise ClusterError(f"{url} answers {status} with the token of its Secret: the Secret is not the cluster's")
    return f"research {url}: refuses requests without the token, takes them with it"


def check_endpoint(url: str) -> str:
    """The endpoint is ready, and gives the same unit vector twice; one that asks for a key is taken at its word."""
    status, _ = _request(f"{url}/health")
    if status != 200:
        raise ClusterError(f"{url}/health answers {status}: no replica is ready")
    status, models = _request(f"{url}/v1/models")
    if status == 401:
        return f"endpoint {url}: ready, and asks for an API key"
    body = {"model": json.loads(models)["data"][0]["id"], "input": _TEXT}
    first, second = _embedding(url, body), _embedding(url, body)
    length = math.sqrt(sum(number * number for number in first))
    if not math.isclose(length, 1, abs_tol=1e-3) or any(
        not math.isclose(a, b, abs_tol=1e-4) for a, b in zip(first, second, strict=True)
    ):
        raise ClusterError(f"{url}: a vector of length {length:.4f}, or not the same twice")
    return f"endpoint {url}: {len(first)} numbers of unit length, the same twice"


def check_explorer(url: str) -> str:
    """The explorer answers."""
    status, _ = _request(f"{url}/_stcore/health")
    if status != 200:
        raise ClusterError(f"{url}/_stcore/health answers {status}")
    return f"explorer {url}: ready"


def _embedding(url: str, body: dict[str, Any]) -> list[float]:
    status, answer = _request(f"{url}/v1/embeddings", body=body)
    if status != 200:
        raise ClusterError(f"{url}/v1/embeddings answers {status}")
    vector: list[float] = json.loads(answer)["data"][0]["embedding"]
    return vector


def _request(
    url: str, *, headers: dict[str, str] | None = None, body: dict[str, Any] | None = None
) -> tuple[int, bytes]:
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json", **(headers or {})})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
            return int(response.status), response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError as error:
        raise ClusterError(f"{url} does not answer ({type(error).__name__})") from None
