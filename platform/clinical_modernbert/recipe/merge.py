"""Merging: one model as the weighted average of others."""

import re
from typing import Literal, Self

from pydantic import Field, model_validator

from clinical_modernbert.recipe.corpus import SequenceLength
from clinical_modernbert.recipe.section import CorpusReference, Recipe, RecipeValues, Section

_STATE = re.compile(r"[^/]+@\d+")


class MergedModel(Section):
    """One of the models that are averaged."""

    source: str
    """A kept state of a finished run, ``<run>@<step>``, or a model as ``model.init`` of a pretrain recipe names it."""
    weight: float = Field(default=1.0, gt=0)
    """Its share is its weight over the sum of all weights."""

    @property
    def is_state(self) -> bool:
        """Whether the source is a state; a hub id with a revision has a slash."""
        return _STATE.fullmatch(self.source) is not None


class MergeRecipe(Recipe):
    """An average of models of one shape and tokenizer: the last states of a run, or exports of several runs."""

    kind: Literal["merge"] = "merge"
    corpus: CorpusReference
    """The corpus on whose held-out rows the average and each of its models are scored."""
    models: tuple[MergedModel, ...] = Field(min_length=2)
    """What is averaged."""
    sequence_length: SequenceLength = 128
    """Tokens a held-out row; the corpus must hold shards of this length."""
    max_rows: int = Field(default=256, ge=1)
    """Held-out rows that are scored: evenly over the split."""

    def model_sources(self) -> dict[str, str]:
        """Return the models that are no states."""
        return {f"models.{n}.source": model.source for n, model in enumerate(self.models) if not model.is_state}

    def state_sources(self) -> dict[str, str]:
        """Return the states."""
        return {f"models.{n}.source": model.source for n, model in enumerate(self.models) if model.is_state}

    def identity(self) -> RecipeValues:
        """Return the settings that decide the output; the models' digests are inputs in place of their addresses."""
        return super().identity() | {"models": [model.weight for model in self.models]}

    @model_validator(mode="after")
    def _different(self) -> Self:
        sources = [model.source for model in self.models]
        if len(set(sources)) < len(sources):
            raise ValueError(f"models names a source twice, give it a higher weight instead: {', '.join(sources)}")
        return self
