"""A pair set: pairs of terms and texts that mean the same, with the concepts that are held out of them."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from clinical_modernbert.recipe.corpus import DecontaminationSection, HeldOutSection
from clinical_modernbert.recipe.section import Recipe, RecipeValues, Reference, Section, below
from clinical_modernbert.recipe.terms import TermSource
from clinical_modernbert.recipe.texts import CorpusPairs, RetrievalPairs
from clinical_modernbert.recipe.vocabulary import Pooling

PairSource = Annotated[TermSource | CorpusPairs | RetrievalPairs, Field(discriminator="type")]


class NegativesSection(Section):
    """Hard negatives: positives of other pairs of the source that are near and mean something else."""

    method: Literal["siblings", "bm25", "model"]
    """Where they come from: concepts with the same parent (code systems and MeSH), texts that share words with the anchor, or
    texts that a model puts near it."""
    per_pair: int = Field(default=1, ge=1, le=16)
    """Largest number of negatives of a pair. Each is one more text of every pair in training."""
    nearest: int = Field(default=50, ge=1)
    """Nearest candidates of an anchor that are looked at, with ``bm25`` and ``model``."""
    model: str | None = None
    """Encoder of ``method: model``, with an address as ``init`` of a contrast recipe has: an earlier model, or the one to train.
    Its content is part of the fingerprint."""
    pooling: Pooling = "mean"
    """How that model's token vectors become one vector."""
    max_tokens: int = Field(default=64, ge=8)
    """Longest text for that model, in tokens; longer ones are cut."""
    margin: float = Field(default=0.05, ge=0, lt=1)
    """With ``method: model``: a negative's cosine with the anchor is below (1 - margin) times the positive's. What is nearer may
    be a synonym that no source names."""

    @model_validator(mode="after")
    def _model_for_its_method(self) -> "NegativesSection":
        if self.method == "model" and self.model is None:
            raise ValueError("method: model needs negatives.model, the encoder that finds them")
        if self.method != "model" and self.model is not None:
            raise ValueError(
                f"model={self.model} is read with method: model only, not with {self.method}; leave it out"
            )
        return self


class PairsRecipe(Recipe):
    """Pairs of terms from vocabularies, and of texts, for contrastive training."""

    kind: Literal["pairs"] = "pairs"
    sources: Annotated[tuple[PairSource, ...], Field(min_length=1)]
    """The sources of the pairs; a pair that two sources have counts for the first."""
    corpus: Annotated[str | None, Reference("corpus")] = None
    """Corpus of the sources of type ``corpus``. What it holds out is held out here too, so ``held_out`` must have its seed and
    at least its fraction."""
    data: str = "."
    """Folder, or ``s3://bucket/prefix``, that relative paths of the sources begin in. It does not change the fingerprint; the
    files' content does."""
    held_out: HeldOutSection = HeldOutSection(fraction=0.2)
    """Concepts that are held out, with every name that they have in any source. The same seed draws the same ICD categories as
    a corpus does, and a larger fraction includes those of a smaller one."""
    negatives: NegativesSection | None = None
    """Hard negatives of the pairs; None for none. They are in the pair set, so that they can be read, and every run on it has the
    same ones."""
    decontamination: DecontaminationSection | None = None
    """Evaluation sets whose texts no pair may hold: pairs with one of their texts, or with 13 words in a row of one, are dropped
    as ``contaminated``, documents that a list names as ``listed``."""
    max_characters: int = Field(default=300, ge=20)
    """Longest name of a concept; pairs with a longer one are dropped. Sources of longer texts have a limit of their own."""
    max_quarantined_fraction: float = Field(default=0.01, ge=0, le=1)
    """Share of one source's records that may be unreadable before the build fails."""

    @property
    def located_sources(self) -> tuple[PairSource, ...]:
        """The sources with their paths below ``data``."""
        return tuple(
            source.model_copy(update={name: below(self.data, path) for name, path in source.paths.items()})
            for source in self.sources
        )

    def identity(self) -> RecipeValues:
        """Return the settings that decide the output: files and a model by content, sections that are off not at all."""
        values = {key: value for key, value in super().identity().items() if key != "data" and value is not None}
        if self.negatives is not None:
            values["negatives"] = self.negatives.model_dump(mode="json", exclude={"model"})
        return values

    def model_sources(self) -> dict[str, str]:
        """Return the encoder that finds the negatives."""
        return {"negatives.model": self.negatives.model} if self.negatives and self.negatives.model else {}

    @model_validator(mode="after")
    def _documents_have_a_corpus(self) -> "PairsRecipe":
        of_corpus = [source.name for source in self.sources if isinstance(source, CorpusPairs)]
        if of_corpus and self.corpus is None:
            raise ValueError(f"sources {of_corpus} read documents of a corpus: name it in corpus")
        return self

    @model_validator(mode="after")
    def _distinct_names(self) -> "PairsRecipe":
        names = [source.name for source in self.sources]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"source names must be distinct, these occur twice: {twice}")
        return self
