"""Resumable state in the store: every worker uploads its part, rank 0 writes the manifest last.

A checkpoint has a folder of its own that is never reused, so that a torn upload can't mix with a whole one. On resume the
newest checkpoint whose every file matches its manifest is taken, before anything in it is read.
"""

import json
import logging
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist

from clinical_modernbert.artifacts import (
    Artifact,
    FileEntry,
    Store,
    artifact_at,
    join_key,
    upload_folder,
    write_manifest,
)
from clinical_modernbert.artifacts.layout import MANIFEST_NAME, checkpoint_prefix, checkpoints_prefix
from clinical_modernbert.errors import ArtifactError, ModelError
from clinical_modernbert.recipe.pretrain import TrainScaling
from clinical_modernbert.training.engine import Engine

_FORMAT_VERSION = 1
_HISTORY = "history.json"

_logger = logging.getLogger(__name__)

History = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The checkpoints of one run, as one worker sees them."""

    store: Store
    run_id: str
    rank: int
    world_size: int
    scaling: TrainScaling
    precision: str
    keep: int

    def save(self, engine: Engine, *, step: int, history: History) -> None:
        """Write the state after ``step`` steps; every worker calls it. Older checkpoints beyond ``keep`` go afterwards."""
        unique = self._from_first(uuid.uuid4().hex[:8])
        prefix = checkpoint_prefix(self.run_id, step=step, unique=unique)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            engine.save(folder)
            if self.rank == 0:
                (folder / _HISTORY).write_text(json.dumps(history), encoding="utf-8")
            entries = upload_folder(self.store, prefix, folder)
        parts = self._gather([entry.model_dump() for entry in entries])
        if self.rank == 0:
            write_manifest(
                self.store,
                prefix,
                kind="checkpoint",
                artifact_id=f"{self.run_id}/{step}",
                fingerprint=self.run_id.rpartition("-")[2],
                format_version=_FORMAT_VERSION,
                recipe={},
                inputs=(),
                summary={"step": step, **self._shape()},
                files=[FileEntry.model_validate(entry) for part in parts for entry in part],
            )
            self._retire()
        self._barrier()

    def restore(self, engine: Engine) -> tuple[int, History]:
        """Load the newest whole checkpoint and return (steps done, history); (0, []) where there is none."""
        name = self._from_first(self._newest() if self.rank == 0 else None)
        if name is None:
            return 0, []
        found = artifact_at(self.store, join_key(checkpoints_prefix(self.run_id), name))
        assert found is not None, name
        with tempfile.TemporaryDirectory() as cache:
            folder = found.folder(cache_path=Path(cache))
            engine.load(folder)
            history: History = json.loads((folder / _HISTORY).read_text(encoding="utf-8"))
        return int(found.summary["step"]), history

    def _newest(self) -> str | None:
        for name in reversed(self._names()):
            try:
                found = artifact_at(self.store, join_key(checkpoints_prefix(self.run_id), name))
                if found is None:
                    continue  # never finished
                with tempfile.TemporaryDirectory() as cache:
                    found.folder(cache_path=Path(cache))
            except ArtifactError as error:
                _logger.warning("checkpoint %s is passed over: %s", name, error)
                continue
            self._refuse_other_shape(found)
            return name
        return None

    def _shape(self) -> dict[str, Any]:
        return {
            "engine": self.scaling.engine,
            "zero_stage": self.scaling.zero_stage,
            "num_workers": self.world_size,
            "precision": self.precision,
        }

    def _refuse_other_shape(self, found: Artifact) -> None:
        """The torch engine's state is whole on rank 0 and loads anywhere; DeepSpeed's is cut by worker and ZeRO stage."""
        whole = self.scaling.engine == "torch"
        keys = ("engine", "precision") if whole else ("engine", "precision", "zero_stage", "num_workers")
        written, wanted = ({key: shape.get(key) for key in keys} for shape in (found.summary, self._shape()))
        if written != wanted:
            raise ModelError(
                f"checkpoint {found.uri} was written with {written}, this run has {wanted}: "
                "resume with the former, or delete the checkpoint to start over"
            )

    def _names(self) -> list[str]:
        return self.store.names(checkpoints_prefix(self.run_id))

    def _retire(self) -> None:
        whole = [name for name in self._names() if self._is_whole(name)]
        for name in whole[: -self.keep]:
            _delete(self.store, self.run_id, name)

    def _is_whole(self, name: str) -> bool:
        return artifact_at(self.store, join_key(checkpoints_prefix(self.run_id), name)) is not None

    def _from_first(self, value: Any) -> Any:
        if self.world_size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def _gather(self, value: Any) -> list[Any]:
        if self.world_size == 1:
            return [value]
        boxes: list[Any] = [None] * self.world_size
        dist.all_gather_object(boxes, value)
        return boxes

    def _barrier(self) -> None:
        if self.world_size > 1:
            dist.barrier()


def delete_checkpoints(store: Store, run_id: str) -> None:
    """Delete a run's checkpoints; after the export they are of no more use."""
    for name in store.names(checkpoints_prefix(run_id)):
        _delete(store, run_id, name)


def _delete(store: Store, run_id: str, name: str) -> None:
    prefix = join_key(checkpoints_prefix(run_id), name)
    # The manifest first: from then on it does not exist, whatever happens to the rest.
    store.delete(join_key(prefix, MANIFEST_NAME))
    for item in list(store.walk(prefix)):
        store.delete(item.key)
