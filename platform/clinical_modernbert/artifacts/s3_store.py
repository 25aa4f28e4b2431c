"""A store in an S3 bucket through the ``minio`` client; works against any S3 service.

The only module that imports an S3 client. Endpoint and keys come from the environment, so that recipes and manifests never
hold them. A PUT of one object is atomic by S3's own rules.
"""

import functools
import io
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import certifi
from minio import Minio
from minio.credentials import IamAwsProvider
from minio.datatypes import Object
from minio.deleteobjects import DeleteObject
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from urllib3 import BaseHTTPResponse, PoolManager, Retry, Timeout
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    MaxRetryError,
    NewConnectionError,
    ProtocolError,
    SSLError,
)

from clinical_modernbert.artifacts.store import ObjectInfo, changed, join_key
from clinical_modernbert.errors import StoreError, StoreOutage, StoreUnreached
from clinical_modernbert.outages import patiently

# MinioException: S3 refuses, or the answer is not S3. ValueError: the client refuses a bucket or key.
_FAILURES = (MinioException, HTTPError, ValueError)
_PASSING_STATUSES = (500, 502, 503, 504)
_PASSING = frozenset({"InternalError", "RequestTimeout", "ServiceUnavailable", "SlowDown"})
_ABSENT = frozenset({"NoSuchKey", "NoSuchObject", "ResourceNotFound"})
_CHANGED = "PreconditionFailed"
_CUT = "the headers of an answer were cut"

# A service that restarts, or moves to another node, is away for about a minute. The client's own waits for a connection or for
# the next bytes must be shorter than the patience, or a stalled request would never be sent again.
PATIENCE_S = 90.0
OPENING_PATIENCE_S = 10.0  # less where nothing accepts a connection, because the address may be wrong
CONNECT_S = 10.0
READ_S = 30.0
_CONNECTIONS = 128  # as many as the explorer has readers: each one beyond these is opened anew for a request
_COPY_BYTES = 1 << 20

T = TypeVar("T")


class S3Store:
    """Objects below ``s3://bucket/prefix``; the bucket must exist."""

    def __init__(self, client: Minio, *, bucket: str, prefix: str) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = prefix
        self.uri = f"s3://{join_key(bucket, prefix)}"
        try:
            self._try("opening the bucket", "", lambda: _find_bucket(client, bucket), patience_s=_opening_patience_s)
        except KeyError:
            raise StoreError(f"{self.uri}: bucket {bucket!r} does not exist at the endpoint; create it first") from None

    @classmethod
    def from_environment(cls, *, bucket: str, prefix: str) -> "S3Store":
        """Open with ``S3_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY`` and ``AWS_REGION``.

        Without keys the identity of the workload is used if the platform gives one: a token that its STS exchanges
        (``AWS_WEB_IDENTITY_TOKEN_FILE``, ``AWS_ROLE_ARN``, ``AWS_ENDPOINT_URL_STS``), or an agent that hands out keys
        (``AWS_CONTAINER_CREDENTIALS_FULL_URI``). Such keys are renewed before they expire.
        """
        if not bucket:
            raise StoreError("s3:// names no bucket; write s3://bucket/prefix")
        endpoint = os.environ.get("S3_ENDPOINT_URL")
        if not endpoint:
            raise StoreError(
                "S3_ENDPOINT_URL is not set; set it to the service's URL, for example https://s3.example.org"
            )
        parts = urlsplit(endpoint)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise StoreError(f"S3_ENDPOINT_URL={endpoint!r} must be an http:// or https:// URL")
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
        keys = tuple(os.environ.get(name) for name in names)
        region = os.environ.get("AWS_REGION", "us-east-1")
        return cls(_client(parts.scheme, parts.netloc, keys, region), bucket=bucket, prefix=prefix)

    def read_bytes(self, key: str) -> bytes:
        def read() -> bytes:
            with closing(self._client.get_object(self._bucket, self._name(key))) as response:
                return response.read()

        return self._try("reading", key, read)

    def info(self, key: str) -> ObjectInfo:
        def read() -> ObjectInfo:
            found = self._client.stat_object(self._bucket, self._name(key))
            if found.size is None or not found.etag:
                raise ProtocolError(_CUT)
            return ObjectInfo(key, found.size, found.etag)

        return self._try("reading", key, read)

    def read_range(self, key: str, first: int, size_bytes: int, *, version: str) -> bytes:
        def read() -> bytes:
            response = self._client.get_object(
                self._bucket, self._name(key), first, size_bytes, request_headers={"If-Match": f'"{version}"'}
            )
            with closing(response):
                if not (etag := response.headers.get("etag", "").strip('"')):
                    raise ProtocolError(_CUT)
                if etag != version:  # a service may ignore the condition
                    raise changed(self.uri, key)
                data = response.read()
            if len(data) != size_bytes:
                raise ProtocolError(f"{len(data)} of {size_bytes} bytes")
            return data

        return self._try("reading", key, read)

    def write_bytes(self, key: str, data: bytes) -> None:
        self._try(
            "writing",
            key,
            lambda: self._client.put_object(self._bucket, self._name(key), io.BytesIO(data), len(data)),
        )

    def put_file(self, local_path: Path, key: str) -> None:
        self._try("writing", key, lambda: self._client.fput_object(self._bucket, self._name(key), str(local_path)))

    def get_file(self, key: str, local_path: Path) -> Path:
        def download() -> None:
            with closing(self._client.get_object(self._bucket, self._name(key))) as response:
                local_path.parent.mkdir(parents=True, exist_ok=True)
                with local_path.open("wb") as file:
                    shutil.copyfileobj(response, file, _COPY_BYTES)

        try:
            self._try("reading", key, download)
        except (StoreError, OSError):
            local_path.unlink(missing_ok=True)
            raise
        return local_path

    def check_writable(self, key: str) -> None:
        # Keys that may write an artifact may not delete it. An upload in parts needs the right to write, and has no object before
        # its end; the client begins one only for a large object, so by a method of its own.
        def begin_and_abort() -> None:
            upload = self._client._create_multipart_upload(self._bucket, self._name(key), {})
            with suppress(S3Error):  # keys may lack this right of its own; an upload without parts takes no room
                self._client._abort_multipart_upload(self._bucket, self._name(key), upload)

        self._try("writing", key, begin_and_abort)

    def walk(self, prefix: str) -> Iterator[ObjectInfo]:
        # AWS lists in the order of the names' bytes, other services do not.
        objects = self._objects(prefix, recursive=True)
        for key, size, etag in sorted((self._key(item.object_name), item.size, item.etag or "") for item in objects):
            yield ObjectInfo(key, size, etag)

    def names(self, prefix: str) -> list[str]:
        keys = (self._key(item.object_name).rstrip("/") for item in self._objects(prefix, recursive=False))
        return sorted({key.rsplit("/", 1)[-1] for key in keys})

    def delete(self, key: str) -> None:
        self._try("deleting", key, lambda: self._client.remove_object(self._bucket, self._name(key)))

    def clear(self, prefix: str) -> None:
        def clear() -> None:
            doomed = (DeleteObject(self._name(item.key)) for item in list(self.walk(prefix)))
            # One request for a thousand objects; the client sends them only while its answers are read.
            for refused in self._client.remove_objects(self._bucket, doomed):
                raise StoreError(f"{self.uri}: deleting {prefix} failed with {refused.code}: {refused.message}")

        self._try("deleting", prefix, clear)

    def _objects(self, prefix: str, *, recursive: bool) -> list[Object]:
        name = self._name(prefix)
        return self._try(
            "listing",
            prefix,
            lambda: [*self._client.list_objects(self._bucket, f"{name}/" if name else "", recursive=recursive)],
        )

    def _try(
        self, doing: str, key: str, do: Callable[[], T], *, patience_s: Callable[[StoreError], float] | None = None
    ) -> T:
        """Return ``do()``, tried again while the service does not answer; ``do`` may run more than once.

        Raises ``KeyError`` for an absent object, ``StoreOutage`` after ``patience_s`` seconds, else ``StoreError``.
        """

        def once() -> T:
            try:
                return do()
            except _FAILURES as error:
                if isinstance(error, S3Error) and error.code in _ABSENT:
                    raise KeyError(key) from None
                if isinstance(error, S3Error) and error.code == _CHANGED:
                    raise changed(self.uri, key) from None
                raise self._refused(doing, key, error) from None

        return patiently(
            once, work=f"{doing} {key}".strip(), patience_s=patience_s or PATIENCE_S, error_type=StoreOutage
        )

    def _name(self, key: str) -> str:
        return join_key(self._prefix, key)

    def _key(self, name: str) -> str:
        return name[len(self._prefix) + 1 :] if self._prefix else name

    def _refused(self, doing: str, key: str, error: Exception) -> StoreError:
        reason = f"{error.code}: {error.message}" if isinstance(error, S3Error) else _in_words(error)
        error_type = StoreUnreached if _is_unreached(error) else StoreOutage if _passes(error) else StoreError
        return error_type(f"{self.uri}: {f'{doing} {key}'.strip()} failed with {reason}")


class _WholeAnswers(PoolManager):
    """Connections that refuse an answer whose headers were cut, which would pass for one without a body."""

    def urlopen(self, method: str, url: str, redirect: bool = True, **settings: Any) -> BaseHTTPResponse:  # type: ignore[override]
        answer = super().urlopen(method, url, redirect, **settings)
        has_length = "Content-Length" in answer.headers or "Transfer-Encoding" in answer.headers
        if answer.status in (200, 206) and not (has_length if method == "GET" else answer.headers):
            answer.close()
            raise ProtocolError(_CUT)
        return answer


@functools.cache
def _client(scheme: str, host: str, keys: tuple[str | None, ...], region: str) -> Minio:
    """Return the process' client for these keys; its connections are shared by all stores and threads."""
    pool = _WholeAnswers(
        maxsize=_CONNECTIONS,
        timeout=Timeout(connect=CONNECT_S, read=READ_S),
        retries=Retry(2, read=0, backoff_factor=0.2, status_forcelist=_PASSING_STATUSES),
        cert_reqs="CERT_REQUIRED",
        ca_certs=os.environ.get("SSL_CERT_FILE") or certifi.where(),
    )
    access_key, secret_key, session_token = keys
    return Minio(
        host,
        access_key=access_key,
        secret_key=secret_key,
        session_token=session_token,
        credentials=None if access_key else _workload_identity(),
        region=region,
        secure=scheme == "https",
        http_client=pool,
    )


@functools.cache
def _find_bucket(client: Minio, bucket: str) -> None:
    """Raise ``KeyError`` unless the bucket exists: one request a process."""
    if not client.bucket_exists(bucket):
        raise KeyError(bucket)


def _opening_patience_s(error: StoreError) -> float:
    return OPENING_PATIENCE_S if isinstance(error, StoreUnreached) else PATIENCE_S


def _is_unreached(error: Exception) -> bool:
    cause = error.reason if isinstance(error, MaxRetryError) else error
    return isinstance(cause, NewConnectionError | ConnectTimeoutError | SSLError)


def _passes(error: Exception) -> bool:
    """Whether the same request may succeed later: no answer, half an answer, or an answer of a service in trouble."""
    if isinstance(error, S3Error):
        return error.code in _PASSING or getattr(error.response, "status", 0) in _PASSING_STATUSES
    # ServerError and InvalidResponseError: a proxy answers in the place of the service.
    return isinstance(error, HTTPError | ServerError | InvalidResponseError)


def _in_words(error: Exception) -> str:
    """Name a failure without its URL, which may carry a signature."""
    cause = error.reason if isinstance(error, MaxRetryError) and error.reason else error
    return f"{type(cause).__name__}: {cause}" if isinstance(cause, ValueError) else type(cause).__name__


def _workload_identity() -> IamAwsProvider | None:
    """Return the provider of short-lived keys, None if the platform gives no identity."""
    variables = ("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI")
    if not any(os.environ.get(name) for name in variables):
        return None
    return IamAwsProvider(custom_endpoint=os.environ.get("AWS_ENDPOINT_URL_STS"))
