"""Pretraining: model, masking, optimisation, phases, scaling."""

from typing import Literal, Self

from pydantic import Field, model_validator

from clinical_modernbert.recipe.corpus import SequenceLength
from clinical_modernbert.recipe.section import CorpusReference, Recipe, Section


class ModelSection(Section):
    """The encoder: a checkpoint to continue from, or the shape of one built from scratch."""

    init: str = "scratch"
    """``scratch``, or a hub id, a folder or a store URI of a ModernBERT checkpoint."""
    hidden_size: int = Field(default=768, ge=32)
    """Width of the residual stream."""
    intermediate_size: int = Field(default=1152, ge=32)
    """Width of the GeGLU layer."""
    num_layers: int = Field(default=22, ge=1)
    """Transformer layers."""
    num_heads: int = Field(default=12, ge=1)
    """Attention heads; divides hidden_size."""
    local_attention: int = Field(default=128, ge=2, multiple_of=2)
    """Window of local layers in tokens: each token sees half of it on either side, inclusive."""
    global_every_layers: int = Field(default=3, ge=1)
    """Every n-th layer, from the first, attends to the whole segment."""
    global_rope_theta: float = Field(default=160_000.0, gt=0)
    """RoPE base of global layers."""
    local_rope_theta: float = Field(default=10_000.0, gt=0)
    """RoPE base of local layers."""
    max_position_embeddings: int = Field(default=8192, ge=16)
    """Longest segment in tokens."""

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.hidden_size % self.num_heads or (self.hidden_size // self.num_heads) % 2:
            raise ValueError(
                f"num_heads={self.num_heads} must divide hidden_size={self.hidden_size} into an even head width"
            )
        return self


class MaskingSection(Section):
    """Which tokens are masked, and how many at which step (paper, 3.3)."""

    strategy: Literal["token_aware", "uniform"] = "token_aware"
    """``token_aware`` prefers whole clinical terms; ``uniform`` draws every ordinary token alike."""
    rate_start: float = Field(default=0.30, gt=0, lt=1)
    """Share of ordinary tokens masked at the first step."""
    rate_end: float = Field(default=0.15, gt=0, lt=1)
    """Share at the last step; between the two the rate is linear in the step."""
    odds_start: float = Field(default=4.0, ge=1)
    """Odds of a clinical token to be masked against those of any other, at the first step."""
    odds_end: float = Field(default=1.0, ge=1)
    """The same at the last step; linear between."""


class OptimizerSection(Section):
    """AdamW with linear warm-up and cosine decay."""

    learning_rate: float = Field(default=5e-4, gt=0)
    """Peak learning rate."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Decay of the first moment."""
    beta2: float = Field(default=0.98, ge=0, lt=1)
    """Decay of the second moment."""
    epsilon: float = Field(default=1e-6, gt=0)
    """Added to the root of the second moment."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Decoupled weight decay; norms are excluded."""
    warmup_fraction: float = Field(default=0.1, ge=0, lt=1)
    """Share of the steps over which the rate rises from 0."""
    final_fraction: float = Field(default=0.0, ge=0, le=1)
    """Learning rate at the last step as a share of the peak."""
    max_gradient_norm: float | None = Field(default=1.0, gt=0)
    """Gradients are scaled down to this global norm; None leaves them as they are."""


class TrainingSection(Section):
    """How long, on what batches, in which precision."""

    sequence_length: SequenceLength = 128
    """Tokens a row; the corpus must hold shards of this length."""
    num_steps: int = Field(default=150_000, ge=1)
    """Optimizer steps (paper: 150,000)."""
    batch_rows: int = Field(default=677, ge=1)
    """Rows in the global batch of a step (13 B tokens in one pass at length 128 are 677)."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """Arithmetic of forward and backward; master weights stay float32."""
    seed: int = 0
    """Seed of the initial weights, the order of the rows and the masks."""


class HeldOutLossSection(Section):
    """Held-out evaluation while training, on the frozen masks."""

    every_steps: int | None = Field(default=None, ge=1)
    """Steps between evaluations; only after the last step where None."""
    max_rows: int = Field(default=256, ge=1)
    """Held-out rows that are scored."""


class TrainScaling(Section):
    """Where and how wide a run happens; changes the output only by rounding."""

    num_workers: int = Field(default=2, ge=1)
    """Training processes (one a GPU, or one a CPU core)."""
    use_gpu: bool = False
    """Give each worker a GPU and use NCCL; otherwise CPU and gloo."""
    cpus_per_worker: float = Field(default=1, gt=0)
    """CPUs reserved for each worker."""
    micro_batch_rows: int = Field(default=16, ge=1)
    """Rows in one forward pass of one worker."""
    engine: Literal["deepspeed", "torch"] = "deepspeed"
    """Who owns optimizer state and gradient exchange."""
    zero_stage: Literal[0, 1, 2] = 1
    """DeepSpeed ZeRO stage."""
    attention: Literal["packed_sdpa"] = "packed_sdpa"
    """Attention over packed rows."""
    max_failures: int = Field(default=2, ge=0)
    """Worker failures after which the run is given up."""


class CheckpointSection(Section):
    """Resumable state while training; changes nothing in the output."""

    every_steps: int | None = Field(default=10_000, ge=1)
    """Steps between checkpoints (paper: 10,000); none where None."""
    keep: int = Field(default=2, ge=1)
    """Newest checkpoints that are kept."""


class LoggingSection(Section):
    """What is recorded on the way; changes nothing in the output."""

    every_steps: int = Field(default=10, ge=1)
    """Steps between two points of the recorded curves."""


class PretrainRecipe(Recipe):
    """A pretraining run: a corpus in, a Hugging Face model folder with its curves out."""

    kind: Literal["pretrain"] = "pretrain"
    corpus: CorpusReference
    """The corpus to train on."""
    model: ModelSection = ModelSection()
    masking: MaskingSection = MaskingSection()
    optimizer: OptimizerSection = OptimizerSection()
    training: TrainingSection = TrainingSection()
    held_out_loss: HeldOutLossSection = HeldOutLossSection()
    scaling: TrainScaling = TrainScaling()
    checkpoint: CheckpointSection = CheckpointSection()
    logging: LoggingSection = LoggingSection()

    @model_validator(mode="after")
    def _batch_divides(self) -> Self:
        share = self.scaling.num_workers * self.scaling.micro_batch_rows
        if self.training.batch_rows % share:
            raise ValueError(
                f"training.batch_rows={self.training.batch_rows} must be a multiple of scaling.num_workers * "
                f"scaling.micro_batch_rows = {self.scaling.num_workers} * {self.scaling.micro_batch_rows} = {share}"
            )
        if self.training.sequence_length > self.model.max_position_embeddings:
            raise ValueError(
                f"training.sequence_length={self.training.sequence_length} is longer than "
                f"model.max_position_embeddings={self.model.max_position_embeddings}"
            )
        return self
