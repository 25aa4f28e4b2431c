"""The moving state of a run and the points of its curve, with their JSON form in the store.

``history.json``, the segments of a running curve and a checkpoint's ``run.json`` hold points as plain objects. A point's type
follows from its keys: ``started``, ``rolled_back_to``, ``held_out``, ``pairs`` of a contrastive step, else a step of pretraining.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
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
class HeldOutFigures:
    """``<mask>_loss`` and ``<mask>_top<k>`` over held-out rows; a mask that hides no token of them has no figures."""

    overall: dict[str, float]
    by_source: dict[str, dict[str, float]]
    """The same for each source of the corpus."""


@dataclass(frozen=True, slots=True)
class HeldOutPoint:
    """Held-out figures after a step: ``<mask>_loss`` and ``<mask>_top<k>``, in a causal phase also ``causal_loss`` and so on."""

    step: int
    held_out: dict[str, float]
    """The mean over the phase's corpora, weighted as its rows are."""
    row_length: int | None = None
    """Tokens a row; None in contrastive runs."""
    mixture: dict[str, float] = field(default_factory=dict)
    """The weights of that mean by corpus. Figures are comparable where row_length and mixture are equal."""
    corpora: dict[str, HeldOutFigures] = field(default_factory=dict)
    """The figures of every corpus of the run that has rows of this length."""

    @property
    def rows(self) -> JsonObject:
        """What was scored; equal for comparable points."""
        return {"row_length": self.row_length, "mixture": self.mixture}


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
    """Predicted tokens: masked ones, or in a causal phase all next tokens."""
    tokens: int
    corpora: dict[str, int]
    """The tokens by corpus."""
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
    rows: str | None = None
    """Digest of the texts of the step's pairs; None in curves of earlier code."""


Point = StartPoint | RollbackPoint | HeldOutPoint | StepPoint | ContrastPoint
History = tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class PhaseAccount:
    """What a phase has read and predicted so far, over all of its steps."""

    phase: int | None
    """None: a phase of the run that was continued."""
    objective: str
    steps: int
    predicted: int
    """Masked tokens, or next tokens; each as often as it was predicted."""
    flops: float
    tokens: dict[str, int]
    """By corpus; each token as often as it was read."""


@dataclass(frozen=True, slots=True)
class RunState:
    """What changes from step to step, without the engine's state; equal on every worker."""

    step: int = 0
    """Steps done."""
    history: History = ()
    recent_losses: tuple[float, ...] = ()
    """Losses of the last steps, as many as the stability rule needs."""
    skips: tuple[Skip, ...] = ()
    accounts: tuple[PhaseAccount, ...] = ()
    """Of the phases that have begun, in order."""

    @property
    def held_out(self) -> HeldOutPoint | None:
        """The held-out figures of exactly these weights; None if the run was not evaluated after its last step."""
        points = (point for point in reversed(self.history) if isinstance(point, HeldOutPoint))
        newest = next(points, None)
        return newest if newest and newest.step == self.step - 1 else None


def with_step(accounts: tuple[PhaseAccount, ...], figures: StepFigures, *, objective: str) -> tuple[PhaseAccount, ...]:
    """Return the accounts with one more step."""
    *before, last = accounts or (None,)
    if last is None or last.phase != figures.phase:
        before, last = [*accounts], PhaseAccount(figures.phase, objective, steps=0, predicted=0, flops=0.0, tokens={})
    grown = replace(
        last,
        steps=last.steps + 1,
        predicted=last.predicted + figures.masked,
        flops=last.flops + figures.flops,
        tokens=last.tokens | {name: last.tokens.get(name, 0) + count for name, count in figures.corpora.items()},
    )
    return (*before, grown)


def point_to_json(point: Point) -> JsonObject:
    """Return the point as the store holds it; a training step is one flat object."""
    if isinstance(point, StepPoint):
        return _values(point.figures) | _values(point.speed)
    if isinstance(point, HeldOutPoint):
        return _values(point) | {"corpora": {name: asdict(figures) for name, figures in point.corpora.items()}}
    return _values(point)


def point_from_json(values: Mapping[str, Any]) -> Point:
    """Return the point that ``point_to_json`` wrote."""
    if "started" in values:
        return StartPoint(**values)
    if "rolled_back_to" in values:
        return RollbackPoint(**values)
    if "held_out" in values:
        corpora = {name: HeldOutFigures(**figures) for name, figures in values["corpora"].items()}
        return HeldOutPoint(**{**values, "corpora": corpora})
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
        "accounts": [asdict(account) for account in state.accounts],
    }


def state_from_json(values: Mapping[str, Any]) -> RunState:
    """Return the state that ``state_to_json`` wrote."""
    return RunState(
        step=values["step"],
        history=history_from_json(values["history"]),
        recent_losses=tuple(values["recent_losses"]),
        skips=tuple((first, count) for first, count in values["skips"]),
        accounts=tuple(PhaseAccount(**account) for account in values["accounts"]),
    )
