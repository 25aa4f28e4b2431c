"""Pretraining: model, masking, optimisation, phases, scaling."""

from typing import Literal, Self

from pydantic import Field, model_validator

from clinical_modernbert.recipe.corpus import SequenceLength
from clinical_modernbert.recipe.section import CorpusReference, Recipe, RecipeValues, Section

PAPER_NUM_STEPS = 150_000


class ModelSection(Section):
    """The encoder: a checkpoint to continue from, which has its own shape, or the shape of one built from scratch."""

    init: str = "scratch"
    """``scratch``, or a ModernBERT checkpoint: a model of the store by name or id, the address ``<store>/model/<id>`` of one in
    any store, a folder that every worker has, or a hub id with an optional ``@<revision>``. Its content is part of the
    fingerprint. A checkpoint has its own shape: a shape field that is not at its default must equal the checkpoint's."""
    hidden_size: int = Field(default=768, ge=32)
    """Width of the residual stream."""
    intermediate_size: int = Field(default=1152, ge=32)
    """Width of the GeGLU layer."""
    num_layers: int = Field(default=22, ge=1)
    """Transformer layers."""
    num_heads: int = Field(default=12, ge=1)
    """Attention heads; divides hidden_size."""
    local_attention: int = Field(default=128, ge=2, multiple_of=2)
    """Window of local layers in tokens: each token attends to half of it on either side, inclusive."""
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
    """``token_aware`` prefers whole clinical terms; ``uniform`` masks every token with the same chance."""
    rate_start: float = Field(default=0.30, gt=0, lt=1)
    """Share of tokens masked at the first step."""
    rate_end: float = Field(default=0.15, gt=0, lt=1)
    """Share of tokens masked at the last step; linear in the step between. Equal to rate_start: constant."""
    odds_start: float = Field(default=4.0, ge=1)
    """Odds that a clinical token is masked, relative to any other token, at the first step."""
    odds_end: float = Field(default=1.0, ge=1)
    """Odds at the last step; linear in the step between."""


Schedule = Literal["cosine", "constant", "linear", "one_minus_sqrt", "wsd"]


class OptimizerSection(Section):
    """The optimizer and the learning rate by step."""

    algorithm: Literal["stable_adamw", "adamw"] = "stable_adamw"
    """``stable_adamw`` (paper, 3.3) clips the update of each tensor by its own RMS; ``adamw`` is torch's."""
    learning_rate: float = Field(default=5e-4, gt=0)
    """Peak learning rate."""
    schedule: Schedule = "cosine"
    """From the warm-up to the last step: ``cosine``, ``linear`` and ``one_minus_sqrt`` fall to final_fraction, ``constant`` does
    not fall, ``wsd`` is constant and then falls like one_minus_sqrt over the last decay_fraction of the steps."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Decay of the first moment."""
    beta2: float = Field(default=0.98, ge=0, lt=1)
    """Decay of the second moment."""
    epsilon: float = Field(default=1e-6, gt=0)
    """Added to the square root of the second moment."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Weight decay, multiplied by the learning rate of the step; norms and biases are excluded. ModernBERT and BioClinical
    ModernBERT state theirs (1e-5, ``decoupled_stableadamw``) for a decay that is multiplied by the rate's share of its peak
    instead: divide such a number by learning_rate (1e-5 at a rate of 3e-4 is 0.033 here). Numbers for AdamW in torch or
    transformers apply as they are."""
    warmup_fraction: float = Field(default=0.1, ge=0, lt=1)
    """Share of the steps over which the learning rate rises linearly from 0; warmup_steps or warmup_tokens replace it."""
    warmup_steps: int | None = Field(default=None, ge=0)
    """Steps of the warm-up. Unlike a share, they stay the same if the run becomes longer."""
    warmup_tokens: int | None = Field(default=None, ge=0)
    """Tokens of the warm-up, rounded up to whole steps."""
    decay_fraction: float = Field(default=0.1, gt=0, le=1)
    """Share of the steps over which ``wsd`` falls; decay_steps or decay_tokens replace it."""
    decay_steps: int | None = Field(default=None, ge=1)
    """Last steps of the run over which ``wsd`` falls."""
    decay_tokens: int | None = Field(default=None, ge=1)
    """Last tokens of the run over which ``wsd`` falls, rounded up to whole steps."""
    final_fraction: float = Field(default=0.0, ge=0, le=1)
    """Learning rate at the last step as a share of the peak."""
    max_gradient_norm: float | None = Field(default=1.0, gt=0)
    """Largest global norm of the gradients, which are scaled down to it; None: no limit."""

    def num_warmup_steps(self, num_steps: int, *, batch_tokens: int) -> int:
        """Return the steps of the warm-up in a run of ``num_steps``."""
        return _steps(self.warmup_steps, self.warmup_tokens, batch_tokens, share=self.warmup_fraction * num_steps)

    def num_decay_steps(self, num_steps: int, *, batch_tokens: int) -> int:
        """Return the steps over which ``wsd`` falls in a run of ``num_steps``; at least one."""
        return max(_steps(self.decay_steps, self.decay_tokens, batch_tokens, share=self.decay_fraction * num_steps), 1)

    @model_validator(mode="after")
    def _one_unit(self) -> Self:
        for name, steps, tokens in (
            ("warmup", self.warmup_steps, self.warmup_tokens),
            ("decay", self.decay_steps, self.decay_tokens),
        ):
            if steps is not None and tokens is not None:
                raise ValueError(f"{name}_steps={steps} and {name}_tokens={tokens} exclude each other")
        if self.schedule != "wsd" and (self.decay_steps or self.decay_tokens):
            raise ValueError(f"decay_steps and decay_tokens belong to schedule=wsd, got schedule={self.schedule}")
        return self


def _steps(steps: int | None, tokens: int | None, batch_tokens: int, *, share: float) -> int:
    if steps is not None:
        return steps
    return round(share) if tokens is None else -(-tokens // batch_tokens)


class PhaseSection(Section):
    """A range of steps with its own row length. A step has the same number of tokens in every phase."""

    sequence_length: SequenceLength
    """Tokens a row; the corpus must hold shards of this length."""
    num_steps: int | None = Field(default=None, ge=1)
    """Optimizer steps of the phase; set either this or tokens."""
    tokens: int | None = Field(default=None, ge=1)
    """Tokens of the phase, rounded up to whole steps."""
    schedule: Schedule | None = None
    """Schedule over the steps of this phase only. Set it in all phases or in none; then optimizer.schedule spans the run."""
    learning_rate: float | None = Field(default=None, gt=0)
    """Peak of the phase's schedule; None: optimizer.learning_rate."""
    warmup_fraction: float = Field(default=0.0, ge=0, lt=1)
    """Share of the phase's steps over which its schedule rises from 0; warmup_steps replaces it."""
    warmup_steps: int | None = Field(default=None, ge=0)
    """Steps over which the phase's schedule rises from 0."""
    final_fraction: float = Field(default=0.0, ge=0, le=1)
    """Learning rate at the end of the phase's schedule, as a share of its peak."""
    mask_rate: float | None = Field(default=None, gt=0, lt=1)
    """Share of tokens masked in every step of the phase; None: the rate of the masking section."""
    salience_odds: float | None = Field(default=None, ge=1)
    """Odds of clinical tokens in every step of the phase; None: the odds of the masking section."""
    global_rope_theta: float | None = Field(default=None, gt=0)
    """RoPE base of global layers from this phase on; None: as in the phase before."""

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.num_steps is None) == (self.tokens is None):
            raise ValueError(
                f"a phase needs num_steps or tokens, one of the two: got {self.num_steps} and {self.tokens}"
            )
        own = (self.learning_rate, self.warmup_fraction, self.warmup_steps, self.final_fraction)
        if self.schedule is None and any(own):
            raise ValueError(
                "learning_rate, warmup_fraction, warmup_steps and final_fraction of a phase need a schedule of the phase"
            )
        if self.schedule == "wsd":
            raise ValueError("schedule=wsd spans a run; give one phase schedule=constant and the next one_minus_sqrt")
        return self


class TrainingSection(Section):
    """Length, batches and precision of the run."""

    sequence_length: SequenceLength = 128
    """Tokens a row; the corpus must hold shards of this length."""
    num_steps: int | None = Field(default=None, ge=1)
    """Optimizer steps of a run without phases; None: 150,000 (as in the paper)."""
    batch_rows: int = Field(default=704, ge=1)
    """Rows of ``sequence_length`` tokens in a step's global batch. The paper's 13 B tokens in 150,000 steps of length 128 are 677
    rows a step; 704 is the next number that divides over many workers."""
    phases: tuple[PhaseSection, ...] = ()
    """Phases of different row lengths, in order. Without phases, the run is one phase of ``num_steps`` at ``sequence_length``.
    Every phase has batch_rows * sequence_length tokens a step, so longer rows mean fewer rows a step."""
    continue_from: str | None = None
    """A kept state, ``<run>@<step>``, from which the run continues with weights, optimizer and step: to extend that run (more
    num_steps), or to branch from it (another schedule, corpus or rate from that step on). All steps before count as done. The
    run must have kept it by checkpoint.keep_after_export; model, tokenizer and engine must be the same. None: start at step 0."""
    export: Literal["last", "best"] = "last"
    """The weights of the model. ``last``: after the last step. ``best``: of the checkpoint with the lowest held-out loss (uniform
    mask) on rows of the last phase's length, if it is lower than the last. Needs held_out_loss.every_steps, and
    checkpoint.every_steps as a multiple of it, so that each checkpoint's own weights are measured."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of forward and backward; weights are float32. ``auto``: bfloat16 if the hardware of every worker has it."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of the initial weights, the row order and the masks."""

    @property
    def batch_tokens(self) -> int:
        """Places for tokens in a step's global batch."""
        return self.batch_rows * self.sequence_length

    @property
    def resolved_phases(self) -> tuple[PhaseSection, ...]:
        """The phases; without any, the one of the short form."""
        return self.phases or (
            PhaseSection(sequence_length=self.sequence_length, num_steps=self.num_steps or PAPER_NUM_STEPS),
        )

    def steps_of(self, phase: PhaseSection) -> int:
        """Return the phase's optimizer steps."""
        return phase.num_steps or -(-(phase.tokens or 0) // self.batch_tokens)

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return sum(self.steps_of(phase) for phase in self.resolved_phases)

    @model_validator(mode="after")
    def _steps_remain(self) -> Self:
        run, _, step = (self.continue_from or "@0").rpartition("@")
        if not step.isdigit() or (self.continue_from and not run):
            raise ValueError(
                f"continue_from={self.continue_from} is not <run>@<step>, for example base-1f4d6bea29b5@10000"
            )
        if int(step) >= self.total_steps:
            raise ValueError(
                f"continue_from={self.continue_from} has all of the run's {self.total_steps} steps: steps count from the "
                "beginning of the first run, so num_steps, or the sum of the phases, must be higher"
            )
        return self

    @model_validator(mode="after")
    def _phases_fit(self) -> Self:
        if self.phases and self.num_steps is not None:
            raise ValueError(
                f"num_steps={self.num_steps} and phases exclude each other: each phase has its own number of steps"
            )
        if len({phase.schedule is None for phase in self.phases}) > 1:
            raise ValueError("either every phase has its own schedule or none has, here some have")
        for number, phase in enumerate(self.phases):
            if self.batch_tokens % phase.sequence_length:
                raise ValueError(
                    f"phases.{number}.sequence_length={phase.sequence_length} must divide the tokens of a step, "
                    f"batch_rows * sequence_length = {self.batch_rows} * {self.sequence_length} = {self.batch_tokens}"
                )
        return self


class HeldOutLossSection(Section):
    """Held-out evaluation during training, under the frozen masks."""

    every_steps: int | None = Field(default=None, ge=1)
    """Steps between evaluations; None: only after the last step."""
    max_rows: int = Field(default=256, ge=1)
    """Held-out rows that are scored: evenly over the split, the same at each evaluation."""


class TrainScaling(Section):
    """Workers and engine of the run; changes the output only by rounding."""

    num_workers: int = Field(default=2, ge=1)
    """Training processes: one for each GPU, or for each CPU core."""
    use_gpu: bool = False
    """Give each worker a GPU and use NCCL; otherwise CPU and gloo."""
    cpus_per_worker: float = Field(default=1, gt=0)
    """CPUs reserved for each worker."""
    micro_batch_rows: int = Field(default=16, ge=1)
    """Rows of training.sequence_length in one forward pass of one worker; phases of other lengths have as many tokens."""
    engine: Literal["deepspeed", "torch"] = "deepspeed"
    """Library that holds the optimizer state and exchanges gradients."""
    zero_stage: Literal[0, 1, 2] = 1
    """DeepSpeed ZeRO stage."""
    attention: Literal["packed_sdpa", "flash_varlen"] = "packed_sdpa"
    """Attention over packed rows: ``packed_sdpa`` runs on any hardware, ``flash_varlen`` needs flash-attn, a GPU and
    bfloat16."""
    activation_checkpointing: bool = False
    """Keep only each layer's input for the backward pass and compute the layer again there: less memory, about a third more time.
    For large models at 8,192 tokens."""
    compile: bool = False
    """Compile the feed-forward layers with torch.compile; needs a compiler on every worker."""
    peak_teraflops: float | None = Field(default=None, gt=0)
    """Peak of one worker's hardware in 10^12 operations a second, for MFU; None: that of a known GPU in bfloat16."""
    overlap: bool = False
    """Exchange gradients during the backward pass (DeepSpeed's ``overlap_comm``), on GPUs."""
    max_failures: int = Field(default=2, ge=0)
    """Retries after failures that can pass (a lost worker, an unreachable store). Errors of the recipe, the corpus or the loss
    are never retried."""
    start_timeout_s: float = Field(default=1800, gt=0)
    """Longest wait for all workers to get their resources and start, in seconds."""
    hang_timeout_s: float = Field(default=1800, gt=0)
    """Longest time, in seconds, of one step with its evaluation and checkpoint, and of one exchange between workers. A worker
    that takes longer ends itself, which counts as a failure."""


class CheckpointSection(Section):
    """Resumable state during training; does not change the output."""

    every_steps: int | None = Field(default=10_000, ge=1)
    """Steps between checkpoints (paper: 10,000); None: no checkpoints."""
    keep: int | None = Field(default=2, ge=1)
    """Number of newest checkpoints to keep; None: all."""
    keep_after_export: bool = False
    """Keep these checkpoints after the export, and one after the last step, for training.continue_from and averages of models.
    That of a base model has 1.8 GB. Without it all are deleted."""
    keep_best: int = Field(default=1, ge=0)
    """Number of checkpoints with the lowest held-out loss (uniform mask) to keep, in addition to the newest. Those that were
    evaluated after the same step count, on rows of the newest one's length."""


class StabilitySection(Section):
    """What to do if the loss is not a number, or jumps. The rule depends on losses only, so a resumed run decides the same."""

    action: Literal["stop", "roll_back"] = "stop"
    """``stop`` ends the run; ``roll_back`` continues from the newest checkpoint and skips the batches since then
    (Chowdhery et al., 2022, section 5.1)."""
    spike_factor: float | None = Field(default=None, gt=1)
    """A loss above this multiple of the median over the window is a spike; None: spikes are not detected."""
    window_steps: int = Field(default=100, ge=1)
    """Number of previous steps in the median. Spikes are not detected until this many steps have run."""
    max_rollbacks: int = Field(default=3, ge=1)
    """Rollbacks of one run; the next bad loss after them ends it."""


class ProfileSection(Section):
    """The steps whose trace is recorded on the first worker."""

    first_step: int = Field(default=10, ge=0)
    """First step that is profiled; the first steps of a run are slower than the others."""
    num_steps: int = Field(default=3, ge=1)
    """Number of steps; a trace has some megabytes a step."""


class LoggingSection(Section):
    """What is recorded during training; does not change the output."""

    every_steps: int = Field(default=10, ge=1)
    """Steps between two points of the recorded curve."""
    trackers: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = ()
    """Trackers that also get the curve during the run; the store always has it. Each needs its package."""
    trackers_path: str = "runs"
    """Folder of the trackers' files on the machine that starts the run. MLflow uses MLFLOW_TRACKING_URI instead if it is set;
    Weights & Biases is offline unless WANDB_MODE is set."""
    profile: ProfileSection | None = None
    """Record a trace of some steps into the model's artifact (``profile/trace.json.gz``); None: none. A run that resumes after
    these steps has no trace."""


class ModelCardSection(Section):
    """Facts of the model card that are in no manifest."""

    licence: str | None = None
    """Licence of the model, as a Hugging Face licence id; None: the card states none."""
    source_licences: dict[str, str] = Field(default_factory=dict)
    """Licence of a corpus source by its name, in place of what is known of its type: files have licences, formats don't."""


class PretrainRecipe(Recipe):
    """A pretraining run: from a corpus to a Hugging Face model folder with its curve."""

    kind: Literal["pretrain"] = "pretrain"
    corpus: CorpusReference
    """The corpus to train on."""
    model: ModelSection = ModelSection()
    masking: MaskingSection = MaskingSection()
    optimizer: OptimizerSection = OptimizerSection()
    training: TrainingSection = TrainingSection()
    stability: StabilitySection = StabilitySection()
    held_out_loss: HeldOutLossSection = HeldOutLossSection()
    model_card: ModelCardSection = ModelCardSection()
    scaling: TrainScaling = TrainScaling()
    checkpoint: CheckpointSection = CheckpointSection()
    logging: LoggingSection = LoggingSection()

    def model_sources(self) -> dict[str, str]:
        """Return the checkpoint that the run starts from, if any."""
        return {} if self.model.init == "scratch" else {"model.init": self.model.init}

    def state_sources(self) -> dict[str, str]:
        """Return the state that the run continues, if any."""
        return {"training.continue_from": self.training.continue_from} if self.training.continue_from else {}

    def identity(self) -> RecipeValues:
        """Return the settings that decide the output.

        Under ``export=best`` they include which steps have checkpoints. A run from a checkpoint has the checkpoint's digest as an
        input instead of its address and shape, and so has a run that continues a state.
        """
        values = super().identity()
        del values["training"]["continue_from"]
        if self.model_sources():
            del values["model"]
        if self.training.export == "best":
            values["checkpoint"] = {"every_steps": self.checkpoint.every_steps}
        return values

    @model_validator(mode="after")
    def _overlap_is_possible(self) -> Self:
        scaling = self.scaling
        if scaling.overlap and (scaling.engine != "deepspeed" or not scaling.use_gpu or not scaling.zero_stage):
            raise ValueError(
                "scaling.overlap needs engine=deepspeed, zero_stage 1 or 2 and use_gpu=true, got "
                f"{scaling.engine}, {scaling.zero_stage} and {scaling.use_gpu}"
            )
        return self

    @model_validator(mode="after")
    def _kernel_fits_precision(self) -> Self:
        if self.scaling.attention == "flash_varlen" and self.training.precision == "float32":
            raise ValueError(
                "scaling.attention=flash_varlen needs training.precision=bfloat16 (or auto on GPUs with it), got float32: "
                "set that, or scaling.attention=packed_sdpa"
            )
        return self

    @model_validator(mode="after")
    def _states_are_kept(self) -> Self:
        if self.training.export == "best" and not (
            self.held_out_loss.every_steps and self.checkpoint.every_steps and self.checkpoint.keep_best
        ):
            raise ValueError(
                "training.export=best selects a checkpoint by its held-out loss and needs held_out_loss.every_steps, "
                f"checkpoint.every_steps and checkpoint.keep_best, got {self.held_out_loss.every_steps}, "
                f"{self.checkpoint.every_steps} and {self.checkpoint.keep_best}"
            )
        if self.training.export == "best" and (self.checkpoint.every_steps or 0) % (
            self.held_out_loss.every_steps or 1
        ):
            raise ValueError(
                "training.export=best compares checkpoints by the held-out loss of their own weights: checkpoint.every_steps="
                f"{self.checkpoint.every_steps} must be a multiple of held_out_loss.every_steps={self.held_out_loss.every_steps}"
            )
        if self.stability.action == "roll_back" and not self.checkpoint.every_steps:
            raise ValueError(
                "stability.action=roll_back needs checkpoint.every_steps: there is no checkpoint to return to otherwise"
            )
        return self

    @model_validator(mode="after")
    def _profile_ends(self) -> Self:
        profile = self.logging.profile
        if profile and profile.first_step + profile.num_steps > self.training.total_steps:
            raise ValueError(
                f"logging.profile ends after step {profile.first_step + profile.num_steps}, the run after "
                f"{self.training.total_steps}"
            )
        return self

    @model_validator(mode="after")
    def _warmup_ends(self) -> Self:
        if any(phase.schedule for phase in self.training.phases):
            return self  # the phases' schedules replace the run's
        num_steps, batch_tokens = self.training.total_steps, self.training.batch_tokens
        warmup = self.optimizer.num_warmup_steps(num_steps, batch_tokens=batch_tokens)
        decay = self.optimizer.num_decay_steps(num_steps, batch_tokens=batch_tokens)
        # A share of the decay may be all steps: then it begins where the warm-up ends.
        falls = self.optimizer.decay_steps or self.optimizer.decay_tokens
        if warmup > num_steps or (falls and warmup + decay > num_steps):
            fall = f" and a decay of {decay}" if falls else ""
            raise ValueError(
                f"optimizer: a warm-up of {warmup} steps{fall} does not fit into the run's {num_steps} steps"
            )
        return self

    @model_validator(mode="after")
    def _batch_divides(self) -> Self:
        training, scaling = self.training, self.scaling
        share = scaling.num_workers * scaling.micro_batch_rows
        if training.batch_rows % share:
            raise ValueError(
                f"training.batch_rows={training.batch_rows} must be a multiple of scaling.num_workers * "
                f"scaling.micro_batch_rows = {scaling.num_workers} * {scaling.micro_batch_rows} = {share}"
            )
        longest = max(phase.sequence_length for phase in training.resolved_phases)
        if longest > self.model.max_position_embeddings:
            raise ValueError(
                f"training.sequence_length={longest} is longer than "
                f"model.max_position_embeddings={self.model.max_position_embeddings}"
            )
        micro_tokens = scaling.micro_batch_rows * training.sequence_length
        for number, phase in enumerate(training.phases):
            if micro_tokens % phase.sequence_length:
                raise ValueError(
                    f"training.phases.{number}.sequence_length={phase.sequence_length} must divide the tokens of a micro-batch, "
                    f"scaling.micro_batch_rows * training.sequence_length = {scaling.micro_batch_rows} * "
                    f"{training.sequence_length} = {micro_tokens}"
                )
        return self
