"""The store seam: a flat space of keys under one root, on a folder or on an S3 service.

Both implementations run the same test module. A write is atomic: a reader sees the whole object or none. Keys are relative
POSIX paths. Listing is recursive and sorted. A store knows nothing of artifacts:
``layout`` and ``manifest`` give keys their meaning.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from clinical_modernbert.errors import StoreError


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object of a listing."""

    key: str
    size_bytes: int


class Store(Protocol):
    """The operations on objects that the platform needs."""

    uri: str

    def read_bytes(self, key: str) -> bytes:
        """Return an object; raises ``KeyError`` where it does not exist."""

    def write_bytes(self, key: str, data: bytes) -> None:
        """Write a whole object, replacing an existing one."""

    def put_file(self, local_path: Path, key: str) -> None:
        """Upload a file."""

    def get_file(self, key: str, local_path: Path) -> Path:
        """Return a local path with the object's content: ``local_path``, or the object itself where it is local."""

    def walk(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield every object below ``prefix``, sorted by key."""

    def names(self, prefix: str) -> list[str]:
        """Return the sorted names one level below the folder ``prefix``.

        Some S3 services still list a folder after its last object was deleted.
        """

    def delete(self, key: str) -> None:
        """Delete an object; no error where it does not exist."""

    def clear(self, prefix: str) -> None:
        """Delete every object below the folder ``prefix``; not atomic, and no error where there is none."""


def join_key(*parts: str) -> str:
    """Join parts of a key; raises ``StoreError`` where the key would leave the root."""
    key = "/".join(part.strip("/") for part in parts if part.strip("/"))
    if any(name in ("..", ".") for name in key.split("/")):
        raise StoreError(f"key {key!r} must not hold '.' or '..'")
    return key
