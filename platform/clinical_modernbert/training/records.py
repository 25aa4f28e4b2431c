"""What rank 0 writes for its driver below the run's work prefix, as JSON: the progress, the result, and a final error.

A final error is one that no retry can fix (a recipe, a corpus, a loss that is not a number). It belongs to one launch, so that a
later launch of the same run starts anew.
"""

import json
import threading
from dataclasses import asdict, dataclass

from clinical_modernbert.artifacts import FileEntry, Store, join_key
from clinical_modernbert.artifacts.layout import work_prefix
from clinical_modernbert.outages import Outage
from clinical_modernbert.training.state import History, JsonObject, history_from_json, point_to_json

PROGRESS_NAME = "progress.json"
RESULT_NAME = "result.json"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a running job has come; no steps before its first record and after its end."""

    step: int = 0
    """Steps done."""
    history: History = ()


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of a finished run, as its manifest holds them."""

    num_parameters: int
    num_steps: int
    precision: str
    loss_first: float
    loss_last: float
    tokens_per_second: float | None
    mfu: float | None
    row_order: str
    """Digest of the rows of every recorded step."""
    training_flops: float
    training_tokens: int
    """Tokens in all steps, each as often as it was read; estimated from the recorded steps as the operations are."""
    exported_step: int
    held_out: dict[str, float]
    held_out_by_source: dict[str, dict[str, float]]
    rollbacks: int
    corpus: str
    initial_weights: str
    """Digest of the weights before the first step."""


@dataclass(frozen=True, slots=True)
class MergedInput:
    """One averaged model with its own held-out figures."""

    model: str
    """Its address."""
    share: float
    held_out: dict[str, float]


@dataclass(frozen=True, slots=True)
class MergeSummary:
    """The figures of a merged model, as its manifest holds them."""

    num_parameters: int
    corpus: str
    held_out: dict[str, float]
    held_out_by_source: dict[str, dict[str, float]]
    merged: tuple[MergedInput, ...]


@dataclass(frozen=True, slots=True)
class Exported:
    """The run was trained to its end, and its model is in the store without a manifest."""

    files: tuple[FileEntry, ...]
    summary: Summary


@dataclass(frozen=True, slots=True)
class Stopped:
    """The run was asked to stop and has kept its state."""

    stopped_after: int
    """Steps done."""


Result = Exported | Stopped


@dataclass(frozen=True, slots=True)
class Records:
    """The records of one run."""

    store: Store
    run_id: str

    def progress(self) -> Progress:
        """Return how far the run has come."""
        values = self._read(PROGRESS_NAME)
        return Progress(values["step"], history_from_json(values["history"])) if values else Progress()

    def steps_done(self) -> int:
        """Return the steps done, without the curve."""
        values = self._read(PROGRESS_NAME)
        return int(values["step"]) if values else 0

    def write_result(self, result: Result) -> None:
        """Set how the run ended."""
        if isinstance(result, Stopped):
            self._write(RESULT_NAME, asdict(result))
        else:
            files = [entry.model_dump() for entry in result.files]
            self._write(RESULT_NAME, {"files": files, "summary": asdict(result.summary)})

    def result(self) -> Result | None:
        """Return how the run ended; None while it runs."""
        values = self._read(RESULT_NAME)
        if values is None:
            return None
        if "stopped_after" in values:
            return Stopped(values["stopped_after"])
        files = tuple(FileEntry.model_validate(entry) for entry in values["files"])
        return Exported(files=files, summary=Summary(**values["summary"]))

    def write_error(self, launch: str, message: str) -> None:
        """Set the final error of a launch."""
        self._write(f"error-{launch}.json", {"error": message})

    def error(self, launch: str) -> str | None:
        """Return the final error of a launch, or None."""
        values = self._read(f"error-{launch}.json")
        return str(values["error"]) if values else None

    def clear_result(self) -> None:
        """Delete the result of an earlier launch."""
        self.store.delete(self.key(RESULT_NAME))

    def clear(self) -> None:
        """Delete everything below the run's work prefix."""
        self.store.clear(work_prefix("model", self.run_id))

    def key(self, name: str) -> str:
        """Return the store's key of the record ``name``."""
        return join_key(work_prefix("model", self.run_id), name)

    def _write(self, name: str, values: JsonObject) -> None:
        self.store.write_bytes(self.key(name), json.dumps(values).encode())

    def _read(self, name: str) -> JsonObject | None:
        try:
            values: JsonObject = json.loads(self.store.read_bytes(self.key(name)))
        except KeyError:
            return None
        return values


class ProgressWriter:
    """Writes the progress of a run in a thread, so that no step waits for the store. ``close`` writes the newest.

    A write that fails is tried again with what is newest then. Keeps the JSON text of earlier points, because a long run writes
    its curve many times.
    """

    def __init__(self, records: Records, *, num_steps: int) -> None:
        self._records, self._num_steps = records, num_steps
        self._history: History = ()
        self._texts: list[str] = []
        self._newest: Progress | None = None
        self._changed, self._closed = threading.Condition(), False
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def write(self, progress: Progress) -> None:
        """Set how far the run has come; the store has it soon after."""
        with self._changed:
            self._newest = progress
            self._changed.notify()

    def close(self) -> None:
        """Try once more to write the newest progress, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _follow(self) -> None:
        outage, pause_s = Outage("writing the progress"), 0.0
        while True:
            with self._changed:
                if pause_s:
                    self._changed.wait_for(lambda: self._closed, timeout=pause_s)
                else:
                    self._changed.wait_for(lambda: self._closed or self._newest is not None)
                progress, self._newest = self._newest, None
                last = self._closed
            pause_s = 0.0
            if progress is not None:
                pause_s = self._try_write(progress, outage)
            if last:
                return

    def _try_write(self, progress: Progress, outage: Outage) -> float:
        """Write; return the seconds to wait before the next try, 0 after a success."""
        try:
            self._records.store.write_bytes(self._records.key(PROGRESS_NAME), self._text(progress).encode())
        except Exception as error:  # noqa: BLE001  # the curve is also in each checkpoint, and the next write has it whole
            with self._changed:
                self._newest = self._newest or progress
            return outage.failed(error)
        outage.ended()
        return 0.0

    def _text(self, progress: Progress) -> str:
        # A curve only grows, except after a rollback: then its points are other objects.
        pairs = enumerate(zip(self._history, progress.history, strict=False))
        num_shared = min(len(self._history), len(progress.history))
        num_shared = next((n for n, (ours, theirs) in pairs if ours is not theirs), num_shared)
        new = (json.dumps(point_to_json(point)) for point in progress.history[num_shared:])
        self._history, self._texts = progress.history, [*self._texts[:num_shared], *new]
        head = f'"step": {progress.step}, "num_steps": {self._num_steps}'
        return f'{{{head}, "history": [{", ".join(self._texts)}]}}'
