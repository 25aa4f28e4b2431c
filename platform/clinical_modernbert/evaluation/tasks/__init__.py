"""Task kinds: one module a kind, and ``KINDS``, the one table from which runs, reports and pages take them.

A new kind is a recipe class in ``recipe/tasks.py``, a module here, and its line in ``KINDS``. Files of a new layout need a reader
in ``sources/evaluation_sets/`` too. ``TaskKind`` lists what the module has. A kind of texts with one label each takes ``run``,
``measure``, ``baselines`` and ``errors`` from ``text_labels``, as ``sentence_roles`` does.

A kind's module imports no torch at its top, because dry runs and pages import it too; ``run`` imports what trains and predicts.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Protocol

from clinical_modernbert.artifacts.remote_files import local_folder
from clinical_modernbert.errors import RecipeError
from clinical_modernbert.evaluation.encoders import LocalEncoder
from clinical_modernbert.evaluation.report.schema import ErrorAnalysis
from clinical_modernbert.evaluation.results import Baseline, Outcome, StoredOutcome
from clinical_modernbert.evaluation.tasks import (
    classification,
    deidentification,
    disposition,
    entities,
    multi_label,
    relations,
    retrieval,
    sentence_roles,
    similarity,
    time_to_event,
)
from clinical_modernbert.evaluation.tasks.examples import TaskData
from clinical_modernbert.recipe import RunRecipe
from clinical_modernbert.recipe.tasks import Mode, Task
from clinical_modernbert.statistics import Floats

__all__ = ["KINDS", "TaskKind", "load_task", "main_metric", "task_folder", "task_names"]


class TaskKind(Protocol):
    """What the module of a task kind has. ``task`` is of the kind's recipe class, ``data`` is what its ``load`` returns."""

    @property
    def TITLE(self) -> str:  # noqa: N802  # a constant of the module
        """Heading of the kind's tables."""

    @property
    def PLAIN(self) -> str:  # noqa: N802
        """What the kind measures, in a sentence for clinicians."""

    @property
    def MAIN_METRICS(self) -> tuple[str, ...]:  # noqa: N802
        """The first of them that ``measure`` returns sums up a run, and is tested between encoders."""

    @property
    def SHOWN(self) -> tuple[str, ...]:  # noqa: N802
        """Metrics in the report's tables, in this order."""

    @property
    def VALUES(self) -> tuple[str, ...]:  # noqa: N802
        """Names of the arrays [N, ...] that ``run`` fills and ``measure`` reads; a run's ``outcomes.npz`` holds them."""

    def paths(self, task: Any) -> Sequence[str | None]:
        """Return the files and folders that the task reads, below the data folder; None where an optional one is not set."""

    def load(self, task: Any, folder: Path) -> TaskData:
        """Read the files below ``folder``; ``SourceError`` with file and line for what cannot be read."""

    def trains(self, task: Any, mode: Mode) -> bool:
        """Whether a run in this mode learns from examples. If not, there is no fine-tuning, and frozen runs need one seed."""

    def run(self, recipe: RunRecipe, encoder: LocalEncoder, data: Any) -> Outcome:
        """Train as the recipe says and score the reported examples."""

    def measure(self, values: dict[str, Floats], weights_N: Floats) -> dict[str, float]:
        """Return every metric, in which example n counts ``weights_N[n]`` times; shares between 0 and 1."""

    def sample_size(self, task: Any) -> int | None:
        """Return how many reported examples the paper's figures are over, if it takes a sample of them."""

    def baselines(self, data: Any) -> list[Baseline]:
        """Return what trivial methods reach on the reported examples."""

    def errors(self, data: Any, outcomes: Sequence[StoredOutcome], *, num_resamples: int, shown: bool) -> ErrorAnalysis:
        """Return the error analysis over the runs of one encoder with different seeds. Quotes examples only if ``shown``."""


KINDS: dict[str, TaskKind] = {
    "sentence_roles": sentence_roles,
    "entities": entities,
    "deidentification": deidentification,
    "disposition": disposition,
    "time_to_event": time_to_event,
    "classification": classification,
    "multi_label": multi_label,
    "similarity": similarity,
    "relations": relations,
    "retrieval": retrieval,
}


def main_metric(kind: str, metrics: Collection[str]) -> str:
    """Return which of the ``metrics`` of a run sums it up."""
    return next(name for name in KINDS[kind].MAIN_METRICS if name in metrics)


def load_task(task: Task, data: str) -> TaskData:
    """Read a task's files below ``data``."""
    return KINDS[task.type].load(task, task_folder(task, data))


def task_names(task: Task) -> list[str]:
    """Return the files and folders that a task reads, as the recipe writes them; ``RecipeError`` for an address."""
    names = [name for name in KINDS[task.type].paths(task) if name is not None]
    for name in names:
        if "://" in name:
            raise RecipeError(
                f"tasks[{task.name}]: {name!r} is an address; set data to its prefix, and write it relative"
            )
    return names


def task_folder(task: Task, data: str) -> Path:
    """Return the local folder in which a task's files are: ``data``, or copies from S3 until the process ends."""
    return local_folder(data, task_names(task))
