"""A store in a local or shared folder: temporary file, fsync, rename."""

import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from clinical_modernbert.artifacts.store import ObjectInfo, join_key
from clinical_modernbert.errors import StoreError

_PARTIAL = ".partial-"


class FileStore:
    """Objects are files below one folder; the folder is made on the first write."""

    def __init__(self, root: Path) -> None:
        if not str(root) or root == Path("."):
            raise StoreError("artifact root file:// names no folder; write for example file:///data/artifacts")
        self._root = root.absolute()
        self.uri = f"file://{self._root}"

    def read_bytes(self, key: str) -> bytes:
        try:
            return self._path(key).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise KeyError(key) from None

    def write_bytes(self, key: str, data: bytes) -> None:
        partial = self._partial(key)
        with partial.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(self._path(key))

    def put_file(self, local_path: Path, key: str) -> None:
        partial = self._partial(key)
        with local_path.open("rb") as source, partial.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
            target.flush()
            os.fsync(target.fileno())
        partial.replace(self._path(key))

    def get_file(self, key: str, local_path: Path) -> Path:
        path = self._path(key)
        if not path.is_file():
            raise KeyError(key)
        return path

    def walk(self, prefix: str) -> Iterator[ObjectInfo]:
        top = self._path(prefix)
        found = (path for path in top.rglob("*") if path.is_file() and not path.name.startswith(_PARTIAL))
        for path in sorted(found):
            yield ObjectInfo(key=path.relative_to(self._root).as_posix(), size_bytes=path.stat().st_size)

    def names(self, prefix: str) -> list[str]:
        top = self._path(prefix)
        return sorted(path.name for path in top.iterdir()) if top.is_dir() else []

    def delete(self, key: str) -> None:
        self._path(key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._root / join_key(key)

    def _partial(self, key: str) -> Path:
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot create {path.parent}: {error.strerror}") from None
        return path.parent / f"{_PARTIAL}{uuid.uuid4().hex}"
