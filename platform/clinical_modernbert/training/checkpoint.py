"""Resumable state in the store. Every worker uploads its share while training continues; rank 0 writes the manifest last.

- A checkpoint has its own folder, which is never reused, so that an incomplete upload can't mix with a complete one.
- Resume takes the newest checkpoint whose every file matches its manifest, and checks that before it reads any of them.
- Training waits only while the state is written to the local disk. There is one upload at a time. While the store is away it is
  tried again for minutes; an upload that fails for good fails the run.
"""

import errno
import json
import logging
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

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
from clinical_modernbert.disk_space import free_bytes
from clinical_modernbert.errors import ArtifactError, DiskFullError, StoreError, StoreOutage, disk_full
from clinical_modernbert.outages import patiently
from clinical_modernbert.recipe.training_run import CheckpointSection
from clinical_modernbert.training.checkpoint_shape import FORMAT_VERSION, CheckpointShape
from clinical_modernbert.training.engine import Engine, reads
from clinical_modernbert.training.scratch import ScratchFolder, check_scratch, sweep_scratch
from clinical_modernbert.training.state import HeldOutPoint, JsonObject, RunState, state_from_json, state_to_json
from clinical_modernbert.training.worker import Worker, from_first_worker, gather_from_workers

T = TypeVar("T")

_STATE = "run.json"

_logger = logging.getLogger(__name__)


class UploadRefusedError(StoreError):
    """The store refuses a checkpoint, the model or the result: its disk is full, or the keys lack the right.

    Every worker of the group raises it that has not ended already.
    """

    @classmethod
    def of(cls, what: str, reason: object) -> "UploadRefusedError":
        """Return the error for what the store refuses with ``reason``."""
        return cls(
            f"{what} could not be uploaded: {reason}; once the store accepts it, the same command continues from the last "
            "checkpoint"
        )


@dataclass(frozen=True, slots=True)
class _Upload:
    """One worker's share of a checkpoint during its upload."""

    prefix: str
    state: RunState
    folder: ScratchFolder
    entries: Future[list[FileEntry]]


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why a worker's share of a checkpoint is not in the store, as the other workers are told."""

    reason: str
    is_outage: bool

    @classmethod
    def of(cls, error: BaseException | None) -> "_Failure | None":
        """Return the failure of an upload that ended with ``error``."""
        return cls(str(error), isinstance(error, StoreOutage)) if error else None

    def error(self, step: int) -> StoreError:
        """Return the error of the run."""
        what = f"checkpoint after step {step}"
        if self.is_outage:
            return StoreOutage(f"{what} could not be uploaded: {self.reason}")
        return UploadRefusedError.of(what, self.reason)


class Checkpoints:
    """The checkpoints of one run, as one worker sees them. ``close`` drops an upload that ``finish`` did not complete."""

    def __init__(
        self, *, store: Store, run_id: str, worker: Worker, shape: CheckpointShape, section: CheckpointSection
    ) -> None:
        self._store, self._run_id, self._worker = store, run_id, worker
        self._shape, self._section = shape, section
        self._uploader = ThreadPoolExecutor(max_workers=1)
        self._closing = threading.Event()
        self._pending: _Upload | None = None
        sweep_scratch()

    def check_room(self, engine: Engine) -> None:
        """Raise ``DiskFullError`` before the first step if the local disk has no room for a checkpoint; every worker calls it."""
        if self._section.every_steps is not None or self._section.keep_after_export:
            check_scratch(engine.state_bytes, self._worker, what="the state of a checkpoint")

    def save(self, engine: Engine, state: RunState) -> None:
        """Write the state to the local disk and begin its upload; every worker calls it, after ``finish``.

        Raises ``DiskFullError`` if the disk has no room for it.
        """
        assert self._pending is None, "an upload is pending"
        check_scratch(engine.state_bytes, self._worker, what=f"the state after step {state.step}")
        unique = from_first_worker(uuid.uuid4().hex[:8], self._worker)
        prefix = checkpoint_prefix(self._run_id, step=state.step, unique=unique)
        folder = ScratchFolder()
        with _naming_a_full_disk(folder.path, step=state.step):
            engine.save(folder.path)
            if self._worker.rank == 0:
                (folder.path / _STATE).write_text(json.dumps(state_to_json(state)), encoding="utf-8")
        upload = partial(upload_folder, self._store, prefix, folder.path)
        entries = self._uploader.submit(patiently, upload, work="uploading a checkpoint", wait=self._closing.wait)
        self._pending = _Upload(prefix, state, folder, entries)

    @property
    def uploaded(self) -> bool:
        """Whether this worker's share of a pending checkpoint is uploaded, or its upload has failed."""
        return self._pending is not None and self._pending.entries.done()

    def finish(self) -> None:
        """Wait for the pending upload of every worker and write the checkpoint's manifest; every worker calls it.

        Then deletes older checkpoints beyond those to keep. Every worker raises ``StoreOutage`` if the store did not answer any
        of them for minutes, and ``UploadRefusedError`` if it refused.
        """
        if self._pending is None:
            return
        pending, self._pending = self._pending, None
        error = pending.entries.exception()
        pending.folder.cleanup()
        # Every worker learns of every other's failure, so that all of them raise.
        uploads = gather_from_workers(_Failure.of(error) or pending.entries.result(), self._worker)
        failure = next((upload for upload in uploads if isinstance(upload, _Failure)), None)
        if failure is None and self._worker.rank == 0:
            failure = self._conclude(pending, [entry for entries in uploads for entry in entries])
        failure = from_first_worker(failure, self._worker)
        if failure:
            raise failure.error(pending.state.step) from error

    def _conclude(self, pending: _Upload, files: list[FileEntry]) -> _Failure | None:
        """Write the manifest and delete older checkpoints; rank 0 alone."""
        try:
            patiently(lambda: self._write_manifest(pending, files), work="writing a checkpoint's manifest")
        except StoreError as error:
            return _Failure.of(error)
        self._delete_old()
        return None

    def restore(self, engine: Engine, *, only_due: bool = False) -> RunState | None:
        """Load the newest complete checkpoint and return its state; None without one.

        ``only_due`` leaves out one that a stop caused: what a rollback returns to must not depend on when the run was stopped.
        """
        names = None
        if self._worker.rank == 0:
            complete = reversed(self._complete().items())
            names = [name for name, checkpoint in complete if self._is_due(checkpoint) or not only_due]
        return self._load_first(engine, from_first_worker(names, self._worker))

    def restore_best(self, engine: Engine, *, last: HeldOutPoint) -> RunState | None:
        """Load the checkpoint with the lowest held-out loss on the rows of ``last`` if it is below that of ``last``."""
        names = from_first_worker(self._better_than(last) if self._worker.rank == 0 else None, self._worker)
        return self._load_first(engine, names)

    def _load_first(self, engine: Engine, names: list[str]) -> RunState | None:
        """Load the first of these checkpoints that is not damaged and return its state; every worker calls it."""
        for name in names:
            checkpoint = self._named(name)
            self._shape.check_loads(checkpoint)
            try:
                return load_state(engine, checkpoint, self._worker)
            except ArtifactError as error:  # the same on every worker
                _logger.warning("checkpoint %s is skipped: %s", name, error)
        return None

    def close(self) -> None:
        """End the uploading thread. A pending checkpoint gets no manifest."""
        self._closing.set()
        self._uploader.shutdown(wait=True)
        if self._pending:
            self._pending.folder.cleanup()

    def _write_manifest(self, pending: _Upload, files: list[FileEntry]) -> None:
        state, every = pending.state, self._section.every_steps
        # A checkpoint for a stop is never a candidate: a run's export must not depend on when it was stopped.
        measured = state.held_out if every and state.step % every == 0 else None
        manifest = Manifest(
            kind="checkpoint",
            id=f"{self._run_id}/{state.step}",
            fingerprint=self._run_id.rpartition("-")[2],
            format_version=FORMAT_VERSION,
            recipe={},
            inputs=(),
            summary={
                "step": state.step,
                "held_out_loss": measured.held_out.get("uniform_loss") if measured else None,
                "held_out_rows": measured.rows if measured else None,
                **asdict(self._shape),
            },
            files=tuple(files),
        )
        write_manifest(self._store, pending.prefix, manifest)

    def _named(self, name: str) -> Artifact:
        checkpoint = artifact_at(self._store, join_key(checkpoints_prefix(self._run_id), name), signed=True)
        assert checkpoint is not None, name
        return checkpoint

    def _better_than(self, last: HeldOutPoint) -> list[str]:
        ranked, limit = _by_loss(self._complete(), rows=last.rows), last.held_out.get("uniform_loss")
        return [] if limit is None else [name for loss, name in ranked if loss < limit]

    def _complete(self) -> dict[str, Artifact]:
        """Return the complete checkpoints by name, oldest first; one with a damaged manifest is not complete."""
        complete = {}
        for name in self._store.names(checkpoints_prefix(self._run_id)):
            try:
                checkpoint = artifact_at(self._store, join_key(checkpoints_prefix(self._run_id), name), signed=True)
            except ArtifactError as error:
                _logger.warning("checkpoint %s is skipped: %s", name, error)
                continue
            if checkpoint:
                complete[name] = checkpoint
        return complete

    def _is_due(self, checkpoint: Artifact) -> bool:
        """Return whether its step is one of ``every_steps``: a stop causes others, and the end of a run may."""
        every = self._section.every_steps
        return every is not None and checkpoint.summary["step"] % every == 0

    def _delete_old(self) -> None:
        try:
            complete, keep = self._complete(), self._section.keep
            # The newest, and as many due ones as without a stop.
            due = [name for name, checkpoint in complete.items() if self._is_due(checkpoint)]
            kept = {*complete} if keep is None else {*list(complete)[-1:], *due[-keep:]}
            measured = [checkpoint.summary.get("held_out_rows") for checkpoint in complete.values()]
            newest = next((rows for rows in reversed(measured) if rows), None)
            kept |= {name for _, name in _by_loss(complete, rows=newest)[: self._section.keep_best]}
            for name in complete:
                if name not in kept:
                    _delete(self._store, self._run_id, name)
        except StoreError as error:  # the next checkpoint deletes them
            _logger.warning("old checkpoints of %s were not deleted: %s", self._run_id, error)


@contextmanager
def _naming_a_full_disk(folder: Path, *, step: int) -> Iterator[None]:
    """Turn the error of a disk that fills during the write into a ``DiskFullError``; torch's own says neither disk nor file."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        full = "inline_container" in str(error) or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        if not full:
            raise
        files = {path: path.stat() for path in folder.rglob("*") if path.is_file()}
        written = sum(found.st_size for found in files.values())
        newest = max(files, key=lambda path: files[path].st_mtime_ns, default=folder)
        raise DiskFullError(
            f"checkpoint after step {step}: the disk of {tempfile.gettempdir()} is full: {written:,} bytes of the state were "
            f"written, the last of them to {newest.name}, {free_bytes(folder):,} bytes are free; free space there, or set TMPDIR "
            "to a larger disk"
        ) from error


def upload_last(upload: Callable[[], T], *, what: str) -> T:
    """Return what ``upload`` returns, tried again for minutes; rank 0 calls it once the other workers have ended.

    Raises ``StoreOutage`` and ``UploadRefusedError``.
    """
    try:
        return patiently(upload, work=f"uploading {what}")
    except StoreOutage:
        raise
    except StoreError as error:
        raise UploadRefusedError.of(what, error) from error


def load_state(engine: Engine, checkpoint: Artifact, worker: Worker) -> RunState:
    """Load a checkpoint, of this run or of another, and return its state. Every worker calls it.

    Each worker copies the files that it reads, so that the engine finds no others: DeepSpeed loads what fits a pattern. None is
    read before all workers have theirs: if one is damaged, every worker raises ``ArtifactError``, and ``DiskFullError`` if a disk
    has no room for them.
    """
    scratch = ScratchFolder()
    try:
        paths = [entry.path for entry in checkpoint.manifest.files if reads(entry.path, rank=worker.rank)]
        problem: ArtifactError | DiskFullError | None = None
        folder = scratch.path
        try:
            for path in paths:
                folder = checkpoint.file(path, cache_path=scratch.path, copied=True).parents[path.count("/")]
        except (ArtifactError, DiskFullError) as error:
            problem = error
        except OSError as error:
            problem = disk_full(error)
            if problem is None:
                raise
        for found in gather_from_workers(problem, worker):
            if found:
                raise found
        engine.load(folder)
        return state_from_json(json.loads((folder / _STATE).read_text(encoding="utf-8")))
    finally:
        scratch.cleanup()


def _by_loss(checkpoints: dict[str, Artifact], *, rows: JsonObject | None) -> list[tuple[float, str]]:
    """Rank the checkpoints that were evaluated on these rows (``HeldOutPoint.rows``), the lowest loss first."""
    summaries = {name: checkpoint.summary for name, checkpoint in checkpoints.items()}
    return sorted(
        (summary["held_out_loss"], name)
        for name, summary in summaries.items()
        if summary.get("held_out_loss") is not None and summary["held_out_rows"] == rows
    )


def delete_checkpoints(store: Store, run_id: str) -> None:
    """Delete a run's checkpoints; they have no use after the export."""
    for name in store.names(checkpoints_prefix(run_id)):
        _delete(store, run_id, name)


def _delete(store: Store, run_id: str, name: str) -> None:
    prefix = join_key(checkpoints_prefix(run_id), name)
    # The manifest first: from then on the checkpoint does not exist, even if a later delete fails.
    store.delete(join_key(prefix, MANIFEST_NAME))
    store.clear(prefix)
