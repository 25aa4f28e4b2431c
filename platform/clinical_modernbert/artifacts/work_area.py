"""The work area of a build: files and done-markers in the store, so that any node can go on and a killed build resumes.

A step's result is a small JSON object written after its files; where it exists the step is not run again.
"""

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.artifacts import join_key, open_store
from clinical_modernbert.artifacts.store import Store

StepResult = dict[str, Any]


@dataclass(frozen=True, slots=True)
class WorkArea:
    """A folder of the store by its address, so that it travels to a task as two strings."""

    store_uri: str
    prefix: str

    def store(self) -> Store:
        """Open the store in this process."""
        return open_store(self.store_uri)

    def done(self, step: str) -> StepResult | None:
        """Return the result of a finished step, or None."""
        try:
            return dict(json.loads(self.store().read_bytes(join_key(self.prefix, f"{step}.json"))))
        except KeyError:
            return None

    def once(self, step: str, run: Callable[[], StepResult]) -> StepResult:
        """Return the step's result, running it only where it is not done yet."""
        found = self.done(step)
        if found is not None:
            return found
        result = run()
        self.store().write_bytes(join_key(self.prefix, f"{step}.json"), json.dumps(result).encode())
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

    def clear(self) -> None:
        """Delete everything in the area."""
        self.store().clear(self.prefix)
