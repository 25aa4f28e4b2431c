"""Encoders on tasks: metrics, paired tests, calibration, and what was compared and skipped."""

from typing import Literal

from pydantic import Field, JsonValue

from clinical_modernbert.evaluation.report.schema.errors import ErrorAnalysis
from clinical_modernbert.evaluation.report.schema.section import Estimate, Range, Section, mode_name
from clinical_modernbert.recipe.tasks import Mode


class Metric(Estimate):
    """A metric of several seeds: ``mean`` over them, and the interval of another seed on other groups.

    With one seed the interval is over groups alone.
    """

    seeds: list[float]
    """The metric of each seed."""
    std_over_seeds: float | None
    """None with one seed."""


class CurvePoint(Section):
    """A point of a reliability curve."""

    predicted: float
    observed: float
    examples: int


class CalibrationIntervals(Section):
    """95 % intervals of both figures."""

    brier: Range
    expected_calibration_error: Range


class Calibration(Section):
    """Calibration of the positive class, means over seeds."""

    brier: float
    expected_calibration_error: float
    intervals: CalibrationIntervals
    curve: list[CurvePoint]


class PaperQueries(Section):
    """Metrics over a fixed sample of queries, of the size that the paper reports."""

    queries: int
    metrics: dict[str, Metric]


class Result(Section):
    """One encoder on one task, in one mode and with one number of training examples, over all seeds."""

    encoder: str
    mode: Mode
    num_train: int | None
    """None: all training examples."""
    metrics: dict[str, Metric]
    main_metric: str
    groups: int
    """How many groups the bootstrap draws from."""
    seeds: list[int]
    artifacts: list[str]
    """``<kind>/<id>`` of each seed's run."""
    counts: dict[str, int]
    """Examples of each split."""
    calibration: Calibration | None = None
    """Of two classes, trained on all examples."""
    paper_queries: PaperQueries | None = None
    """Of retrieval, trained on all examples."""

    @property
    def mode_name(self) -> str:
        """The mode as it is shown."""
        return mode_name(self.mode)


Verdict = Literal["ahead", "behind", "undecided", "too few seeds"]


class PairedTest(Section):
    """A test of two encoders in one mode, or of an encoder and a trivial baseline, over seeds and groups."""

    mode: Mode
    first: str
    second: str
    """An encoder, or a baseline of ``TaskReport.baselines``."""
    metric: str
    difference: float
    """``first`` less ``second``."""
    low: float
    high: float
    """Its 95 % interval, for this comparison alone."""
    p: float
    p_holm: float
    """After Holm's correction over the comparisons of the mode."""
    detectable: float
    """The difference that a test at 5 % would find in four of five repetitions."""
    verdict: Verdict
    """Of ``first``."""


class BaselineResult(Section):
    """What a method without any encoder reaches on the reported examples, and how."""

    name: str
    method: str
    metrics: dict[str, Metric]


class FailedRun(Section):
    """A run without figures."""

    encoder: str
    mode: Mode
    seed: int
    num_train: int | None
    reason: str


class TaskReport(Section):
    """Everything measured on one task."""

    type: str
    note: str
    results: list[Result]
    paired_tests: list[PairedTest]
    errors: dict[Mode, dict[str, ErrorAnalysis]] | None = None
    """Mode -> encoder -> analysis."""
    facts: dict[str, list[str]]
    """What was cut, left out or lost -> ``<encoder>: <value>``."""
    baselines: tuple[BaselineResult, ...] = ()
    """Trivial methods on the same reported examples."""
    failed: tuple[FailedRun, ...] = ()

    @property
    def full_results(self) -> list[Result]:
        """The results with all training examples."""
        return [result for result in self.results if result.num_train is None]

    @property
    def few_shot_results(self) -> list[Result]:
        """The results with a limited number of training examples."""
        return [result for result in self.results if result.num_train is not None]

    @property
    def analyses(self) -> list[tuple[str, str, ErrorAnalysis]]:
        """(mode as it is shown, encoder, analysis)."""
        return [
            (mode_name(mode), encoder, analysis)
            for mode, encoders in (self.errors or {}).items()
            for encoder, analysis in encoders.items()
        ]


class EncoderFacts(Section):
    """What was compared."""

    origin: str
    architecture: str
    max_tokens: int
    pooling: str
    digest: str
    contamination: dict[str, str] = Field(default_factory=dict)
    """Task -> whether the corpus of the model was decontaminated against it, as its lineage says."""


class Skipped(Section):
    """What was not measured: name -> reason."""

    encoders: dict[str, str]
    artifacts: dict[str, str]
    tasks: dict[str, str]
    masks: dict[str, str]
    """Encoders that cannot be in Table 4."""


class SetStatistics(Section):
    """Table 3's columns for one data set."""

    samples: int
    mean_words: float
    most_words: int
    mean_tokens: float
    most_tokens: int
    tokens_of: str
    """The encoder whose tokenizer counted."""


class Comparison(Section):
    """Encoders on tasks."""

    encoders: dict[str, EncoderFacts]
    skipped: Skipped
    seeds: list[int]
    num_resamples: int
    tuning: dict[str, JsonValue]
    """The recipe's section, as it was."""
    statistics: dict[str, SetStatistics]
    tasks: dict[str, TaskReport]

    @property
    def task_names(self) -> list[str]:
        """All tasks of the recipe: the measured ones, then the skipped ones."""
        return [*self.tasks, *self.skipped.tasks]
