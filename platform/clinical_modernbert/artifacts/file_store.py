"""A store in a local or shared folder: temporary file, fsync, rename."""

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from clinical_modernbert.artifacts.store import ObjectInfo, changed, join_key
from clinical_modernbert.errors import StoreError

_PARTIAL = ".partial-"


class FileStore:
    """Objects are files below one folder; the folder is made on the first write."""

    def __init__(self, root: Path) -> None:
        if root == Path():
            raise StoreError(
                "the artifact root names no folder below which to write; write for example file:///data/artifacts"
            )
        self._root = root.absolute()
        self.uri = f"file://{self._root}"

    def read_bytes(self, key: str) -> bytes:
        try:
            return self._path(key).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise KeyError(key) from None
        except OSError as error:
            raise self._refused("reading", key, error) from None

    def info(self, key: str) -> ObjectInfo:
        path = self._path(key)
        if not path.is_file():
            raise KeyError(key)
        return _info(key, path.stat())

    def read_range(self, key: str, first: int, size_bytes: int, *, version: str) -> bytes:
        try:
            with self._path(key).open("rb") as file:
                if _info(key, os.fstat(file.fileno())).version != version:
                    raise changed(self.uri, key)
                file.seek(first)
                return file.read(size_bytes)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise KeyError(key) from None
        except OSError as error:
            raise self._refused("reading", key, error) from None

    def write_bytes(self, key: str, data: bytes) -> None:
        self._write(key, lambda target: target.write(data))

    def put_file(self, local_path: Path, key: str) -> None:
        with local_path.open("rb") as source:
            self._write(key, lambda target: shutil.copyfileobj(source, target, 1 << 20))

    def get_file(self, key: str, local_path: Path) -> Path:
        path = self._path(key)
        if not path.is_file():
            raise KeyError(key)
        return path

    def check_writable(self, key: str) -> None:
        self.write_bytes(key, b"")
        self.delete(key)

    def walk(self, prefix: str) -> Iterator[ObjectInfo]:
        paths = {self._key(path): path for path in self._path(prefix).rglob("*") if not path.name.startswith(_PARTIAL)}
        # Sorted as text, not as paths: `a-b/x` comes before `a/x`, as in S3.
        for key in sorted(paths):
            if paths[key].is_file():
                yield _info(key, paths[key].stat())

    def names(self, prefix: str) -> list[str]:
        top = self._path(prefix)
        paths = top.iterdir() if top.is_dir() else ()
        return sorted(path.name for path in paths if not path.name.startswith(_PARTIAL))

    def delete(self, key: str) -> None:
        path = self._path(key)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise self._refused("deleting", key, error) from None
        # As in S3, a folder exists as long as it holds an object. rmdir itself decides, because other processes may be writing.
        for folder in path.parents:
            if folder == self._root or not _removed(folder):
                break

    def clear(self, prefix: str) -> None:
        for item in list(self.walk(prefix)):
            self.delete(item.key)

    def _write(self, key: str, fill: Callable[[BinaryIO], object]) -> None:
        path = self._path(key)
        partial = path.parent / f"{_PARTIAL}{uuid.uuid4().hex}"
        try:
            with _opened(partial) as target:
                fill(target)
                target.flush()
                os.fsync(target.fileno())
            partial.replace(path)
        except OSError as error:
            raise self._refused("writing", key, error) from None
        finally:
            # After the rename there is nothing to remove; after a failure the half-written file must not stay.
            with suppress(OSError):
                partial.unlink()

    def _path(self, key: str) -> Path:
        return self._root / join_key(key)

    def _key(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()

    def _refused(self, doing: str, key: str, error: OSError) -> StoreError:
        return StoreError(f"{self.uri}: {doing} {key} failed with {error.strerror or type(error).__name__}")


def _info(key: str, stat: os.stat_result) -> ObjectInfo:
    return ObjectInfo(key, stat.st_size, f"{stat.st_mtime_ns}-{stat.st_size}")


def _opened(path: Path) -> BinaryIO:
    """Open for writing; another process that deletes may remove the folder between mkdir and open."""
    for _ in range(3):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return path.open("wb")
        except FileNotFoundError:
            continue
    return path.open("wb")


def _removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:
        return False
    return True
