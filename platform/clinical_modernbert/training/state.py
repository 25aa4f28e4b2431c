"""The moving state of a run and the points of its curve, with their JSON form in the store.

``history.json``, the segments of a running curve and a checkpoint's ``run.json`` hold points as plain objects. A point's type
follows from its keys: ``started``, ``rolled_back_to``, ``held_out``, ``pairs`` of a contrastive step, else a step of pretraining.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

JsonObject = dict[str, Any]
"""An object in one of these files."""

Skip = tuple[int, int]
"""``(first step, batches)``: from this step on, training is this number of batches further in the order of the rows."""


@dataclass(frozen=True, slots=True)
class StartPoint:
    """The run was started or resumed after ``step`` steps."""

    step: int
    started: str
    """UTC, ISO 8601."""


@dataclass(frozen=True, slots=True)
class RollbackPoint:
    """The loss of ``step`` was refused, and the run returned to a checkpoint."""

    step: int
    rolled_back_to: int
    """Steps done in the checkpoint."""
    reason: str


@dataclass(frozen=True, slots=True)
class HeldOutPoint:
    """Held-out figures after a step: ``<mask>_loss`` and ``<mask>_top<k>``."""

    step: int
    held_out: dict[str, float]
    row_length: int | None = None
    """Tokens a row; figures over rows of different lengths are not comparable. None in curves of format 3 and before."""
    sources: dict[str, dict[str, float]] = field(default_factory=dict)
    """The same figures for each source of the corpus; empty in those curves."""


@dataclass(frozen=True, slots=True)
class StepFigures:
    """The figures of one training step over its global batch."""

    step: int
    phase: int
    loss: float
    """Nats a masked token, under the training mask."""
    learning_rate: float
    mask_rate: float
    salience_odds: float
    gradient_norm: float
    """Before clipping."""
    masked: int
    tokens: int
    salient: int
    """Tokens of clinical terms."""
    salient_masked: int
    flops: float
    """Floating-point operations that serve real tokens."""
    rows: str
    """Digest of the row numbers."""
    fill: float
    """Share of the rows' places that hold tokens."""


@dataclass(frozen=True, slots=True)
class Speed:
    """Speed since the previous point; None before anything was measured."""

    tokens_per_second: float | None
    flops_per_second: float | None
    mfu: float | None
    data_wait: float | None
    """Share of the time spent waiting for batches."""
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class StepPoint:
    """A recorded training step."""

    figures: StepFigures
    speed: Speed

    @property
    def step(self) -> int:
        """The step, counted from 0."""
        return self.figures.step


@dataclass(frozen=True, slots=True)
class ContrastPoint:
    """A recorded step of contrastive training."""

    step: int
    loss: float
    """The weighted sum of the losses that the recipe asks for."""
    learning_rate: float
    gradient_norm: float
    """Before clipping."""
    pairs: int
    tokens: int
    pairs_per_second: float | None
    """Since the previous point, without the first step of a process; None before anything was measured."""
    pair_loss: float | None = None
    """Nats a pair, mean over both directions; None in curves of earlier code, where it is ``loss``."""
    masked_language_loss: float | None = None
    """Nats a masked token, without its weight; None without the term."""
    teacher_loss: float | None = None
    """Divergence from the teacher's similarities in nats, without its weight; None without a teacher."""


Point = StartPoint | RollbackPoint | HeldOutPoint | StepPoint | ContrastPoint
History = tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class RunState:
    """What changes from step to step, without the engine's state; equal on every worker."""

    step: int = 0
    """Steps done."""
    history: History = ()
    recent_losses: tuple[float, ...] = ()
    """Losses of the last steps, as many as the stability rule needs."""
    skips: tuple[Skip, ...] = ()

    @property
    def held_out(self) -> HeldOutPoint | None:
        """The held-out figures of exactly these weights; None if the run was not evaluated after its last step."""
        points = (point for point in reversed(self.history) if isinstance(point, HeldOutPoint))
        newest = next(points, None)
        return newest if newest and newest.step == self.step - 1 else None


def point_to_json(point: Point) -> JsonObject:
    """Return the point as the store holds it; a training step is one flat object."""
    if isinstance(point, StepPoint):
        return _values(point.figures) | _values(point.speed)
    return _values(point)


def point_from_json(values: Mapping[str, Any]) -> Point:
    """Return the point that ``point_to_json`` wrote."""
    if "started" in values:
        return StartPoint(**values)
    if "rolled_back_to" in values:
        return RollbackPoint(**values)
    if "held_out" in values:
        return HeldOutPoint(**values)
    if "pairs" in values:
        return ContrastPoint(**values)
    figures = StepFigures(**{name: values[name] for name in StepFigures.__slots__})
    return StepPoint(figures=figures, speed=Speed(**{name: values[name] for name in Speed.__slots__}))


def _values(point: StepFigures | Speed | StartPoint | RollbackPoint | HeldOutPoint | ContrastPoint) -> JsonObject:
    # Not dataclasses.asdict: it copies deeply, and a long run writes thousands of points at a time.
    return {name: getattr(point, name) for name in point.__slots__}


def history_to_json(history: History) -> list[JsonObject]:
    """Return the curve as ``history.json`` holds it."""
    return [point_to_json(point) for point in history]


def history_from_json(values: Iterable[Mapping[str, Any]]) -> History:
    """Return the curve that ``history_to_json`` wrote."""
    return tuple(point_from_json(point) for point in values)


def state_to_json(state: RunState) -> JsonObject:
    """Return the state as a checkpoint's ``run.json`` holds it."""
    return {
        "step": state.step,
        "history": history_to_json(state.history),
        "recent_losses": list(state.recent_losses),
        "skips": [list(skip) for skip in state.skips],
    }


def state_from_json(values: Mapping[str, Any]) -> RunState:
    """Return the state that ``state_to_json`` wrote."""
    return RunState(
        step=values["step"],
        history=history_from_json(values["history"]),
        recent_losses=tuple(values["recent_losses"]),
        skips=tuple((first, count) for first, count in values["skips"]),
    )
