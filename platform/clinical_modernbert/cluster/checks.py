"""Checks of an installation from inside: ``helm test`` runs the first five, ``jobs/check_store.py`` checks the keys of a role.

Each of the five returns one line with what it saw, or raises ``ClusterError`` with what would be right. HTTP is the standard
library's. ``check_access`` tries each right in each folder with objects of random names. It leaves only the objects that the role
may not delete: a few bytes each, under ``<kind>/access-check-*``. Not covered: rights that depend on something other than
the folder.
"""

import json
import math
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from clinical_modernbert.artifacts import resolve
from clinical_modernbert.artifacts.layout import KINDS
from clinical_modernbert.artifacts.store import Store, join_key
from clinical_modernbert.cluster.access import CHECKPOINT, HUB, LISTS, WORK, Role, rights
from clinical_modernbert.errors import ArtifactError, ClusterError, StoreError

FOLDERS = (*KINDS, CHECKPOINT, WORK, HUB, LISTS)

_TIMEOUT_S = 30
_TEXT = "chest pain radiating to the left arm"
_CONTENT = b"access check\n"


def check_store(store: Store) -> str:
    """Write an object, read it back, find it in a listing, and delete it."""
    name = f"install-check-{uuid.uuid4().hex}"
    key, content = join_key(WORK, name), uuid.uuid4().bytes
    store.write_bytes(key, content)
    if store.read_bytes(key) != content:
        raise ClusterError(f"{store.uri}/{key}: the bytes read differ from the bytes written")
    if name not in store.names(WORK):
        raise ClusterError(f"{store.uri}/{key}: written, but missing in the listing of {WORK}/")
    store.delete(key)
    return f"store {store.uri}: written, read, listed, deleted"


def check_token(url: str, token: str | None) -> str:
    """Check that the dashboard of a Ray cluster refuses requests without its token and accepts them with it."""
    status, _ = _request(f"{url}/api/jobs/")
    if status not in (401, 403):
        raise ClusterError(
            f"{url} answers {status} without a token: anyone who can reach it can run code. Set authOptions.mode"
        )
    if token is None:
        return f"research {url}: refuses requests without a token; not tried with one, since RAY_AUTH_TOKEN is not set"
    status, _ = _request(f"{url}/api/jobs/", headers=_bearer(token))
    if status != 200:
        raise ClusterError(
            f"{url} answers {status} with the token of the Secret: the Secret belongs to another cluster"
        )
    return f"research {url}: refuses requests without the token, accepts them with it"


def check_endpoint(url: str, *, model: str | None = None, key: str | None = None) -> str:
    """Check that the endpoint is ready, serves ``model`` and returns the same unit vector twice.

    An endpoint with API keys is only checked to be ready and to need one, unless ``key`` is one of them. ``model`` is a
    reference: a name, with or without a fingerprint. A failed upgrade leaves the old model in place, and an endpoint that
    answers is not proof of the new one.
    """
    status, _ = _request(f"{url}/health")
    if status != 200:
        raise ClusterError(f"{url}/health answers {status}: no replica is ready")
    status, models = _request(f"{url}/v1/models", headers=_bearer(key))
    if status == 401 and key:
        raise ClusterError(
            f"{url}/v1/models answers 401: the key of explorer.endpointKey is not one of endpoint.apiKeys"
        )
    if status == 401:
        return f"endpoint {url}: ready, needs an API key"
    if status != 200:
        raise ClusterError(f"{url}/v1/models answers {status}")
    served = [str(entry["id"]) for entry in json.loads(models)["data"]]
    if model and not any(_is_of(reference=model, artifact=name) for name in served):
        raise ClusterError(
            f"{url} serves {', '.join(served)}, and the values name {model!r}: the RayService's status says why"
        )
    body = {"model": served[0], "input": _TEXT}
    first, second = _embedding(url, body, key), _embedding(url, body, key)
    length = math.sqrt(sum(number * number for number in first))
    if not math.isclose(length, 1, abs_tol=1e-3) or any(
        not math.isclose(a, b, abs_tol=1e-4) for a, b in zip(first, second, strict=True)
    ):
        raise ClusterError(f"{url}: a vector of length {length:.4f} (1 is needed), or two answers that differ")
    return f"endpoint {url}: {len(first)} numbers of unit length, the same twice"


def check_model(store: Store, model: str) -> str:
    """Check that the store has the model that the endpoint is to serve: without it the endpoint waits."""
    try:
        return f"model {resolve(store, 'model', model).uri}: finished"
    except ArtifactError as error:
        raise ClusterError(f"the endpoint waits, and starts when its model is there: {error}") from None


def _is_of(*, reference: str, artifact: str) -> bool:
    """Whether a name, a name with (the start of) a fingerprint, or a URI can mean the artifact ``<name>-<fingerprint>``."""
    last = reference.rstrip("/").rpartition("/")[2]
    return artifact == last or artifact.startswith(last if "-" in last else f"{last}-")


def check_explorer(url: str) -> str:
    """Check that the explorer answers."""
    status, _ = _request(f"{url}/_stcore/health")
    if status != 200:
        raise ClusterError(f"{url}/_stcore/health answers {status}")
    return f"explorer {url}: ready"


@dataclass(frozen=True, slots=True)
class Finding:
    """One right in one folder: whether the role needs it, and whether the store allowed it."""

    folder: str
    right: str
    needed: bool
    allowed: bool

    @property
    def ok(self) -> bool:
        return self.needed == self.allowed

    def __str__(self) -> str:
        words = {True: "allowed", False: "refused"}
        verdict = "ok" if self.ok else f"WRONG, should be {words[self.needed]}"
        return f"{self.folder:<11} {self.right:<7} {words[self.allowed]:<8} {verdict}"


def check_access(store: Store, role: Role) -> list[Finding]:
    """Return what the keys of the environment may do in each folder of ``store``, compared with what ``role`` may do."""
    allowed = rights(role)
    findings = []
    for folder in FOLDERS:
        key = join_key(folder, f"access-check-{uuid.uuid4().hex}")
        # In this order: the object that was written is the one that is read and deleted.
        tries = {
            "write": lambda key=key: store.write_bytes(key, _CONTENT),
            "read": lambda key=key: _read(store, key),
            "delete": lambda key=key: store.delete(key),
        }
        granted = allowed.get(folder, frozenset())
        findings += [Finding(folder, right, right in granted, _allowed(attempt)) for right, attempt in tries.items()]
    return findings


def _bearer(key: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}


def _embedding(url: str, body: Mapping[str, object], key: str | None) -> list[float]:
    status, answer = _request(f"{url}/v1/embeddings", headers=_bearer(key), body=body)
    if status != 200:
        raise ClusterError(f"{url}/v1/embeddings answers {status}")
    vector: list[float] = json.loads(answer)["data"][0]["embedding"]
    return vector


def _request(
    url: str, *, headers: dict[str, str] | None = None, body: Mapping[str, object] | None = None
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


def _read(store: Store, key: str) -> None:
    """Read ``key``; an absent key counts as read, because an S3 service says "absent" only to keys with the right to read."""
    try:
        store.read_bytes(key)
    except KeyError:
        return


def _allowed(attempt: Callable[[], None]) -> bool:
    try:
        attempt()
    except StoreError as error:
        if "AccessDenied" not in str(error):
            raise
        return False
    return True
