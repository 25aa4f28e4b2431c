"""Input files by path or ``s3://bucket/key``: listed in place, and copied to this machine only while they are read.

The store's client does the work, with its retries and errors. Keys and endpoint come from the environment, as for the artifact
store.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from clinical_modernbert.artifacts.open import open_store
from clinical_modernbert.artifacts.store import Store

_SCHEME = "s3://"


def is_remote(path: str) -> bool:
    """Return whether ``path`` is an address in S3."""
    return path.startswith(_SCHEME)


def remote_files(path: str) -> list[tuple[str, str, int]]:
    """Return (name below ``path``, address, size in bytes) of an object, or of all objects below a prefix, sorted by name."""
    bucket, prefix = _bucket_and_key(path)
    store = open_store(f"{_SCHEME}{bucket}")
    found = list(store.walk(prefix))
    if not found:  # the path may be one object
        parent, _, name = prefix.rpartition("/")
        found = [item for item in store.walk(parent) if item.key == prefix]
        return [(name, f"{_SCHEME}{bucket}/{item.key}", item.size_bytes) for item in found]
    cut = len(prefix) + 1 if prefix else 0
    return [(item.key[cut:], f"{_SCHEME}{bucket}/{item.key}", item.size_bytes) for item in found]


@contextmanager
def fetched(location: str, *, companion: str | None = None) -> Iterator[Path]:
    """Hand out a local path of a file; a copy is deleted afterwards.

    The file ``<location><companion>`` comes with it where there is one. Raises ``KeyError`` for an absent object.
    """
    if not is_remote(location):
        yield Path(location)
        return
    with tempfile.TemporaryDirectory() as folder:
        store, key = _store_and_key(location)
        local = store.get_file(key, Path(folder) / Path(key).name)
        if companion is not None:
            with suppress(KeyError):
                store.get_file(f"{key}{companion}", local.with_name(local.name + companion))
        yield local


@lru_cache(maxsize=256)
def local_copy(path: str) -> Path:
    """Return ``path``, or a copy of the object or prefix that it is the address of; for small files that several steps read.

    The process keeps the copy until it ends. An absent object gives a path that does not exist, as for a local file.
    """
    if not is_remote(path):
        return Path(path)
    top = _scratch() / path.removeprefix(_SCHEME)
    for name, address, _ in remote_files(path):
        store, key = _store_and_key(address)
        store.get_file(key, top if name == top.name and address == path else top / name)
    return top


@lru_cache(maxsize=1)
def _scratch() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="inputs-")
    _KEPT.append(folder)
    return Path(folder.name)


_KEPT: list[tempfile.TemporaryDirectory[str]] = []
"""Deleted when the process ends."""


def _bucket_and_key(address: str) -> tuple[str, str]:
    bucket, _, key = address.removeprefix(_SCHEME).partition("/")
    return bucket, key.strip("/")


def _store_and_key(address: str) -> tuple[Store, str]:
    bucket, key = _bucket_and_key(address)
    return open_store(f"{_SCHEME}{bucket}"), key
