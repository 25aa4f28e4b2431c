"""Sweeps: a recipe of a training run with dotted paths to search over, or with named arms to compare (an ablation)."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from clinical_modernbert.recipe.corpus import SequenceLength
from clinical_modernbert.recipe.section import OptionalCorpusReference, OptionalPairsReference, Recipe, Section

Scalar = str | int | float | bool


class GridDimension(Section):
    """A list of values: all of them (``grid``), or those that the sampler proposes (``choice``)."""

    type: Literal["grid", "choice"]
    """``sampler=grid`` needs ``grid``; ``tpe`` and ``random`` treat both as ``choice``."""
    values: Annotated[tuple[Scalar, ...], Field(min_length=1)]
    """Values of the recipe field."""


class LogUniformDimension(Section):
    """A float drawn log-uniformly."""

    type: Literal["log_uniform"]
    low: float = Field(gt=0)
    """Lower bound."""
    high: float = Field(gt=0)
    """Upper bound."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low={self.low} must be below high={self.high}")
        return self


Dimension = Annotated[GridDimension | LogUniformDimension, Field(discriminator="type")]


class HalvingSection(Section):
    """Successive halving (like ASHA): a search stops trials whose held-out figure is not among the best after equal steps."""

    grace_steps: int = Field(ge=1)
    """Optimizer steps of the first rung, which every trial reaches; a multiple of the base's held_out_loss.every_steps, or
    held_out.every_steps of a contrastive base."""
    reduction_factor: int = Field(default=3, ge=2)
    """The best 1/reduction_factor of the trials at a rung continue; each rung is reduction_factor times later than the last."""


class ComparisonSection(Section):
    """Scoring of an ablation's models: on the corpus or pair set of the sweep, also if an arm trains on another."""

    sequence_length: SequenceLength = 128
    """Tokens in a held-out row; the sweep's corpus must hold shards of this length. Pretraining alone."""
    max_rows: int = Field(default=4096, ge=1)
    """Held-out rows that are scored, evenly over the split. Pretraining alone."""
    max_pairs: int = Field(default=1000, ge=2, le=4000)
    """Held-out pairs of each source that are scored; each has to find its positive among those of its source. Contrastive runs
    alone."""
    resamples: int = Field(default=2000, ge=100)
    """Bootstrap resamples of the documents, or of the pairs' categories, for an interval."""
    fit: bool = False
    """Fit the loss over parameters and tokens; needs arms of different sizes and steps. Pretraining alone."""


class SweepScaling(Section):
    """Concurrency of trials; does not change the output."""

    max_concurrent_trials: int = Field(default=1, ge=1)
    """Largest number of trials at the same time. Each starts the workers of its recipe; fewer run if the cluster lacks room."""


class SweepRecipe(Recipe):
    """Trials of one recipe over dotted paths, ordered by a held-out figure (paper, 5.1 and 6.2)."""

    kind: Literal["sweep"] = "sweep"
    base: str
    """The recipe of a trial, of kind ``pretrain`` or ``contrast``, for example ``pretrain/demo``."""
    corpus: OptionalCorpusReference = None
    """The corpus that every trial of a pretraining base trains on."""
    pairs: OptionalPairsReference = None
    """The pair set that every trial of a contrastive base trains on."""
    overrides: tuple[str, ...] = ()
    """``path=value`` overrides that all trials share."""
    space: dict[str, Dimension] = Field(default_factory=dict)
    """The search: dotted recipe path -> values."""
    sampler: Literal["grid", "tpe", "random"] = "grid"
    """Optuna sampler; ``grid`` visits every combination once."""
    num_trials: int | None = Field(default=None, ge=1)
    """Number of trials of ``tpe`` and ``random``; None with ``grid``, which has as many as combinations."""
    seed: int = 0
    """Seed of the sampler."""
    halving: HalvingSection | None = None
    """Early stop of a search's lagging trials; None: every trial runs to its end."""
    arms: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """The ablation: name of an arm -> its ``path=value`` overrides. Every arm runs to its end, once for each seed."""
    baseline: str | None = None
    """The arm that the others are compared with; None: the first."""
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (0, 1, 2)
    """Values of training.seed: arms of one seed share initial weights, batches and what they are scored on."""
    comparison: ComparisonSection = ComparisonSection()
    scaling: SweepScaling = SweepScaling()

    @property
    def compared_with(self) -> str:
        """The arm that the others of an ablation are compared with."""
        return self.baseline or next(iter(self.arms))

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if bool(self.space) == bool(self.arms):
            raise ValueError("a sweep has either a space (a search) or arms (an ablation): give one of the two")
        if self.arms and (self.halving or self.num_trials or self.sampler != "grid"):
            raise ValueError(
                "halving, sampler and num_trials belong to a search: the arms of an ablation all run to the end"
            )
        if self.baseline is not None and self.baseline not in self.arms:
            raise ValueError(f"baseline={self.baseline!r} is not an arm of this sweep; its arms are {list(self.arms)}")
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds must be distinct, got {list(self.seeds)}")
        seeded = [name for name, own in self.arms.items() if any(map(_sets_seed, own))]
        if seeded:
            raise ValueError(f"arms {seeded} set training.seed: arms are compared within a seed, so list it in seeds")
        if self.arms and any(map(_sets_seed, self.overrides)):
            raise ValueError("overrides set training.seed: arms run once for each seed of seeds, so list it there")
        return self

    @model_validator(mode="after")
    def _data_fit(self) -> Self:
        if (self.corpus is None) == (self.pairs is None):
            raise ValueError(
                "a sweep has either a corpus (base of kind pretrain) or pairs (base of kind contrast): give one of the two"
            )
        if self.pairs is None:
            return self
        if self.comparison.fit:
            raise ValueError("comparison.fit is of the masked-language loss: a sweep over pairs has none")
        moved = [path for path in self.space if path == "pairs" or path.startswith("held_out.")]
        if moved:
            raise ValueError(
                f"space has {', '.join(moved)}: trials of a search are compared by their own held-out pairs, which would differ; "
                "name arms, which are scored on the same pairs"
            )
        return self

    @model_validator(mode="after")
    def _sampler_fits(self) -> Self:
        floats = [path for path, dimension in self.space.items() if dimension.type != "grid"]
        if self.sampler == "grid" and floats:
            raise ValueError(f"sampler=grid needs type=grid in every dimension, which these are not: {floats}")
        if self.sampler != "grid" and self.num_trials is None:
            raise ValueError(f"sampler={self.sampler} needs num_trials")
        if self.sampler == "grid" and self.num_trials is not None:
            raise ValueError(f"num_trials={self.num_trials}: sampler=grid visits every combination once; leave it out")
        return self


def _sets_seed(override: str) -> bool:
    return override.partition("=")[0].strip() == "training.seed"
