"""Contrastive training: from an encoder and a pair set to a model whose vectors are near where texts mean the same."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from clinical_modernbert.recipe.optimizer import OptimizerSection
from clinical_modernbert.recipe.pretrain import ModelCardSection
from clinical_modernbert.recipe.section import PairsReference, Recipe, RecipeValues, Section
from clinical_modernbert.recipe.training_run import CheckpointSection, LoggingSection
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
    """Seed of the order of the pairs and of dropout."""

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.num_steps


class HeldOutPairsSection(Section):
    """Figures on held-out pairs while training, none with ``training.split=all``."""

    every_steps: int | None = Field(default=100, ge=1)
    """Steps between evaluations; None: only after the last step."""
    max_pairs: int = Field(default=1000, ge=2)
    """Held-out pairs that are scored, evenly over the split; each has to find its positive among those of all."""


class ContrastScaling(Section):
    """Workers of the run; changes the output only by rounding."""

    num_workers: int = Field(default=2, ge=1)
    """Training processes: one for each GPU, or for each CPU core. Each sees the negatives of all."""
    use_gpu: bool = False
    """Give each worker a GPU and use NCCL; otherwise CPU and gloo."""
    cpus_per_worker: float = Field(default=1, gt=0)
    """CPUs reserved for each worker."""
    micro_batch_pairs: int = Field(default=128, ge=1)
    """Pairs in one forward pass of one worker. With fewer than its share, vectors are computed twice, and memory does not grow
    with the batch (Gao et al., 2021, arXiv 2101.06983)."""
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
    init: str
    """Encoder to start from, of any architecture of transformers, in safetensors: a model of the store by name or id, the address
    ``<store>/model/<id>`` of one in any store, a folder that every worker has, ``package:<name>/<folder>`` of an installed
    package, or a hub id with an optional ``@<revision>``. Its content is part of the fingerprint."""
    vectors: VectorSection = VectorSection()
    optimizer: OptimizerSection = OptimizerSection(
        algorithm="adamw", learning_rate=1e-4, schedule="linear", beta2=0.999, epsilon=1e-8
    )
    training: ContrastTrainingSection = ContrastTrainingSection()
    held_out: HeldOutPairsSection = HeldOutPairsSection()
    model_card: ModelCardSection = ModelCardSection()
    scaling: ContrastScaling = ContrastScaling()
    checkpoint: CheckpointSection = CheckpointSection(every_steps=500)
    logging: LoggingSection = LoggingSection()

    def model_sources(self) -> dict[str, str]:
        """Return the encoder that the run starts from."""
        return {"init": self.init}

    def identity(self) -> RecipeValues:
        """Return the settings that decide the output; the encoder's digest is an input and stands for its address."""
        return {key: value for key, value in super().identity().items() if key != "init"}

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
        return self

    @model_validator(mode="after")
    def _batch_divides(self) -> "ContrastRecipe":
        pairs, workers, micro = self.training.batch_pairs, self.scaling.num_workers, self.scaling.micro_batch_pairs
        if pairs % workers:
            raise ValueError(f"training.batch_pairs={pairs} must be a multiple of scaling.num_workers={workers}")
        if micro < pairs // workers and (pairs // workers) % micro:
            raise ValueError(
                f"scaling.micro_batch_pairs={micro} must divide the pairs of a worker, training.batch_pairs / "
                f"scaling.num_workers = {pairs} / {workers} = {pairs // workers}"
            )
        return self
