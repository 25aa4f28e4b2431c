"""The results of a sweep as values. Imports no torch, so that pages can read them; ``results_json`` has their JSON form."""

from collections.abc import Mapping
from dataclasses import dataclass

from clinical_modernbert.sweeps.board import Curve
from clinical_modernbert.sweeps.kinds import KINDS, TrialKind
from clinical_modernbert.sweeps.trials import Point

HIDDEN = {
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
    budget: int
    """Places for tokens, or pairs, in all training batches."""
    training_flops: float | None
    """None of contrastive runs, which do not count them."""
    initial_weights: str
    row_order: str
    data: str
    """Id of the corpus or pair set."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One trial: its point, and how it ended."""

    point: Point
    recipe: str
    overrides: list[str]
    """With ``recipe``, what repeats the trial by hand."""
    model: str | None
    value: float | None
    """The held-out figure that its kind is judged by (``TrialKind.metric``); None if the trial failed."""
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
    """An arm's metric minus the baseline's, over the same documents or pairs, with a 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class MetricComparison:
    """One metric of an arm against the baseline."""

    verdict: str
    """``better``, ``worse`` or ``undecided``."""
    mean: Difference
    """Over seeds; the interval is that of another seed and other groups."""
    p: float | None
    """Of a paired t test over seeds; None with fewer seeds than a verdict needs."""
    p_holm: float | None
    """After Holm's correction over the arms."""
    seeds: dict[str, Difference]
    """By seed; the intervals are over groups (documents, or categories of pairs) alone."""


@dataclass(frozen=True, slots=True)
class ArmResult:
    """One arm over its seeds."""

    overrides: list[str]
    seeds: list[int]
    parts: dict[str, dict[str, list[float]]]
    """Mask, or source of pairs -> metric -> values in the order of ``seeds``."""
    against_baseline: dict[str, dict[str, MetricComparison]]
    """Mask or source -> metric; empty for the baseline."""


@dataclass(frozen=True, slots=True)
class PairingProof:
    """What the trials of one seed recorded: one value each if all had the same."""

    initial_weights: list[str]
    row_order: list[str]
    budget: list[int]
    data: list[str]
    scored: dict[str, list[str]]
    """Mask or source -> digests of the hidden tokens or pairs."""


@dataclass(frozen=True, slots=True)
class Pairing:
    """Whether all arms of one seed had the same."""

    initial_weights: bool
    row_order: bool
    budget: bool
    data: bool
    scored: bool
    shown_by: PairingProof


@dataclass(frozen=True, slots=True)
class Comparison:
    """The arms of an ablation against its baseline."""

    baseline: str
    seeds_needed: int
    """Seeds below which every verdict is ``undecided``."""
    parts: dict[str, str]
    """What is scored separately, a mask or the pairs of a source -> what it is, in words."""
    arms: dict[str, ArmResult]
    pairing: dict[str, Pairing]
    """By seed."""

    def same_within_seeds(self, paired: Mapping[str, str]) -> list[str]:
        """Return what all arms of each seed had in common, in the words of ``TrialKind.paired``."""
        return [words for name, words in paired.items() if all(getattr(p, name) for p in self.pairing.values())]

    def different_within_seeds(self, paired: Mapping[str, str]) -> list[str]:
        """Return what differed between arms of a seed, in words."""
        same = self.same_within_seeds(paired)
        return [words for words in paired.values() if words not in same]


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

    trains: str
    """Kind of the base recipe."""
    base: str
    trials: list[Trial]
    """Best first, then stopped ones, then failed ones."""
    comparison: Comparison | None = None
    fit: Fit | FailedFit | None = None

    @property
    def kind(self) -> TrialKind:
        """What the trials train, and by which figures they are judged."""
        return KINDS[self.trains]

    @property
    def best(self) -> Trial:
        """The trial with the best held-out figure."""
        return self.trials[0]


@dataclass(frozen=True, slots=True)
class ArmCurve:
    """The held-out curve of one model, with the name of its arm or trial."""

    arm: str
    points: Curve
