"""Evaluation: the paper's tables and figures for any encoder, one run of a task, and the code map."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from clinical_modernbert.recipe.corpus import SequenceLength
from clinical_modernbert.recipe.heads import Pooling
from clinical_modernbert.recipe.masks import TOP_K
from clinical_modernbert.recipe.section import ModelReference, Recipe, Reference, Section
from clinical_modernbert.recipe.tasks import EncoderSection, Mode, Task, TuningSection

OptionalModelReference = Annotated[str | None, Reference("model")]
OptionalCorpusReference = Annotated[str | None, Reference("corpus")]


class EvaluateScaling(Section):
    """How the work is spread; changes nothing in the output."""

    num_cpus: int = Field(default=2, ge=1)
    """Threads of the scoring process."""
    batch_rows: int = Field(default=32, ge=1)
    """Rows or texts in one forward pass."""
    max_batch_tokens: int = Field(default=16_384, ge=64)
    """Tokens of one forward pass; a longer document is a pass of its own."""
    attention: Literal["packed_sdpa", "flash_varlen"] = "packed_sdpa"
    """Attention of ModernBERT encoders: anywhere, or flash-attn's kernel on a GPU."""
    num_runs: int = Field(default=1, ge=1)
    """Runs (task x encoder x seed) side by side, at most; no more than the cluster has room for."""
    gpus_per_run: float = Field(default=0.0, ge=0)
    """GPUs of a run; a part of one where several small runs share it."""
    max_failures: int = Field(default=2, ge=0)
    """How often a run whose worker was lost begins anew before it is given up; a fault of data or encoder is not tried again."""
    start_timeout_s: float = Field(default=1800, gt=0)
    """Longest wait of a run for its worker to get its resources and start."""


class CodesSection(Section):
    """Figure 2 for every encoder: ICD-9 descriptions, figures in the original space, and the maps side by side."""

    max_codes: int | None = Field(default=None, ge=100)
    """Codes, a fixed sample of the table; all where None."""
    purity_neighbours: int = Field(default=10, ge=1)
    """k of chapter purity@k."""
    perplexity: float = Field(default=30.0, gt=1)
    """t-SNE perplexity."""
    num_iterations: int = Field(default=500, ge=50)
    """t-SNE iterations after early exaggeration."""
    seed: int = 0
    """Seed of the sample, the permutation, the untrained encoder and t-SNE."""


class EfficiencySection(Section):
    """Figure 3: seconds over number of texts, under three labelled protocols."""

    num_texts: Annotated[tuple[int, ...], Field(min_length=1)] = (10_000, 25_000, 50_000, 100_000)
    """Sizes that are timed (the paper: 10,000 to 100,000)."""
    num_tokens: int = Field(default=512, ge=16)
    """Length of each synthetic text in words; inputs are cut to as many tokens."""
    num_rounds: int = Field(default=3, ge=1)
    """Interleaved rounds over all encoders; the mean is reported beside each round."""
    batch_size: int = Field(default=64, ge=1)
    """Texts of a batch in the paper's protocols (its code: 64)."""


class EvaluateRecipe(Recipe):
    """Every table and figure of the paper for any encoder; what has no data is skipped, and the report says so."""

    kind: Literal["evaluate"] = "evaluate"
    model: OptionalModelReference = None
    """A model of the store: its masked tokens are scored (Table 4), and it is one more encoder of every task."""
    corpus: OptionalCorpusReference = None
    """The corpus whose held-out split is scored."""
    skip_absent: bool = False
    """Leave out model and corpus where the store has none of that name, as absent sets and baselines are; the report says so."""
    encoders: tuple[EncoderSection, ...] = ()
    """What is compared."""
    data: str = "data"
    """Folder of the evaluation sets."""
    tasks: tuple[Task, ...] = ()
    """What is measured."""
    modes: Annotated[tuple[Mode, ...], Field(min_length=1)] = ("fine_tuned",)
    """``fine_tuned`` trains the whole model, ``frozen`` a probe on its vectors (retrieval: zero-shot)."""
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (0, 1, 2)
    """Of head, order and dropout."""
    few_shot: tuple[int, ...] = ()
    """Also with so many training examples: a curve."""
    tuning: TuningSection = TuningSection()
    codes: CodesSection | None = None
    """Figure 2."""
    efficiency: EfficiencySection | None = None
    """Figure 3."""
    num_resamples: int = Field(default=1000, ge=100)
    """Bootstrap resamples of an interval, permutations of a paired test."""
    sequence_length: SequenceLength = 128
    """Row length; the corpus must hold shards of this length."""
    max_rows: int = Field(default=4096, ge=1)
    """Held-out rows that are scored."""
    top_k: tuple[int, ...] = TOP_K
    """Ranks at which accuracy is reported."""
    bigram_rows: int = Field(default=65_536, ge=1)
    """Training rows in which the bigram baseline counts neighbours, evenly over the split."""
    scaling: EvaluateScaling = EvaluateScaling()

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.corpus is not None and self.model is None:
            raise ValueError("corpus is what the masked tokens of model are taken from: set model too")
        if not (self.corpus or self.tasks or self.codes or self.efficiency):
            raise ValueError("nothing to do: set corpus (masked tokens), tasks, codes or efficiency")
        if (self.tasks or self.codes or self.efficiency) and not (self.model or self.encoders):
            raise ValueError("nothing to evaluate: set model or encoders")
        for field in ("encoders", "tasks"):
            names = [entry.name for entry in getattr(self, field)]
            if len(set(names)) < len(names):
                raise ValueError(f"{field} must have different names, got {', '.join(names)}")
        return self

    def does_without(self, field: str) -> bool:
        """Whether ``skip_absent`` is set; a report of masked tokens alone has nothing to say without its model."""
        return self.skip_absent and bool(self.tasks or self.codes or self.efficiency)

    def identity(self) -> dict[str, Any]:
        """Leave out where the data lies: the digests of its files are inputs."""
        return {key: value for key, value in super().identity().items() if key != "data"}


class _Run(Recipe):
    """One run: one encoder on one task with one seed. Made by an evaluation; each is an artifact of its own."""

    encoder: EncoderSection
    """The encoder."""
    task: Task
    """The task."""
    data: str
    """Folder of the evaluation sets."""
    seed: int = 0
    """Of head, order and dropout."""
    num_train: int | None = Field(default=None, ge=1)
    """Training examples of a few-shot run; all where None."""
    tuning: TuningSection = TuningSection()
    scaling: EvaluateScaling = EvaluateScaling()

    def identity(self) -> dict[str, Any]:
        """Leave out where encoder and data lie: the digests of their files are inputs."""
        values = super().identity()
        encoder = {key: value for key, value in values["encoder"].items() if key not in ("source", "revision")}
        return {key: value for key, value in values.items() if key != "data"} | {"encoder": encoder}


class FineTuneRecipe(_Run):
    """Fine-tune the encoder; the model with its head is published and can be served."""

    mode: ClassVar[Mode] = "fine_tuned"
    kind: Literal["fine_tune"] = "fine_tune"


class ProbeRecipe(_Run):
    """Measure the frozen encoder: a linear probe on its vectors, or zero-shot retrieval."""

    mode: ClassVar[Mode] = "frozen"
    kind: Literal["probe"] = "probe"


RunRecipe = FineTuneRecipe | ProbeRecipe
"""What one encoder does on one task with one seed."""


class MapRecipe(Recipe):
    """The 2-D map of code embeddings with its figures in the original space (paper, 4.4 and 5.4)."""

    kind: Literal["map"] = "map"
    model: ModelReference
    """The model whose embeddings are mapped."""
    table: Literal["icd9cm", "icd10cm"] = "icd9cm"
    """Code system (the paper's figure: ICD-9-CM)."""
    pooling: Pooling = "cls"
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
