"""The store seam: a flat space of keys under one root, on a folder or on an S3 service.

Both implementations run the same test module. A write is atomic: a reader sees the whole object or none. Keys are relative
POSIX paths. Listing is recursive and sorted. A store knows nothing of artifacts:
``layout`` and ``manifest`` give keys their meaning.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from clinical_modernbert.errors import StoreError


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object: of a listing, or asked for by its key."""

    key: str
    size_bytes: int
    version: str = field(default="", compare=False)
    """Differs once the object's content does: the ETag of S3, the time of the last change in a folder."""


class Store(Protocol):
    """The operations on objects that the platform needs."""

    uri: str

    def read_bytes(self, key: str) -> bytes:
        """Return an object; raises ``KeyError`` where it does not exist."""

    def info(self, key: str) -> ObjectInfo:
        """Return size and version of an object; raises ``KeyError`` where it does not exist."""

    def read_range(self, key: str, first: int, size_bytes: int, *, version: str) -> bytes:
        """Return ``size_bytes`` bytes of an object from byte ``first`` on; the range lies inside of it.

        Raises ``KeyError`` if the object does not exist, ``StoreError`` if its version is not ``version``.
        """

    def write_bytes(self, key: str, data: bytes) -> None:
        """Write a whole object, replacing an existing one."""

    def put_file(self, local_path: Path, key: str) -> None:
        """Upload a file."""

    def get_file(self, key: str, local_path: Path) -> Path:
        """Return a local path with the object's content: ``local_path``, or the object itself where it is local."""

    def check_writable(self, key: str) -> None:
        """Raise ``StoreError`` where the object may not be written; nothing stays, and no right to delete is needed."""

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


def changed(uri: str, key: str) -> StoreError:
    """Return the error for an object that another one replaced while it was read."""
    return StoreError(f"{uri}: {key} changed while it was read; run it again once the object stays as it is")


def join_key(*parts: str) -> str:
    """Join parts of a key; raises ``StoreError`` where the key would leave the root."""
    key = "/".join(part.strip("/") for part in parts if part.strip("/"))
    if any(name in ("..", ".") for name in key.split("/")):
        raise StoreError(f"key {key!r} must not hold '.' or '..'")
    return key
