"""Whether a run can load a checkpoint's engine state: both must be of one model, split and computed alike."""

from dataclasses import asdict, dataclass

from clinical_modernbert.artifacts import Artifact
from clinical_modernbert.errors import ModelError
from clinical_modernbert.training.corpora import tokenizer_digest
from clinical_modernbert.training.start import Run

FORMAT_VERSION = 4
_WITHOUT = "start over without it: delete the checkpoint, or unset training.continue_from"


@dataclass(frozen=True, slots=True)
class CheckpointShape:
    """How an engine's state is split and computed; part of a checkpoint's summary."""

    engine: str
    zero_stage: int
    num_workers: int
    precision: str
    model: str
    """Shape of the model, readable."""
    tokenizer: str
    """sha256 of its tokenizer.json, abbreviated."""
    rope: str | None = None
    """Bases of the model's RoPE, readable; None in contrastive runs and in checkpoints of earlier code."""

    def check_loads(self, checkpoint: Artifact) -> None:
        """Raise ``ModelError`` if a run of this shape cannot load ``checkpoint``.

        The torch engine's state is whole on rank 0 and loads on any number of workers. DeepSpeed's is split by worker and
        ZeRO stage.
        """
        version = checkpoint.manifest.format_version
        if version != FORMAT_VERSION:
            raise ModelError(
                f"checkpoint {checkpoint.uri} has format {version}, this code reads {FORMAT_VERSION}: "
                f"use the code that wrote it, or {_WITHOUT}"
            )
        names = ["engine", "precision", "model", "tokenizer"]
        if self.engine != "torch":
            names += ["zero_stage", "num_workers"]
        ours, theirs = asdict(self), checkpoint.summary
        if theirs.get("rope"):
            names += ["rope"]
        differing = [name for name in names if theirs.get(name) != ours[name]]
        if differing:
            written, expected = ({name: of.get(name) for name in differing} for of in (theirs, ours))
            raise ModelError(
                f"checkpoint {checkpoint.uri} was written with {written}, this run has {expected}: resume with the former, or "
                f"{_WITHOUT}"
            )


def checkpoint_shape(run: Run) -> CheckpointShape:
    """Return the shape of a run's checkpoints."""
    config, scaling = run.model.config, run.recipe.scaling
    layers = "".join("g" if kind == "full_attention" else "l" for kind in config.layer_types)
    return CheckpointShape(
        engine=scaling.engine,
        zero_stage=scaling.zero_stage,
        num_workers=run.worker.world_size,
        precision=run.precision,
        model=(
            f"{config.hidden_size} wide, MLP {config.intermediate_size}, {config.num_attention_heads} heads, layers {layers}, "
            f"window {config.local_attention}, vocabulary {config.vocab_size}"
        ),
        # Before any phase changes that of the global layers: then it is a setting of the recipe's phases.
        rope=f"base {run.rope_theta:g}, local {config.rope_parameters['sliding_attention']['rope_theta']:g}",
        tokenizer=tokenizer_digest(run.corpora[run.recipe.corpus])[:12],
    )
