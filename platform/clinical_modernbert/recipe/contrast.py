"""Contrastive training: from an encoder and a pair set to a model whose vectors are near where texts mean the same."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from clinical_modernbert.recipe.batch_course import BatchCourse
from clinical_modernbert.recipe.corpus import SequenceLength
from clinical_modernbert.recipe.optimizer import OptimizerSection
from clinical_modernbert.recipe.pretrain import MaskingSection, ModelCardSection
from clinical_modernbert.recipe.section import OptionalCorpusReference, PairsReference, Recipe, RecipeValues, Section
from clinical_modernbert.recipe.training_run import CheckpointSection, ExportSection, LoggingSection
from clinical_modernbert.recipe.vocabulary import Pooling


class VectorSection(Section):
    """How a text becomes a vector; serving and evaluation use the same pooling."""

    pooling: Pooling = "mean"
    """How token vectors become one vector."""
    max_tokens: int = Field(default=48, ge=8)
    """Longest text in training, in tokens; longer ones are cut. Vocabularies have few beyond 48."""
    matryoshka_dims: tuple[Annotated[int, Field(ge=8)], ...] = ()
    """Widths below the full one at which the vector's beginning is trained too, so that users may cut vectors there."""

    @model_validator(mode="after")
    def _falling(self) -> "VectorSection":
        if list(self.matryoshka_dims) != sorted(set(self.matryoshka_dims), reverse=True):
            raise ValueError(f"matryoshka_dims must be distinct and falling, got {list(self.matryoshka_dims)}")
        return self


class MaskedLanguageSection(Section):
    """A second loss on packed rows of ``corpus``, as in pretraining: the encoder keeps its words while it learns vectors."""

    weight: float = Field(default=0.1, gt=0)
    """Multiplies this loss, the mean over the masked tokens in nats, in the sum."""
    batch_rows: int = Field(default=16, ge=1)
    """Rows in a step's global batch."""
    sequence_length: SequenceLength = 128
    """Tokens a row; the corpus must hold shards of this length."""
    masking: MaskingSection = MaskingSection(rate_start=0.15, rate_end=0.15, odds_start=1.0, odds_end=1.0)
    """Which tokens are masked, as in pretraining."""
    max_held_out_rows: int = Field(default=64, ge=1)
    """Held-out rows of the corpus that are scored with the held-out pairs, under both frozen masks."""


class TeacherSection(Section):
    """A second loss that draws the cosines of a batch to those of another encoder's vectors, of any width."""

    model: str
    """The encoder to learn from, named as ``init`` is. Its content is part of the fingerprint; it is not trained."""
    weight: float = Field(default=1.0, gt=0)
    """Multiplies this loss in the sum: the divergence of each text's similarities from the teacher's, in nats."""
    temperature: float | None = Field(default=None, gt=0)
    """Divisor of the teacher's cosines; None: training.temperature. Teachers whose cosines are all high need a smaller one."""
    pooling: Pooling | None = None
    """How the teacher's token vectors become one; None: as its sentence-transformers files say."""
    prompt: str = ""
    """Text before each text that the teacher reads."""


class ContrastTrainingSection(Section):
    """Length, batches and loss of the run."""

    num_steps: int = Field(default=400, ge=1)
    """Optimizer steps."""
    batch_pairs: int = Field(default=256, ge=2)
    """Pairs in a step's global batch. Every other positive of the batch is a negative, so larger batches are harder."""
    split: Literal["train", "all"] = "train"
    """``train`` leaves out the held-out concepts, for figures; ``all`` trains the model to ship on every pair."""
    weights: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    """Weight of a source of the pair set in the batches, by its name; 1 where not named, 0 leaves the source out."""
    neighbours: int = Field(default=1, ge=1)
    """Pairs that stay together in a batch, as they lie in their source. Neighbours in a code table are siblings: the negatives
    that words tell apart least."""
    temperature: float = Field(default=0.05, gt=0)
    """Divisor of the cosines in the loss: a small one stresses the nearest negatives."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of forward and backward; weights are float32. ``auto``: bfloat16 if the hardware of every worker has it."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of the order of the pairs, of dropout and of masks."""
    masked_language: MaskedLanguageSection | None = None
    """Masked-language loss besides the pairs'; needs ``corpus``, and a ModernBERT with its masked-language head as ``init``."""
    teacher: TeacherSection | None = None
    """Distillation from another encoder's vectors besides the pairs' loss."""

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.num_steps


class HeldOutPairsSection(Section):
    """Figures on held-out pairs before and while training, none with ``training.split=all``."""

    every_steps: int | None = Field(default=100, ge=1)
    """Steps between evaluations; None: only before the first step and after the last."""
    max_pairs: int = Field(default=1000, ge=2)
    """Held-out pairs that are scored, evenly over the split; each has to find its positive among those of all."""


class ContrastScaling(Section):
    """Workers of the run. Changes the output only by rounding, and by the draws of dropout if the encoder has any (MiniLM)."""

    num_workers: int = Field(default=2, ge=1)
    """Training processes: one for each GPU, or for each CPU core. Each sees the negatives of all."""
    use_gpu: bool = False
    """Give each worker a GPU and use NCCL; otherwise CPU and gloo."""
    cpus_per_worker: float = Field(default=1, gt=0)
    """CPUs reserved for each worker."""
    micro_batch_pairs: int = Field(default=128, ge=1)
    """Pairs in one forward pass of one worker. With fewer than its share, vectors are computed twice, and memory does not grow
    with the batch (Gao et al., 2021, arXiv 2101.06983)."""
    micro_batch_rows: int = Field(default=16, ge=1)
    """Rows of training.masked_language in one forward pass of one worker."""
    max_failures: int = Field(default=2, ge=0)
    """Retries after failures that can pass (a lost worker, an unreachable store)."""
    start_timeout_s: float = Field(default=1800, gt=0)
    """Longest wait for all workers to get their resources and start, in seconds."""
    hang_timeout_s: float = Field(default=1800, gt=0)
    """Longest time, in seconds, of one step with its evaluation and checkpoint, and of one exchange between workers."""


class ContrastRecipe(Recipe):
    """A contrastive run: from an encoder and pairs to a sentence-transformers folder with its curve."""

    kind: Literal["contrast"] = "contrast"
    pairs: PairsReference
    """The pair set to train on."""
    corpus: OptionalCorpusReference = None
    """The corpus of ``training.masked_language``, with the tokenizer of ``init``."""
    init: str
    """Encoder to start from, of any architecture of transformers, in safetensors: a model of the store by name or id, the address
    ``<store>/model/<id>`` of one in any store, a folder that every worker has, ``package:<name>/<folder>`` of an installed
    package, or a hub id with an optional ``@<revision>``. Its content is part of the fingerprint."""
    vectors: VectorSection = VectorSection()
    optimizer: OptimizerSection = OptimizerSection(learning_rate=1e-4)
    training: ContrastTrainingSection = ContrastTrainingSection()
    held_out: HeldOutPairsSection = HeldOutPairsSection()
    model_card: ModelCardSection = ModelCardSection()
    export: ExportSection = ExportSection()
    scaling: ContrastScaling = ContrastScaling()
    checkpoint: CheckpointSection = CheckpointSection(every_steps=50)
    logging: LoggingSection = LoggingSection()

    def model_sources(self) -> dict[str, str]:
        """Return the encoder that the run starts from, and its teacher."""
        teacher = self.training.teacher
        return {"init": self.init} | ({"training.teacher.model": teacher.model} if teacher else {})

    def identity(self) -> RecipeValues:
        """Return the settings that decide the output; the digest of an encoder is an input and stands for its address.

        A second loss that is off is left out, so that it changes no fingerprint of runs without it.
        """
        values = super().identity()
        del values["init"], values["export"]
        values.pop("corpus", None)
        training = values["training"]
        if self.training.masked_language is None:
            del training["masked_language"]
        if self.training.teacher is None:
            del training["teacher"]
        else:
            del training["teacher"]["model"]
        return values | self.export.identity()

    @model_validator(mode="after")
    def _pretraining_only(self) -> "ContrastRecipe":
        settings = {
            "optimizer.warmup_tokens": self.optimizer.warmup_tokens is not None,
            "optimizer.decay_tokens": self.optimizer.decay_tokens is not None,
            "checkpoint.keep_after_export": self.checkpoint.keep_after_export,
            "logging.profile": self.logging.profile is not None,
        }
        if wrong := [name for name, is_set in settings.items() if is_set]:
            raise ValueError(f"{', '.join(wrong)}: only for pretraining; batches here are counted in pairs")
        self.optimizer.check_fits(self.training.num_steps, tokens=BatchCourse(0))
        return self

    @model_validator(mode="after")
    def _corpus_is_used(self) -> "ContrastRecipe":
        if (self.corpus is None) != (self.training.masked_language is None):
            raise ValueError(
                f"corpus={self.corpus} and training.masked_language={'set' if self.training.masked_language else None}: "
                "the masked-language loss needs a corpus, and nothing else reads one; set both or neither"
            )
        return self

    @model_validator(mode="after")
    def _batches_divide(self) -> "ContrastRecipe":
        scaling, masked = self.scaling, self.training.masked_language
        _check_share("pairs", "training", self.training.batch_pairs, scaling.micro_batch_pairs, scaling.num_workers)
        if masked:
            section = "training.masked_language"
            _check_share("rows", section, masked.batch_rows, scaling.micro_batch_rows, scaling.num_workers)
        return self


def _check_share(unit: str, section: str, batch: int, micro: int, workers: int) -> None:
    """Raise ``ValueError`` unless a batch divides over the workers, and a worker's share over its micro-batches."""
    if batch % workers:
        raise ValueError(f"{section}.batch_{unit}={batch} must be a multiple of scaling.num_workers={workers}")
    if micro < batch // workers and (batch // workers) % micro:
        raise ValueError(
            f"scaling.micro_batch_{unit}={micro} must divide the {unit} of a worker, {section}.batch_{unit} / "
            f"scaling.num_workers = {batch} / {workers} = {batch // workers}"
        )
