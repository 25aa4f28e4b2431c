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
    """The corpus of the main figures: the average and each of its models are scored on its held-out rows."""
    corpora: tuple[str, ...] | None = None
    """Further corpora to score on: what the average keeps of each. None: all others that the models were trained on and that have
    rows of sequence_length."""
    models: tuple[MergedModel, ...] = Field(min_length=2)
    """What is averaged."""
    sequence_length: SequenceLength = 128
    """Tokens a held-out row; the corpora must hold shards of this length."""
    max_rows: int = Field(default=256, ge=1)
    """Held-out rows of each corpus that are scored: evenly over the split."""

    def references(self) -> dict[str, tuple[str, str]]:
        """Return the corpora to score on, the further ones by ``corpora.<place>``."""
        further = {f"corpora.{place}": ("corpus", corpus) for place, corpus in enumerate(self.corpora or ())}
        return super().references() | further

    def model_sources(self) -> dict[str, str]:
        """Return the models that are no states."""
        return {f"models.{n}.source": model.source for n, model in enumerate(self.models) if not model.is_state}

    def state_sources(self) -> dict[str, str]:
        """Return the states."""
        return {f"models.{n}.source": model.source for n, model in enumerate(self.models) if model.is_state}

    def identity(self) -> RecipeValues:
        """Return the settings that decide the output; digests of corpora and models are inputs in place of their names."""
        values = super().identity() | {"models": [model.weight for model in self.models], "figures": "by corpus"}
        del values["corpora"]
        return values

    @model_validator(mode="after")
    def _different(self) -> Self:
        sources = [model.source for model in self.models]
        if len(set(sources)) < len(sources):
            raise ValueError(f"models names a source twice, give it a higher weight instead: {', '.join(sources)}")
        return self
