"""What a run gives, and a finished run in the store. Imports no torch, so that pages and reports can read it."""

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.artifacts import Artifact
from clinical_modernbert.evaluation.scores import Scored
from clinical_modernbert.recipe import RunRecipe
from clinical_modernbert.recipe.tasks import Mode

Facts = dict[str, int | str]
"""What a reader of the figures must know, such as how many texts were cut."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """One pass over the training examples."""

    loss: float
    """Mean training loss in nats."""
    development: float
    """Development figure; higher is better."""
    seconds: float


@dataclass(frozen=True, slots=True)
class Tuned:
    """What fine-tuning gives."""

    model: Any
    """A model of transformers, with the weights of the best epoch."""
    head: dict[str, str | int | list[str]]
    """What serving must know of the model: ``kind``, ``max_tokens``, and ``labels`` and ``scheme``, or ``pooling``."""
    epochs: list[Epoch]
    best_epoch: int
    """Counted from 0."""
    learning_rate: float
    head_weights: Any = None
    """A head that transformers has no class for, as a torch module."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one encoder on one task with one seed."""

    scored: Scored
    counts: dict[str, int]
    """Examples of each part of the data."""
    facts: Facts = field(default_factory=dict)
    labels: list[str] = field(default_factory=list)
    """Names of classes or tags, by their numbers."""
    extra: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    """Further arrays that error analysis needs."""
    tuned: Tuned | None = None
    """None if the encoder was frozen."""


@dataclass(frozen=True, slots=True)
class RunReport:
    """``report.json`` of a run, in the order of its keys."""

    task: str
    type: str
    encoder: str
    origin: str
    mode: Mode
    seed: int
    num_train: int | None
    """None: all training examples."""
    metrics: dict[str, float]
    counts: dict[str, int]
    facts: Facts
    labels: list[str]
    epochs: list[Epoch]
    """Empty if the encoder was frozen."""
    best_epoch: int | None
    learning_rate: float | None
    """None if the encoder was frozen."""
    seconds: float


@dataclass(frozen=True, slots=True)
class StoredOutcome:
    """The outcome of a finished run as its artifact holds it, for error analysis."""

    labels: list[str]
    arrays: dict[str, NDArray[Any]]
    """The values by example (``Scored.values``), ``groups``, and ``Outcome.extra``."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A run and its artifact."""

    recipe: RunRecipe
    artifact: Artifact

    @property
    def mode(self) -> Mode:
        """``fine_tuned`` or ``frozen``."""
        return self.recipe.mode

    def report(self) -> RunReport:
        """Return the run's ``report.json``."""
        values = json.loads(self.artifact.file("report.json").read_bytes())
        return RunReport(**{**values, "epochs": [Epoch(**epoch) for epoch in values["epochs"]]})

    def outcome(self) -> StoredOutcome:
        """Return what error analysis reads."""
        with np.load(self.artifact.file("outcomes.npz"), allow_pickle=False) as arrays:
            return StoredOutcome(self.report().labels, {name: arrays[name] for name in arrays.files})


@dataclass(frozen=True, slots=True)
class Failed:
    """A run without figures: its data or its encoder did not allow it."""

    recipe: RunRecipe
    reason: str


@dataclass(frozen=True, slots=True)
class Baseline:
    """What a method without any encoder reaches on the reported examples."""

    name: str
    method: str
    """How it was made, in a sentence."""
    scored: Scored
