"""The results of a sweep as values, and their JSON form in ``report.json`` and in the artifact's summary."""

from dataclasses import asdict, dataclass, fields
from typing import Any

from clinical_modernbert.masking import MaskKind
from clinical_modernbert.sweeps.comparison import Difference
from clinical_modernbert.sweeps.scaling_fit import FailedFit, Fit
from clinical_modernbert.sweeps.trials import Point

METRIC = "held_out_loss"


@dataclass(frozen=True, slots=True)
class Trained:
    """Figures of a trial that ran to its end, from its model's manifest and its recipe."""

    held_out: dict[str, float]
    num_parameters: int
    num_steps: int
    token_places: int
    """Places for tokens in all training batches."""
    training_flops: float
    initial_weights: str
    row_order: str
    corpus: str


@dataclass(frozen=True, slots=True)
class Trial:
    """One trial: its point, and how it ended."""

    point: Point
    recipe: str
    overrides: list[str]
    """With ``recipe``, what repeats the trial by hand."""
    model: str | None
    held_out_loss: float | None
    """Under the uniform mask; None if the trial failed."""
    stopped_at_rung: int | None
    stopped_after: int | None
    """Steps of a trial that halving stopped."""
    error: str | None
    trained: Trained | None = None

    @property
    def finished(self) -> str | None:
        """The id of the model if the trial ran to its end, else None."""
        return None if self.error or self.stopped_after else self.model

    @property
    def arm(self) -> str:
        """The arm of an ablation's trial."""
        return str(self.point["arm"])

    @property
    def seed(self) -> int:
        """The seed of an ablation's trial."""
        return int(self.point["seed"])

    @property
    def label(self) -> str:
        """Name in plots: the arm, or in a search the values at the point."""
        if "arm" in self.point:
            return self.arm
        return ", ".join(f"{path.rpartition('.')[2]}={value}" for path, value in sorted(self.point.items()))


@dataclass(frozen=True, slots=True)
class MetricComparison:
    """One metric of an arm against the baseline."""

    verdict: str
    """``better``, ``worse`` or ``undecided``."""
    seeds: dict[str, Difference]


@dataclass(frozen=True, slots=True)
class ArmResult:
    """One arm over its seeds."""

    overrides: list[str]
    seeds: list[int]
    masks: dict[MaskKind, dict[str, list[float]]]
    """Mask -> metric -> values in the order of ``seeds``."""
    against_baseline: dict[MaskKind, dict[str, MetricComparison]]
    """Mask -> metric; empty for the baseline."""


@dataclass(frozen=True, slots=True)
class PairingProof:
    """What the trials of one seed recorded: one value each if all had the same."""

    initial_weights: list[str]
    row_order: list[str]
    token_places: list[int]
    corpus: list[str]
    hidden_tokens: dict[MaskKind, list[str]]


@dataclass(frozen=True, slots=True)
class Pairing:
    """Whether all arms of one seed had the same."""

    initial_weights: bool
    row_order: bool
    token_places: bool
    corpus: bool
    hidden_tokens: bool
    shown_by: PairingProof


@dataclass(frozen=True, slots=True)
class Comparison:
    """The arms of an ablation against its baseline."""

    baseline: str
    seeds_needed: int
    """Seeds below which every verdict is ``undecided``."""
    arms: dict[str, ArmResult]
    pairing: dict[str, Pairing]
    """By seed."""


@dataclass(frozen=True, slots=True)
class SweepReport:
    """All figures of a sweep."""

    base: str
    trials: list[Trial]
    """Best first, then stopped ones, then failed ones."""
    comparison: Comparison | None = None
    fit: Fit | FailedFit | None = None

    @property
    def best(self) -> Trial:
        """The trial with the lowest held-out loss."""
        return self.trials[0]


def report_to_json(report: SweepReport) -> dict[str, Any]:
    """Return the report as ``report.json`` holds it; a comparison's fields are on the top level."""
    trials = [_trial_to_json(trial) for trial in report.trials]
    values: dict[str, Any] = {"metric": METRIC, "base": report.base, "trials": trials, "best": trials[0]}
    if report.comparison:
        values |= asdict(report.comparison)
    if report.fit:
        values["fit"] = asdict(report.fit)
    return values


def _trial_to_json(trial: Trial) -> dict[str, Any]:
    values = {field.name: getattr(trial, field.name) for field in fields(trial) if field.name != "trained"}
    return values | (asdict(trial.trained) if trial.trained else {})
