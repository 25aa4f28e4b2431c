"""Pretraining: model, masking, optimisation, phases, scaling."""

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from clinical_modernbert.errors import RecipeError
from clinical_modernbert.recipe.batch_course import BatchCourse, BatchWarmupSection
from clinical_modernbert.recipe.corpus import SequenceLength
from clinical_modernbert.recipe.optimizer import OptimizerSection
from clinical_modernbert.recipe.phases import PhaseSection
from clinical_modernbert.recipe.section import CorpusReference, Recipe, RecipeValues, Section
from clinical_modernbert.recipe.training_run import (
    CheckpointSection,
    CodeProbeSection,
    ExportSection,
    LoggingSection,
    StabilitySection,
    TrainScaling,
)

PAPER_NUM_STEPS = 150_000


class ModelSection(Section):
    """The encoder: a checkpoint to continue from, which has its own shape, or the shape of one built from scratch."""

    init: str = "scratch"
    """``scratch``, or a ModernBERT checkpoint: a model of the store by name or id, the address ``<store>/model/<id>`` of one in
    any store, a folder that every worker has, ``package:<name>/<folder>`` of an installed package, or a hub id with an
    optional ``@<revision>``. Its content is part of the fingerprint. A checkpoint has its own shape: a shape field that is not
    at its default must equal the checkpoint's."""
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


class TrainingSection(Section):
    """Length, batches and precision of the run."""

    sequence_length: SequenceLength = 128
    """Tokens a row; the corpus must hold shards of this length."""
    num_steps: int | None = Field(default=None, ge=1)
    """Optimizer steps of a run without phases; None: 150,000 (as in the paper)."""
    batch_rows: int = Field(default=704, ge=1)
    """Rows of ``sequence_length`` tokens in a step's global batch. The paper's 13 B tokens in 150,000 steps of length 128 are 677
    rows a step; 704 is the next number that divides over many workers."""
    batch_warmup: BatchWarmupSection | None = None
    """Smaller batches at the beginning of the first phase; None: every batch has batch_rows."""
    phases: tuple[PhaseSection, ...] = ()
    """Phases of different row lengths, corpora or objectives, in order. Without phases, the run is one phase of ``num_steps`` at
    ``sequence_length``. Every phase has batch_rows * sequence_length tokens a step (fewer in batch_warmup), so longer rows mean
    fewer rows a step."""
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
        """Places for tokens in a step's global batch, after batch_warmup."""
        return self.batch_rows * self.sequence_length

    @property
    def course(self) -> BatchCourse:
        """Rows of sequence_length in each step's global batch.

        The sizes of the warm-up are start_rows, 2 * start_rows, ... below batch_rows, each for an equal share of its tokens.
        """
        warmup = self.batch_warmup
        if warmup is None:
            return BatchCourse(self.batch_rows)
        sizes = range(warmup.start_rows, self.batch_rows, warmup.start_rows)
        share = -(-warmup.tokens // len(sizes))
        stages = tuple((-(-share // (rows * self.sequence_length)), rows) for rows in sizes)
        return BatchCourse(self.batch_rows, stages)

    @property
    def resolved_phases(self) -> tuple[PhaseSection, ...]:
        """The phases; without any, the one of the short form."""
        return self.phases or (
            PhaseSection(sequence_length=self.sequence_length, num_steps=self.num_steps or PAPER_NUM_STEPS),
        )

    def steps_of(self, phase: PhaseSection) -> int:
        """Return the phase's optimizer steps; the first one has the smaller batches of batch_warmup."""
        tokens = self.course.times(self.sequence_length)
        first = bool(self.phases) and phase is self.phases[0]
        return phase.num_steps or (tokens if first else BatchCourse(tokens.full)).steps_for(phase.tokens or 0)

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return sum(self.steps_of(phase) for phase in self.resolved_phases)

    @model_validator(mode="after")
    def _batch_grows(self) -> Self:
        warmup = self.batch_warmup
        if warmup is None:
            return self
        if warmup.start_rows >= self.batch_rows or self.batch_rows % warmup.start_rows:
            raise ValueError(
                f"batch_warmup.start_rows={warmup.start_rows} must divide batch_rows={self.batch_rows} and be below it"
            )
        # The phases after the first have one size of batch.
        steps, first = self.course.warmup_steps, self.resolved_phases[0]
        if steps > self.steps_of(first):
            raise ValueError(
                f"batch_warmup.tokens={warmup.tokens} takes {steps} steps, the first phase has {self.steps_of(first)}: it must "
                "end in the first phase"
            )
        return self

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
    codes: CodeProbeSection | None = None
    """Also measure the neighbours of codes (``codes_purity``, ``codes_purity_outside``) at each evaluation; None: don't."""


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
    """The corpus of every phase that names none; its tokenizer is that of the run."""
    model: ModelSection = ModelSection()
    masking: MaskingSection = MaskingSection()
    optimizer: OptimizerSection = OptimizerSection()
    training: TrainingSection = TrainingSection()
    stability: StabilitySection = StabilitySection()
    held_out_loss: HeldOutLossSection = HeldOutLossSection()
    model_card: ModelCardSection = ModelCardSection()
    export: ExportSection = ExportSection()
    scaling: TrainScaling = TrainScaling()
    checkpoint: CheckpointSection = CheckpointSection()
    logging: LoggingSection = LoggingSection()

    def model_sources(self) -> dict[str, str]:
        """Return the checkpoint that the run starts from, if any."""
        return {} if self.model.init == "scratch" else {"model.init": self.model.init}

    def state_sources(self) -> dict[str, str]:
        """Return the state that the run continues, if any."""
        return {"training.continue_from": self.training.continue_from} if self.training.continue_from else {}

    def references(self) -> dict[str, tuple[str, str]]:
        """Return the corpus of the run and those that its phases name, by ``training.phases.<n>.corpora.<place>``."""
        named = {
            _phase_corpus(number, place): ("corpus", corpus)
            for number, phase in enumerate(self.training.phases)
            for place, corpus in enumerate(phase.corpora)
        }
        return super().references() | named

    def with_ids(self, ids: Mapping[str, str]) -> Self:
        """Return the recipe with ids in place of its references; refuses a phase that names one corpus twice."""
        phases = []
        for number, phase in enumerate(self.training.phases):
            named = [ids[_phase_corpus(number, place)] for place in range(len(phase.corpora))]
            if len(set(named)) < len(named):
                raise RecipeError(f"training.phases.{number}.corpora names one corpus twice: {', '.join(named)}")
            corpora = dict(zip(named, phase.corpora.values(), strict=True))
            phases.append(phase.model_copy(update={"corpora": corpora}))
        training = self.training.model_copy(update={"phases": tuple(phases)})
        return self.model_copy(update={"corpus": ids["corpus"], "training": training})

    def identity(self) -> RecipeValues:
        """Return the settings that decide the output.

        Under ``export=best`` and with rollbacks they include which steps have checkpoints. A run from a checkpoint has the
        checkpoint's digest as an input instead of its address and shape, and so has a run that continues a state. Of a phase's
        corpora the weights remain. ``codes`` and ``warmup_tokens`` are left out where they are None, so that earlier recipes keep
        their fingerprint.
        """
        values = super().identity()
        del values["export"], values["training"]["continue_from"]
        for phase in values["training"]["phases"]:
            phase["corpora"] = list(phase["corpora"].values())
            if phase["warmup_tokens"] is None:
                del phase["warmup_tokens"]
        if self.model_sources():
            del values["model"]
        if self.held_out_loss.codes is None:
            del values["held_out_loss"]["codes"]
        if self.training.export == "best" or self.stability.action == "roll_back":
            values["checkpoint"] = {"every_steps": self.checkpoint.every_steps}
        return values | self.export.identity()

    @model_validator(mode="after")
    def _odds_are_used(self) -> Self:
        with_odds = [n for n, phase in enumerate(self.training.phases) if phase.salience_odds is not None]
        if with_odds and self.masking.strategy == "uniform":
            raise ValueError(
                f"training.phases.{with_odds[0]}.salience_odds has no effect with masking.strategy=uniform: leave it out, or set "
                "token_aware"
            )
        return self

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
        if self.scaling.attention != "packed_sdpa" and self.training.precision == "float32":
            raise ValueError(
                f"scaling.attention={self.scaling.attention} needs training.precision=bfloat16 (or auto on GPUs with it), got "
                "float32: set that, or scaling.attention=packed_sdpa"
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
        training = self.training
        tokens = training.course.times(training.sequence_length)
        if not any(phase.schedule for phase in training.phases):
            self.optimizer.check_fits(training.total_steps, tokens=tokens)
            return self
        # The phases' schedules replace the run's.
        for number, phase in enumerate(training.phases):
            steps = training.steps_of(phase)
            warmup = phase.num_warmup_steps(steps, tokens=tokens if number == 0 else BatchCourse(tokens.full))
            if warmup > steps:
                raise ValueError(
                    f"training.phases.{number}: a warm-up of {warmup} steps does not fit into the phase's {steps} steps"
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
        if training.batch_warmup and training.batch_warmup.start_rows % share:
            raise ValueError(
                f"training.batch_warmup.start_rows={training.batch_warmup.start_rows} must be a multiple of "
                f"scaling.num_workers * scaling.micro_batch_rows = {share}"
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


def _phase_corpus(number: int, place: int) -> str:
    """Return the path of a phase's corpus, as inputs and artifacts of a plan name it."""
    return f"training.phases.{number}.corpora.{place}"
