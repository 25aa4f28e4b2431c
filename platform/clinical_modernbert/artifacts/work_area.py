"""The work area of a build: files and done-markers in the store, so that any node can continue and a killed build resumes.

A step's result is a small frozen dataclass, written as JSON after the step's files. Where it exists, the step does not run
again. The area holds nothing that outlives the build: a published artifact never refers to it.
"""

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from clinical_modernbert.artifacts.open import open_store
from clinical_modernbert.artifacts.store import Store, join_key
from clinical_modernbert.errors import StoreError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class WorkArea:
    """A folder of the store by its address, so that it travels to a task as two strings."""

    store_uri: str
    prefix: str

    def store(self) -> Store:
        """Open the store in this process."""
        return open_store(self.store_uri)

    def done(self, step: str, result_type: type[T]) -> T | None:
        """Return the result of a finished step, or None; raises ``StoreError`` for JSON that is not a ``result_type``."""
        key = join_key(self.prefix, f"{step}.json")
        try:
            text = self.store().read_bytes(key)
        except KeyError:
            return None
        try:
            return from_json(text, result_type)
        except ValueError as error:
            raise StoreError(
                f"{self.store_uri}/{key} is not a result of this version's step ({error}): delete {self.prefix} and build again"
            ) from None

    def once(self, step: str, run: Callable[[], T], result_type: type[T]) -> T:
        """Return the step's result; ``run`` is called only where the step is not done yet."""
        finished = self.done(step, result_type)
        if finished is not None:
            return finished
        result = run()
        self.store().write_bytes(join_key(self.prefix, f"{step}.json"), to_json(result, result_type).encode())
        return result

    def put(self, local_path: Path, name: str) -> None:
        """Keep a file under ``name``."""
        self.store().put_file(local_path, join_key(self.prefix, name))

    def get(self, name: str, folder: Path) -> Path:
        """Return a local path of the file kept under ``name``; ``folder`` takes the download where one is needed."""
        return self.store().get_file(join_key(self.prefix, name), folder / name.replace("/", "_"))

    def put_bytes(self, content: bytes, name: str) -> None:
        """Keep a small file's content under ``name``."""
        self.store().write_bytes(join_key(self.prefix, name), content)

    def put_array(self, array: NDArray[Any], name: str) -> None:
        """Keep an array under ``name``."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "array.npy"
            np.save(path, array, allow_pickle=False)
            self.put(path, name)

    def get_array(self, name: str, folder: Path) -> NDArray[Any]:
        """Return the array kept under ``name``, memory-mapped from ``folder`` or from the store's own file."""
        array: NDArray[Any] = np.load(self.get(name, folder), mmap_mode="r", allow_pickle=False)
        return array

    def put_arrays(self, arrays: Mapping[str, NDArray[Any]], name: str) -> None:
        """Keep several arrays as one file under ``name``."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "arrays.npz"
            np.savez(path, allow_pickle=False, **arrays)
            self.put(path, name)

    def get_arrays(self, name: str, folder: Path) -> dict[str, NDArray[Any]]:
        """Return the arrays kept under ``name``, in memory."""
        with np.load(self.get(name, folder), allow_pickle=False) as arrays:
            return dict(arrays)

    def clear(self) -> None:
        """Delete everything in the area."""
        self.store().clear(self.prefix)


def to_json(result: T, result_type: type[T]) -> str:
    """Return a step's result as JSON, keys in the order of the fields."""
    return json.dumps(TypeAdapter(result_type).dump_python(result, mode="json"))


def from_json(text: str | bytes, result_type: type[T]) -> T:
    """Return the result that ``to_json`` wrote; raises ``ValueError`` for a missing, unknown or wrong field."""
    values = json.loads(text)
    adapter = TypeAdapter(result_type)
    try:
        result = adapter.validate_python(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc'])) or 'result'}: {first['msg']}") from None
    # A dataclass ignores keys that it does not know, at any depth; writing the result again shows them.
    if json.loads(adapter.dump_json(result)) != values:
        raise ValueError(f"other fields than those of {result_type.__name__}")
    return result
