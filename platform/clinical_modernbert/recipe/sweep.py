"""Sweeps: a pretraining recipe and the dotted paths that vary."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from clinical_modernbert.recipe.section import CorpusReference, Recipe, Section

Scalar = str | int | float | bool


class GridDimension(Section):
    """Each of the listed values."""

    type: Literal["grid"]
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


class SweepScaling(Section):
    """How many trials run side by side; changes nothing in the output."""

    max_concurrent_trials: int = Field(default=1, ge=1)
    """Trials at the same time; each takes the workers of its own recipe."""


class SweepRecipe(Recipe):
    """Trials of one pretraining recipe over dotted paths, ordered by held-out loss (paper, 5.1 and 6.2)."""

    kind: Literal["sweep"] = "sweep"
    base: str
    """The pretraining recipe, as ``pretrain/demo``."""
    corpus: CorpusReference
    """The corpus that every trial trains on."""
    overrides: tuple[str, ...] = ()
    """``path=value`` overrides that all trials share."""
    space: Annotated[dict[str, Dimension], Field(min_length=1)]
    """Dotted recipe path -> values."""
    sampler: Literal["grid", "tpe", "random"] = "grid"
    """Optuna sampler; ``grid`` visits every combination once."""
    num_trials: int | None = Field(default=None, ge=1)
    """Trials of ``tpe`` and ``random``; the grid's size where None."""
    seed: int = 0
    """Seed of the sampler."""
    scaling: SweepScaling = SweepScaling()

    @model_validator(mode="after")
    def _sampler_fits(self) -> Self:
        floats = [path for path, dimension in self.space.items() if dimension.type != "grid"]
        if self.sampler == "grid" and floats:
            raise ValueError(f"sampler=grid needs type=grid in every dimension, these are continuous: {floats}")
        if self.sampler != "grid" and self.num_trials is None:
            raise ValueError(f"sampler={self.sampler} needs num_trials")
        return self
