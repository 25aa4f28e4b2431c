"""The results of a sweep as values. Imports no torch, so that pages can read them; ``results_json`` has their JSON form."""

from dataclasses import dataclass

from clinical_modernbert.masking import MaskKind
from clinical_modernbert.sweeps.board import Curve
from clinical_modernbert.sweeps.trials import Point

METRIC = "held_out_loss"

HIDDEN: dict[MaskKind, str] = {
    "uniform": "15 % of all tokens hidden",
    "entity": "15 % of clinical tokens hidden, as whole terms",
}
"""What each frozen mask hides, in words."""


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
class Difference:
    """An arm's metric minus the baseline's, over the same documents, with a 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class MetricComparison:
    """One metric of an arm against the baseline."""

    verdict: str
    """``better``, ``worse`` or ``undecided``."""
    mean: Difference
    """Over seeds; the interval is that of another seed and other documents."""
    p: float | None
    """Of a paired t test over seeds; None with fewer seeds than a verdict needs."""
    p_holm: float | None
    """After Holm's correction over the arms."""
    seeds: dict[str, Difference]
    """By seed; the intervals are over documents alone."""


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


_PAIRED = {
    "initial_weights": "initial weights",
    "row_order": "rows at each step",
    "token_places": "number of training tokens",
    "corpus": "training corpus",
    "hidden_tokens": "hidden tokens",
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """The arms of an ablation against its baseline."""

    baseline: str
    seeds_needed: int
    """Seeds below which every verdict is ``undecided``."""
    arms: dict[str, ArmResult]
    pairing: dict[str, Pairing]
    """By seed."""

    @property
    def same_within_seeds(self) -> list[str]:
        """What all arms of each seed had in common, in words."""
        return [words for name, words in _PAIRED.items() if all(getattr(p, name) for p in self.pairing.values())]

    @property
    def different_within_seeds(self) -> list[str]:
        """What differed between arms of a seed, in words."""
        return [words for words in _PAIRED.values() if words not in self.same_within_seeds]


@dataclass(frozen=True, slots=True)
class Coefficient:
    """A coefficient of the fit with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class LargestRun:
    """The largest model and token count of the runs, and the loss that the fit predicts there."""

    parameters: float
    tokens: float
    loss: float


@dataclass(frozen=True, slots=True)
class Extrapolation:
    """The predicted loss at ``growth`` times the largest run's parameters and tokens, with its 95 % interval."""

    growth: int
    loss: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Fit:
    """A fit, and how far beyond the largest run it may be trusted."""

    form: str
    coefficients: dict[str, Coefficient]
    largest_run: LargestRun
    root_mean_square_error: float
    """In nats."""
    extrapolation: list[Extrapolation]
    trusted_growth: int | None
    """Largest factor, of parameters and tokens together, up to which the 95 % interval of the predicted loss is narrower than the
    gain predicted for the last doubling; None if even the first doubling's is wider."""


@dataclass(frozen=True, slots=True)
class FailedFit:
    """Why a sweep has no fit."""

    failed: str


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


@dataclass(frozen=True, slots=True)
class ArmCurve:
    """The held-out curve of one model, with the name of its arm or trial."""

    arm: str
    points: Curve
