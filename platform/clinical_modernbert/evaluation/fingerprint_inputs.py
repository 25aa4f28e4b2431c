"""Encoders and evaluation sets as inputs of a fingerprint, by digest, and which of them are absent. Imports no torch."""

import hashlib
from pathlib import Path

from clinical_modernbert.artifacts import InputEntry
from clinical_modernbert.evaluation.encoders import EncoderAbsentError, LocalEncoder, resolve_encoder
from clinical_modernbert.evaluation.tasks import KINDS
from clinical_modernbert.hashing import file_sha256
from clinical_modernbert.recipe.evaluate import EvaluateRecipe
from clinical_modernbert.recipe.tasks import EncoderSection, Task


def task_paths(task: Task, data: str) -> list[Path]:
    """Return every file and folder that a task reads."""
    return [Path(data) / name for name in KINDS[task.type].paths(task) if name is not None]


def missing_path(task: Task, data: str) -> str | None:
    """Return the task's first path that does not exist, as the recipe writes it."""
    absent = next((path for path in task_paths(task, data) if not path.exists()), None)
    return absent.relative_to(data).as_posix() if absent else None


def encoder_input(encoder: LocalEncoder) -> InputEntry:
    """Return the lineage of an encoder."""
    return InputEntry(name=f"encoder {encoder.name}", id=encoder.origin, digest=encoder.digest)


def task_inputs(task: Task, data: str) -> tuple[InputEntry, ...]:
    """Return the lineage of a task's data."""
    return tuple(
        InputEntry(name=f"task {task.name}", id=path.relative_to(data).as_posix(), digest=_digest(path))
        for path in task_paths(task, data)
    )


def fingerprint_inputs(recipe: EvaluateRecipe) -> tuple[InputEntry, ...]:
    """Return every encoder and evaluation set that exists. An absent one changes the fingerprint once it exists."""
    present, _ = present_encoders(recipe.encoders)
    tasks = [task for task in recipe.tasks if missing_path(task, recipe.data) is None]
    entries = [encoder_input(encoder) for encoder in present]
    return (*entries, *(entry for task in tasks for entry in task_inputs(task, recipe.data)))


def present_encoders(sections: tuple[EncoderSection, ...]) -> tuple[list[LocalEncoder], dict[str, str]]:
    """Return the encoders on this machine, and name -> reason for the baselines that are not."""
    present, absent = [], {}
    for section in sections:
        try:
            present.append(resolve_encoder(section))
        except EncoderAbsentError as error:
            absent[section.name] = str(error)
    return present, absent


def _digest(path: Path) -> str:
    if path.is_file():
        return file_sha256(path)
    lines = [f"{p.relative_to(path).as_posix()} {file_sha256(p)}" for p in sorted(path.rglob("*")) if p.is_file()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
