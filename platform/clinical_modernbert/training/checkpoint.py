"""Resumable state in the store: every worker uploads its part beside the training, rank 0 writes the manifest last.

A checkpoint has a folder of its own that is never reused, so that a torn upload can't mix with a whole one. On resume the
newest checkpoint whose every file matches its manifest is taken, before anything in it is read. The training waits only while
the state is written to the local disk; one upload is on its way at a time, and a failed one is an error of the run.
"""

import json
import logging
import tempfile
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch.distributed as dist

from clinical_modernbert.artifacts import (
    Artifact,
    FileEntry,
    Manifest,
    Store,
    artifact_at,
    join_key,
    upload_folder,
    write_manifest,
)
from clinical_modernbert.artifacts.layout import MANIFEST_NAME, checkpoint_prefix, checkpoints_prefix
from clinical_modernbert.errors import ArtifactError, ModelError, StoreError
from clinical_modernbert.recipe.pretrain import CheckpointSection, TrainScaling
from clinical_modernbert.training.engine import Engine
from clinical_modernbert.training.spikes import Skip
from clinical_modernbert.training.worker import Worker

_FORMAT_VERSION = 2
_STATE = "run.json"

_logger = logging.getLogger(__name__)

History = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class RunState:
    """What a run remembers beside the engine's state; the same on every worker."""

    step: int = 0
    """Steps done."""
    history: History = field(default_factory=list)
    recent_losses: list[float] = field(default_factory=list)
    """Losses of the last steps, as many as the stability rule looks at."""
    skips: tuple[Skip, ...] = ()

    @property
    def held_out(self) -> dict[str, float]:
        """The newest held-out figures; empty before the first."""
        return next((point["held_out"] for point in reversed(self.history) if "held_out" in point), {})


@dataclass(frozen=True, slots=True)
class _Upload:
    """One worker's part on its way."""

    prefix: str
    state: RunState
    folder: tempfile.TemporaryDirectory[str]
    entries: Future[list[FileEntry]]


class Checkpoints:
    """The checkpoints of one run, as one worker sees them. Close it: what is on its way is dropped."""

    def __init__(
        self,
        *,
        store: Store,
        run_id: str,
        worker: Worker,
        scaling: TrainScaling,
        precision: str,
        section: CheckpointSection,
    ) -> None:
        self._store, self._run_id, self._worker = store, run_id, worker
        self._scaling, self._precision, self._section = scaling, precision, section
        self._uploader = ThreadPoolExecutor(max_workers=1)
        self._pending: _Upload | None = None

    def save(self, engine: Engine, state: RunState) -> None:
        """Write the state to the local disk and begin its upload; every worker calls it, after ``finish``."""
        assert self._pending is None, "an upload is on its way"
        unique = self._from_first(uuid.uuid4().hex[:8])
        prefix = checkpoint_prefix(self._run_id, step=state.step, unique=unique)
        folder = tempfile.TemporaryDirectory(prefix="clinical-modernbert-checkpoint-")
        engine.save(Path(folder.name))
        if self._worker.rank == 0:
            (Path(folder.name) / _STATE).write_text(json.dumps(asdict(state)), encoding="utf-8")
        entries = self._uploader.submit(upload_folder, self._store, prefix, Path(folder.name))
        self._pending = _Upload(prefix, state, folder, entries)

    @property
    def uploaded(self) -> bool:
        """Whether this worker's part of a pending checkpoint has come to its end, well or badly."""
        return self._pending is not None and self._pending.entries.done()

    def finish(self) -> None:
        """Wait for the pending upload of every worker and make the checkpoint exist; every worker calls it.

        Older checkpoints beyond those to keep go afterwards. Raises ``StoreError`` where any worker's upload failed.
        """
        if self._pending is None:
            return
        pending, self._pending = self._pending, None
        error = pending.entries.exception()
        pending.folder.cleanup()
        own = {"error": str(error)} if error else {"files": [e.model_dump() for e in pending.entries.result()]}
        parts = self._gather(own)
        failed = [part["error"] for part in parts if "error" in part]
        if failed:
            raise StoreError(
                f"checkpoint after step {pending.state.step} could not be uploaded: {failed[0]}"
            ) from error
        if self._worker.rank == 0:
            write_manifest(
                self._store,
                pending.prefix,
                Manifest(
                    kind="checkpoint",
                    id=f"{self._run_id}/{pending.state.step}",
                    fingerprint=self._run_id.rpartition("-")[2],
                    format_version=_FORMAT_VERSION,
                    recipe={},
                    inputs=(),
                    summary={
                        "step": pending.state.step,
                        "held_out_loss": pending.state.held_out.get("uniform_loss"),
                        **self._shape(),
                    },
                    files=tuple(FileEntry.model_validate(entry) for part in parts for entry in part["files"]),
                ),
            )
            self._retire()
        self._barrier()

    def restore(self, engine: Engine) -> RunState:
        """Load the newest whole checkpoint; the state before the first step where there is none."""
        return self._load(engine, self._from_first(self._newest() if self._worker.rank == 0 else None))

    def restore_best(self, engine: Engine, *, below: float | None) -> RunState | None:
        """Load the checkpoint with the lowest held-out loss where that is lower than ``below``; else return None."""
        name = self._from_first(self._best(below) if self._worker.rank == 0 else None)
        return self._load(engine, name) if name else None

    def close(self) -> None:
        """End the uploading thread; a pending checkpoint never comes to exist."""
        self._uploader.shutdown(wait=True)
        if self._pending:
            self._pending.folder.cleanup()

    def _load(self, engine: Engine, name: str | None) -> RunState:
        if name is None:
            return RunState()
        found = artifact_at(self._store, join_key(checkpoints_prefix(self._run_id), name))
        assert found is not None, name
        with tempfile.TemporaryDirectory() as cache:
            folder = found.folder(cache_path=Path(cache))
            engine.load(folder)
            values = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        return RunState(**{**values, "skips": tuple((first, count) for first, count in values["skips"])})

    def _newest(self) -> str | None:
        for name, found in reversed(self._whole().items()):
            try:
                with tempfile.TemporaryDirectory() as cache:
                    found.folder(cache_path=Path(cache))
            except ArtifactError as error:
                _logger.warning("checkpoint %s is passed over: %s", name, error)
                continue
            self._refuse_other_shape(found)
            return name
        return None

    def _best(self, below: float | None) -> str | None:
        ranked = self._by_loss(self._whole())
        if not ranked or below is None or ranked[0][0] >= below:
            return None
        return ranked[0][1]

    def _shape(self) -> dict[str, Any]:
        return {
            "engine": self._scaling.engine,
            "zero_stage": self._scaling.zero_stage,
            "num_workers": self._worker.world_size,
            "precision": self._precision,
        }

    def _refuse_other_shape(self, found: Artifact) -> None:
        """The torch engine's state is whole on rank 0 and loads anywhere; DeepSpeed's is cut by worker and ZeRO stage."""
        if found.manifest.format_version != _FORMAT_VERSION:
            raise ModelError(
                f"checkpoint {found.uri} has format {found.manifest.format_version}, this code reads {_FORMAT_VERSION}: "
                "resume with the code that wrote it, or delete the checkpoint to start over"
            )
        whole = self._scaling.engine == "torch"
        keys = ("engine", "precision") if whole else ("engine", "precision", "zero_stage", "num_workers")
        written, wanted = ({key: shape.get(key) for key in keys} for shape in (found.summary, self._shape()))
        if written != wanted:
            raise ModelError(
                f"checkpoint {found.uri} was written with {written}, this run has {wanted}: "
                "resume with the former, or delete the checkpoint to start over"
            )

    def _whole(self) -> dict[str, Artifact]:
        """Return the finished checkpoints, oldest first; a damaged manifest makes one unfinished."""
        finished = {}
        for name in self._store.names(checkpoints_prefix(self._run_id)):
            try:
                found = artifact_at(self._store, join_key(checkpoints_prefix(self._run_id), name))
            except ArtifactError as error:
                _logger.warning("checkpoint %s is passed over: %s", name, error)
                continue
            if found:
                finished[name] = found
        return finished

    @staticmethod
    def _by_loss(whole: dict[str, Artifact]) -> list[tuple[float, str]]:
        losses = {name: found.summary.get("held_out_loss") for name, found in whole.items()}
        return sorted((loss, name) for name, loss in losses.items() if loss is not None)

    def _retire(self) -> None:
        whole = self._whole()
        kept = {*list(whole)[-self._section.keep :]}
        kept |= {name for _, name in self._by_loss(whole)[: self._section.keep_best]}
        for name in whole:
            if name not in kept:
                _delete(self._store, self._run_id, name)

    def _from_first(self, value: Any) -> Any:
        if self._worker.world_size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def _gather(self, value: Any) -> list[Any]:
        if self._worker.world_size == 1:
            return [value]
        boxes: list[Any] = [None] * self._worker.world_size
        dist.all_gather_object(boxes, value)
        return boxes

    def _barrier(self) -> None:
        if self._worker.world_size > 1:
            dist.barrier()


def delete_checkpoints(store: Store, run_id: str) -> None:
    """Delete a run's checkpoints; after the export they are of no more use."""
    for name in store.names(checkpoints_prefix(run_id)):
        _delete(store, run_id, name)


def _delete(store: Store, run_id: str, name: str) -> None:
    prefix = join_key(checkpoints_prefix(run_id), name)
    # The manifest first: from then on it does not exist, whatever happens to the rest.
    store.delete(join_key(prefix, MANIFEST_NAME))
    store.clear(prefix)
