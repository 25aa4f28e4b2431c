"""Whether a run can load a checkpoint's engine state: both must be split and computed alike."""

from dataclasses import asdict, dataclass

from clinical_modernbert.artifacts import Artifact
from clinical_modernbert.errors import ModelError

FORMAT_VERSION = 2


@dataclass(frozen=True, slots=True)
class CheckpointShape:
    """How an engine's state is split and computed; part of a checkpoint's summary."""

    engine: str
    zero_stage: int
    num_workers: int
    precision: str

    def check_loads(self, checkpoint: Artifact) -> None:
        """Raise ``ModelError`` if a run of this shape cannot load ``checkpoint``.

        The torch engine's state is whole on rank 0 and loads on any number of workers. DeepSpeed's is split by worker and
        ZeRO stage.
        """
        version = checkpoint.manifest.format_version
        if version != FORMAT_VERSION:
            raise ModelError(
                f"checkpoint {checkpoint.uri} has format {version}, this code reads {FORMAT_VERSION}: "
                "resume with the code that wrote it, or delete the checkpoint to start over"
            )
        names = (
            ("engine", "precision") if self.engine == "torch" else ("engine", "precision", "zero_stage", "num_workers")
        )
        ours = asdict(self)
        expected, written = {name: ours[name] for name in names}, {name: checkpoint.summary.get(name) for name in names}
        if written != expected:
            raise ModelError(
                f"checkpoint {checkpoint.uri} was written with {written}, this run has {expected}: "
                "resume with the former, or delete the checkpoint to start over"
            )
