"""Recipes of an evaluation (the paper's tables and figures for any encoder), of its runs, and of the code map."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from clinical_modernbert.recipe.corpus import SequenceLength
from clinical_modernbert.recipe.section import (
    ModelReference,
    OptionalCorpusReference,
    Recipe,
    RecipeValues,
    Reference,
    Section,
)
from clinical_modernbert.recipe.tasks import EncoderSection, Mode, Task, TuningSection
from clinical_modernbert.recipe.terms import TermSource
from clinical_modernbert.recipe.vocabulary import TOP_K, Attention, Pooling

OptionalModelReference = Annotated[str | None, Reference("model")]


class EvaluateScaling(Section):
    """How the work is distributed. Does not change the output."""

    num_cpus: int = Field(default=2, ge=1)
    """CPUs and threads of one run."""
    batch_rows: int = Field(default=32, ge=1)
    """Rows or texts in one forward pass."""
    max_batch_tokens: int = Field(default=16_384, ge=64)
    """Maximum number of tokens in one forward pass. A longer document is passed alone."""
    attention: Attention = "packed_sdpa"
    """Attention of ModernBERT encoders: ``packed_sdpa`` runs anywhere, ``torch_varlen`` and ``flash_varlen`` on GPUs."""
    num_runs: int = Field(default=1, ge=1)
    """Maximum number of runs (task x encoder x seed) at a time. Fewer run if the cluster has no room for them."""
    gpus_per_run: float = Field(default=0.0, ge=0)
    """GPUs of a run. With a fraction, several small runs share a GPU."""
    max_failures: int = Field(default=2, ge=0)
    """How often a run is restarted after its worker was lost. Errors of the data or the encoder are not retried."""
    start_timeout_s: float = Field(default=1800, gt=0)
    """Longest time to wait until a run's worker gets its resources and starts."""


class CodesSection(Section):
    """Figure 2 for every encoder: ICD-9 descriptions, figures in the original space, and one map each."""

    max_codes: int | None = Field(default=None, ge=100)
    """Maximum number of codes: a fixed sample of the table. By default all."""
    purity_neighbours: int = Field(default=10, ge=1)
    """k of chapter purity@k."""
    crosswalk_queries: int = Field(default=1500, ge=10)
    """Number of ICD-9-CM codes that must find their ICD-10-CM counterpart, at most ``max_codes``."""
    perplexity: float = Field(default=30.0, gt=1)
    """t-SNE perplexity."""
    num_iterations: int = Field(default=500, ge=50)
    """t-SNE iterations after early exaggeration."""
    seed: int = 0
    """Seed of the samples, the permutation, the untrained encoder and t-SNE."""


class EfficiencySection(Section):
    """Figure 3: seconds by number of texts, under three protocols."""

    num_texts: Annotated[tuple[int, ...], Field(min_length=1)] = (10_000, 25_000, 50_000, 100_000)
    """Numbers of texts that are timed (the paper: 10,000 to 100,000)."""
    num_tokens: int = Field(default=512, ge=16)
    """Length of each synthetic text in words. Inputs are cut to this number of tokens."""
    num_rounds: int = Field(default=3, ge=1)
    """Interleaved rounds over all encoders. The mean and each round are reported."""
    batch_size: int = Field(default=64, ge=1)
    """Texts in a batch under the paper's protocols (its code: 64)."""


class EvaluateRecipe(Recipe):
    """Every table and figure of the paper for any encoder. Tasks without data are skipped, and the report names them."""

    kind: Literal["evaluate"] = "evaluate"
    model: OptionalModelReference = None
    """A model of the store. Its masked tokens are scored (Table 4), and it is compared with ``encoders`` on every task."""
    corpus: OptionalCorpusReference = None
    """The corpus whose held-out split is used to score masked tokens."""
    skip_absent: bool = False
    """Skip ``model`` and ``corpus`` if the store does not have them. The report names what was skipped."""
    encoders: tuple[EncoderSection, ...] = ()
    """Encoders to compare."""
    data: str = "data"
    """Folder, or ``s3://bucket/prefix``, of the evaluation sets."""
    tasks: tuple[Task, ...] = ()
    """Tasks on which the encoders are compared."""
    modes: Annotated[tuple[Mode, ...], Field(min_length=1)] = ("fine_tuned",)
    """``fine_tuned`` trains the whole model; ``frozen`` trains a probe on its vectors (retrieval: zero-shot)."""
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (0, 1, 2, 3, 4)
    """Seeds of the head, the order of examples and dropout. Figures are means over them; a verdict needs five."""
    few_shot: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Numbers of training examples to train with besides all of them, for a curve."""
    tuning: TuningSection = TuningSection()
    codes: CodesSection | None = None
    """Figure 2."""
    efficiency: EfficiencySection | None = None
    """Figure 3."""
    num_resamples: int = Field(default=1000, ge=100)
    """Bootstrap resamples of the groups, for intervals and tests."""
    sequence_length: SequenceLength = 128
    """Row length for masked tokens. The corpus must have shards of this length."""
    max_rows: int = Field(default=4096, ge=1)
    """Maximum number of held-out rows that are scored."""
    top_k: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = TOP_K
    """Accuracy of masked tokens is reported among the first k guesses, for each of these k."""
    bigram_rows: int = Field(default=65_536, ge=1)
    """Training rows from which the bigram baseline counts neighbours, evenly spread over the split."""
    scaling: EvaluateScaling = EvaluateScaling()

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.corpus is not None and self.model is None:
            raise ValueError("corpus is used to score the masked tokens of model: set model too")
        if not (self.corpus or self.tasks or self.codes or self.efficiency):
            raise ValueError("nothing to do: set corpus (masked tokens), tasks, codes or efficiency")
        if (self.tasks or self.codes or self.efficiency) and not (self.model or self.encoders):
            raise ValueError("nothing to evaluate: set model or encoders")
        for field in ("encoders", "tasks"):
            names = [entry.name for entry in getattr(self, field)]
            if len(set(names)) < len(names):
                raise ValueError(f"{field} must have different names, got {', '.join(names)}")
        for field in ("seeds", "modes", "few_shot"):
            values = getattr(self, field)
            if len(set(values)) < len(values):  # equal seeds would count as the five that a verdict needs
                raise ValueError(f"{field} must be distinct, got {list(values)}")
        return self

    def does_without(self, field: str) -> bool:
        """Whether ``skip_absent`` applies. A report of masked tokens alone needs its model and corpus."""
        return self.skip_absent and bool(self.tasks or self.codes or self.efficiency)

    def identity(self) -> RecipeValues:
        """Leave out the folder of the data: the digests of its files are inputs."""
        return {key: value for key, value in super().identity().items() if key != "data"}


class _Run(Recipe):
    """One run: one encoder on one task with one seed. An evaluation makes runs; each is an artifact."""

    encoder: EncoderSection
    """The encoder that is measured."""
    task: Task
    """The task on which it is measured."""
    data: str
    """Folder, or ``s3://bucket/prefix``, of the evaluation sets."""
    seed: int = 0
    """Seed of the head, the order of examples and dropout."""
    num_train: int | None = Field(default=None, ge=1)
    """Number of training examples of a few-shot run. By default all."""
    tuning: TuningSection = TuningSection()
    scaling: EvaluateScaling = EvaluateScaling()

    def identity(self) -> RecipeValues:
        """Leave out the locations of encoder and data: the digests of their files are inputs."""
        values = super().identity()
        encoder = {key: value for key, value in values["encoder"].items() if key not in ("source", "revision")}
        return {key: value for key, value in values.items() if key != "data"} | {"encoder": encoder}


class FineTuneRecipe(_Run):
    """Fine-tune the encoder. The model with its head is published and can be served."""

    mode: ClassVar[Mode] = "fine_tuned"
    kind: Literal["fine_tune"] = "fine_tune"

    def identity(self) -> RecipeValues:
        """Add the format of ``outcomes.npz``: that of model artifacts is of their weights, which stay the same."""
        return super().identity() | {"outcome_format": 2}


class ProbeRecipe(_Run):
    """Measure the frozen encoder by a linear probe on its vectors, or by zero-shot retrieval."""

    mode: ClassVar[Mode] = "frozen"
    kind: Literal["probe"] = "probe"


RunRecipe = FineTuneRecipe | ProbeRecipe
"""What one encoder does on one task with one seed."""


class MapRecipe(Recipe):
    """The 2-D map of code embeddings, with figures in the original space (paper, 4.4 and 5.4)."""

    kind: Literal["map"] = "map"
    model: ModelReference
    """The model whose embeddings are mapped."""
    table: Literal["icd9cm", "icd10cm"] = "icd9cm"
    """Code system. The paper's figure shows ICD-9-CM."""
    pooling: Pooling | None = None
    """How token vectors become one vector; None: as the model was trained, ``cls`` for one without such training."""
    max_codes: int | None = Field(default=None, ge=100)
    """Maximum number of codes on the map: a fixed sample of the table. By default all."""
    synonyms: tuple[TermSource, ...] = ()
    """Vocabularies whose other names the explorer's search knows, as in a ``pairs`` recipe. The tabular list and the lay words of
    the platform need none."""
    perplexity: float = Field(default=30.0, gt=1)
    """t-SNE perplexity."""
    num_iterations: int = Field(default=500, ge=50)
    """t-SNE iterations after early exaggeration."""
    purity_neighbours: int = Field(default=10, ge=1)
    """k of chapter purity@k."""
    seed: int = 0
    """Seed of the sample, the permutation baseline and the untrained encoder."""
    scaling: EvaluateScaling = EvaluateScaling()
