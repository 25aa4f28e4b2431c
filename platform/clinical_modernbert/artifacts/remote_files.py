"""Input files by path or ``s3://bucket/key``: listed in place, and read in ranges, without a copy on this machine.

The store's client does the work, with its retries and errors: if a connection breaks, the range is requested again. Keys and
endpoint come from the environment, as for the artifact store. ``fetched`` and ``local_copy`` do copy, for libraries that open
files themselves and for small files.
"""

import errno
import io
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO

from clinical_modernbert.artifacts.open import open_store
from clinical_modernbert.artifacts.store import ObjectInfo, Store

_SCHEME = "s3://"
# A file of PubMed has 35 MB: two requests. A reader holds one range at a time.
_FIRST_BYTES = 8 << 20
_MOST_BYTES = 32 << 20
_LEAST_BYTES = 1 << 16
_GROWTH = 4
_FEW = 8


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


def remote_infos(addresses: Sequence[str]) -> dict[str, ObjectInfo]:
    """Return what the store says of each address: one request for a thousand of them where there are many.

    Raises ``FileNotFoundError`` for an absent object.
    """
    infos: dict[str, ObjectInfo] = {}
    if len(addresses) > _FEW:
        folders = sorted({address.rpartition("/")[0] for address in addresses})
        tops = [top for n, top in enumerate(folders) if not n or not f"{top}/".startswith(f"{folders[n - 1]}/")]
        for top in tops:
            bucket, prefix = _bucket_and_key(top)
            infos |= {f"{_SCHEME}{bucket}/{item.key}": item for item in open_store(f"{_SCHEME}{bucket}").walk(prefix)}
    return {address: infos.get(address) or _info(address) for address in addresses}


def _info(address: str) -> ObjectInfo:
    store, key = _store_and_key(address)
    try:
        return store.info(key)
    except KeyError:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), address) from None


def open_location(location: str | Path) -> IO[bytes]:
    """Open a file for reading, also from any position on; one in S3 is read in ranges of at most 32 MiB.

    Raises ``FileNotFoundError`` where there is none; reading raises ``StoreError`` where the store refuses, or the object is
    replaced meanwhile.
    """
    if isinstance(location, Path) or not is_remote(location):
        return Path(location).open("rb")
    store, key = _store_and_key(location)
    return io.BufferedReader(_RemoteFile(store, key, _info(location)), _LEAST_BYTES)


def read_small(location: str) -> bytes | None:
    """Return the content of a small file by one request, None where there is none."""
    try:
        if not is_remote(location):
            return Path(location).read_bytes()
        store, key = _store_and_key(location)
        return store.read_bytes(key)
    except (KeyError, FileNotFoundError, IsADirectoryError):
        return None


class _RemoteFile(io.RawIOBase):
    """An object as a file; holds the last range that was read.

    Ranges grow while the file is read in order. After a jump the range is only a little larger than the request, because a reader
    of Parquet jumps from column to column.
    """

    def __init__(self, store: Store, key: str, info: ObjectInfo) -> None:
        self._store, self._key, self._info = store, key, info
        self._position = self._first = 0
        self._data = b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._info.size_bytes}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, target: memoryview) -> int:  # type: ignore[override]
        wanted = min(len(target), self._info.size_bytes - self._position)
        if wanted <= 0:
            return 0
        at = self._position - self._first
        if not 0 <= at < len(self._data):
            self._fetch(wanted)
            at = 0
        part = self._data[at : at + wanted]
        target[: len(part)] = part
        self._position += len(part)
        return len(part)

    def _fetch(self, wanted: int) -> None:
        last, end = len(self._data), self._first + len(self._data)
        if self._position == 0 and not last:
            size = _FIRST_BYTES
        else:
            size = last * _GROWTH if self._position == end else wanted + _LEAST_BYTES
        size = min(max(size, wanted, _LEAST_BYTES), max(wanted, _MOST_BYTES), self._info.size_bytes - self._position)
        self._data = b""  # released before the next range arrives
        self._data = self._store.read_range(self._key, self._position, size, version=self._info.version)
        self._first = self._position


@contextmanager
def fetched(location: str) -> Iterator[Path]:
    """Hand out a local path of a file, for a library that opens it itself; a copy is deleted afterwards.

    Raises ``FileNotFoundError`` for an absent object.
    """
    if not is_remote(location):
        yield Path(location)
        return
    with tempfile.TemporaryDirectory() as folder:
        store, key = _store_and_key(location)
        try:
            local = store.get_file(key, Path(folder) / Path(key).name)
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), location) from None
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


def local_folder(folder: str, names: Iterable[str]) -> Path:
    """Return ``folder``, or that of the copies of ``names`` below the address ``folder``; an absent one has no copy."""
    if not is_remote(folder):
        return Path(folder)
    for name in names:
        if not name.startswith("/"):
            local_copy(f"{folder.rstrip('/')}/{PurePosixPath(name)}")
    return _scratch() / folder.removeprefix(_SCHEME)


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
