"""What rank 0 writes for its driver below the run's work prefix, as JSON: the progress, the result, and a final error.

A final error is one that no restart of the group can fix (a recipe, a corpus, a full disk, a loss that is not a number). It
belongs to one launch, so that a later launch of the same run starts anew.
"""

import json
from dataclasses import asdict, dataclass

from clinical_modernbert.artifacts import FileEntry, Store, join_key
from clinical_modernbert.artifacts.layout import work_prefix
from clinical_modernbert.errors import DiskFullError, ModelError, UserError
from clinical_modernbert.training.state import HeldOutFigures, JsonObject, PhaseAccount

PROGRESS_NAME = "progress.json"
RESULT_NAME = "result.json"


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
    """Tokens in all steps, each as often as it was read."""
    phases: tuple[PhaseAccount, ...]
    """What each phase read and predicted."""
    exported_step: int
    held_out: dict[str, float]
    """Of the mixture of the phase that the exported step belongs to."""
    held_out_by_corpus: dict[str, HeldOutFigures]
    rollbacks: int
    corpus: str
    """Id of the recipe's corpus; the others are in ``phases``."""
    initial_weights: str
    """Digest of the weights before the first step, or of the state that the run continues."""


@dataclass(frozen=True, slots=True)
class MergedInput:
    """One averaged model with its own held-out figures."""

    model: str
    """Its address."""
    share: float
    held_out_by_corpus: dict[str, HeldOutFigures]


@dataclass(frozen=True, slots=True)
class MergeSummary:
    """The figures of a merged model, as its manifest holds them."""

    num_parameters: int
    corpus: str
    """Id of the corpus of ``held_out``."""
    held_out: dict[str, float]
    held_out_by_corpus: dict[str, HeldOutFigures]
    merged: tuple[MergedInput, ...]


@dataclass(frozen=True, slots=True)
class ContrastSummary:
    """The figures of a finished contrastive run, as its manifest holds them."""

    num_parameters: int
    num_steps: int
    precision: str
    loss_first: float
    loss_last: float
    pairs_per_second: float | None
    held_out: dict[str, float]
    pairs: str
    """Id of the pair set."""
    start: str
    """What the run started from."""
    split: str
    head: dict[str, str | int | list[int]]
    """How texts become vectors, as ``load.pooling_of`` reads it."""
    initial_weights: str
    """Digest of the weights before the first step."""
    row_order: str
    """Digest of the pairs of every recorded step."""


@dataclass(frozen=True, slots=True)
class Exported:
    """The run was trained to its end, and its model is in the store without a manifest."""

    files: tuple[FileEntry, ...]
    summary: Summary | ContrastSummary


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

    def steps_done(self) -> int:
        """Return the steps done, without the curve."""
        values = self.read(PROGRESS_NAME)
        return int(values["step"]) if values else 0

    def write_result(self, result: Result) -> None:
        """Set how the run ended."""
        if isinstance(result, Stopped):
            self.write(RESULT_NAME, asdict(result))
        else:
            files = [entry.model_dump() for entry in result.files]
            self.write(RESULT_NAME, {"files": files, "summary": asdict(result.summary)})

    def result(self) -> Result | None:
        """Return how the run ended; None while it runs."""
        values = self.read(RESULT_NAME)
        if values is None:
            return None
        if "stopped_after" in values:
            return Stopped(values["stopped_after"])
        files = tuple(FileEntry.model_validate(entry) for entry in values["files"])
        if "pairs" in values["summary"]:
            return Exported(files=files, summary=ContrastSummary(**values["summary"]))
        return Exported(files=files, summary=_summary_from_json(values["summary"]))

    def write_error(self, launch: str, error: UserError) -> None:
        """Set the final error of a launch."""
        self.write(f"error-{launch}.json", {"error": str(error), "disk_full": isinstance(error, DiskFullError)})

    def error(self, launch: str) -> ModelError | DiskFullError | None:
        """Return the final error of a launch, or None."""
        values = self.read(f"error-{launch}.json")
        if values is None:
            return None
        return (DiskFullError if values["disk_full"] else ModelError)(values["error"])

    def clear_result(self) -> None:
        """Delete the result of an earlier launch."""
        self.store.delete(self.key(RESULT_NAME))

    def clear(self) -> None:
        """Delete everything below the run's work prefix."""
        self.store.clear(work_prefix("model", self.run_id))

    def key(self, name: str) -> str:
        """Return the store's key of the record ``name``."""
        return join_key(work_prefix("model", self.run_id), name)

    def write(self, name: str, values: JsonObject) -> None:
        """Write the record ``name``."""
        self.store.write_bytes(self.key(name), json.dumps(values).encode())

    def read(self, name: str) -> JsonObject | None:
        """Return the record ``name``, or None."""
        try:
            values: JsonObject = json.loads(self.store.read_bytes(self.key(name)))
        except KeyError:
            return None
        return values


def _summary_from_json(values: JsonObject) -> Summary:
    phases = tuple(PhaseAccount(**account) for account in values["phases"])
    held_out = {corpus: HeldOutFigures(**figures) for corpus, figures in values["held_out_by_corpus"].items()}
    return Summary(**{**values, "phases": phases, "held_out_by_corpus": held_out})
