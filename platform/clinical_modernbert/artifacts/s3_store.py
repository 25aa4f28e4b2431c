"""A store in an S3 bucket through the ``minio`` client; works against any S3 service.

The only module that imports an S3 client. Endpoint and keys come from the environment, so that recipes and manifests never
hold them. A PUT of one object is atomic by S3's own rules.
"""

import io
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

from minio import Minio
from minio.deleteobjects import DeleteObject
from minio.error import MinioException, S3Error
from urllib3.exceptions import HTTPError, MaxRetryError

from clinical_modernbert.artifacts.store import ObjectInfo, join_key
from clinical_modernbert.errors import StoreError

# MinioException: S3 refuses, or the answer is not S3. ValueError: the client refuses a bucket or key.
_FAILURES = (MinioException, HTTPError, ValueError)
_ABSENT = frozenset({"NoSuchKey", "NoSuchObject", "ResourceNotFound"})


class S3Store:
    """Objects below ``s3://bucket/prefix``; the bucket must exist."""

    def __init__(self, client: Minio, *, bucket: str, prefix: str) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = prefix
        self.uri = f"s3://{join_key(bucket, prefix)}"
        try:
            exists = client.bucket_exists(bucket)
        except _FAILURES as error:
            raise self._refused("opening the bucket", "", error) from None
        if not exists:
            raise StoreError(f"{self.uri}: bucket {bucket!r} does not exist at the endpoint; create it first")

    @classmethod
    def from_environment(cls, *, bucket: str, prefix: str) -> "S3Store":
        """Open with ``S3_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY`` and ``AWS_REGION``."""
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
        client = Minio(
            parts.netloc,
            access_key=os.environ.get("AWS_ACCESS_KEY_ID"),
            secret_key=os.environ.get("AWS_SECRET_ACCESS_KEY"),
            session_token=os.environ.get("AWS_SESSION_TOKEN"),
            region=os.environ.get("AWS_REGION", "us-east-1"),
            secure=parts.scheme == "https",
        )
        return cls(client, bucket=bucket, prefix=prefix)

    def read_bytes(self, key: str) -> bytes:
        try:
            with closing(self._client.get_object(self._bucket, self._name(key))) as response:
                return response.read()
        except _FAILURES as error:
            raise self._absent_or_refused("reading", key, error) from None

    def write_bytes(self, key: str, data: bytes) -> None:
        try:
            self._client.put_object(self._bucket, self._name(key), io.BytesIO(data), len(data))
        except _FAILURES as error:
            raise self._refused("writing", key, error) from None

    def put_file(self, local_path: Path, key: str) -> None:
        try:
            self._client.fput_object(self._bucket, self._name(key), str(local_path))
        except _FAILURES as error:
            raise self._refused("writing", key, error) from None

    def get_file(self, key: str, local_path: Path) -> Path:
        local_path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._client.fget_object(self._bucket, self._name(key), str(local_path))
        except _FAILURES as error:
            raise self._absent_or_refused("reading", key, error) from None
        return local_path

    def walk(self, prefix: str) -> Iterator[ObjectInfo]:
        # AWS lists in the order of the names' bytes, other services do not.
        objects = ((self._key(item.object_name), item.size) for item in self._objects(prefix, recursive=True))
        for key, size_bytes in sorted(objects):
            yield ObjectInfo(key=key, size_bytes=size_bytes)

    def names(self, prefix: str) -> list[str]:
        keys = (self._key(item.object_name).rstrip("/") for item in self._objects(prefix, recursive=False))
        return sorted({key.rsplit("/", 1)[-1] for key in keys})

    def delete(self, key: str) -> None:
        try:
            self._client.remove_object(self._bucket, self._name(key))
        except _FAILURES as error:
            raise self._refused("deleting", key, error) from None

    def clear(self, prefix: str) -> None:
        doomed = (DeleteObject(self._name(item.key)) for item in list(self.walk(prefix)))
        try:
            # One request for a thousand objects; the client sends them only while its answers are read.
            for refused in self._client.remove_objects(self._bucket, doomed):
                raise StoreError(f"{self.uri}: deleting {prefix} failed with {refused.code}: {refused.message}")
        except _FAILURES as error:
            raise self._refused("deleting", prefix, error) from None

    def _objects(self, prefix: str, *, recursive: bool):  # type: ignore[no-untyped-def]  # minio ships no types for listings
        name = self._name(prefix)
        try:
            yield from self._client.list_objects(self._bucket, f"{name}/" if name else "", recursive=recursive)
        except _FAILURES as error:
            raise self._refused("listing", prefix, error) from None

    def _name(self, key: str) -> str:
        return join_key(self._prefix, key)

    def _key(self, name: str) -> str:
        return name[len(self._prefix) + 1 :] if self._prefix else name

    def _absent_or_refused(self, doing: str, key: str, error: Exception) -> Exception:
        if isinstance(error, S3Error) and error.code in _ABSENT:
            return KeyError(key)
        return self._refused(doing, key, error)

    def _refused(self, doing: str, key: str, error: Exception) -> StoreError:
        reason = f"{error.code}: {error.message}" if isinstance(error, S3Error) else _in_words(error)
        return StoreError(f"{self.uri}: {doing} {key or 'it'} failed with {reason}")


def _in_words(error: Exception) -> str:
    """Name a failure without its URL, which may carry a signature."""
    cause = error.reason if isinstance(error, MaxRetryError) and error.reason else error
    return f"{type(cause).__name__}: {cause}" if isinstance(cause, ValueError) else type(cause).__name__
