"""Evaluation and the code map."""

from typing import Literal

from pydantic import Field

from clinical_modernbert.recipe.corpus import SequenceLength
from clinical_modernbert.recipe.section import CorpusReference, ModelReference, Recipe, Section


class EvaluateScaling(Section):
    """How the work is spread; changes nothing in the output."""

    num_cpus: int = Field(default=2, ge=1)
    """Threads of the scoring process."""
    batch_rows: int = Field(default=32, ge=1)
    """Rows or texts in one forward pass."""


class EvaluateRecipe(Recipe):
    """Masked-token accuracy on the held-out split under both frozen masks (paper, Table 4)."""

    kind: Literal["evaluate"] = "evaluate"
    model: ModelReference
    """The model to score."""
    corpus: CorpusReference
    """The corpus whose held-out split is scored."""
    sequence_length: SequenceLength = 128
    """Row length; the corpus must hold shards of this length."""
    max_rows: int = Field(default=4096, ge=1)
    """Held-out rows that are scored."""
    top_k: tuple[int, ...] = (1, 5, 10, 25)
    """Ranks at which accuracy is reported."""
    bigram_rows: int = Field(default=65_536, ge=1)
    """Training rows in which the bigram baseline counts neighbours, evenly over the split."""
    scaling: EvaluateScaling = EvaluateScaling()


class MapRecipe(Recipe):
    """The 2-D map of code embeddings with its figures in the original space (paper, 4.4 and 5.4)."""

    kind: Literal["map"] = "map"
    model: ModelReference
    """The model whose embeddings are mapped."""
    table: Literal["icd9cm"] = "icd9cm"
    """Code system."""
    pooling: Literal["cls", "mean"] = "cls"
    """How token vectors become one vector (paper: the [CLS] embedding)."""
    max_codes: int | None = Field(default=None, ge=100)
    """Codes on the map, a deterministic sample of the table; all where None."""
    perplexity: float = Field(default=30.0, gt=1)
    """t-SNE perplexity."""
    num_iterations: int = Field(default=500, ge=50)
    """t-SNE iterations after early exaggeration."""
    purity_neighbours: int = Field(default=10, ge=1)
    """k of chapter purity@k."""
    seed: int = 0
    """Seed of the sample, the permutation baseline and the untrained encoder."""
    scaling: EvaluateScaling = EvaluateScaling()
