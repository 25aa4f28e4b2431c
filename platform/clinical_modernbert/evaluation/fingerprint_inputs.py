"""Encoders and evaluation sets as inputs of a fingerprint, by digest, and which of them are absent. Imports no torch."""

import hashlib
from pathlib import Path, PurePosixPath

from clinical_modernbert.artifacts import InputEntry
from clinical_modernbert.evaluation.encoders import EncoderAbsentError, LocalEncoder, resolve_encoder
from clinical_modernbert.evaluation.tasks import task_folder, task_names
from clinical_modernbert.hashing import file_sha256
from clinical_modernbert.recipe.evaluate import EvaluateRecipe
from clinical_modernbert.recipe.tasks import EncoderSection, Task


def missing_path(task: Task, data: str) -> str | None:
    """Return the task's first path that does not exist, as the recipe writes it."""
    folder = task_folder(task, data)
    return next((name for name in task_names(task) if not (folder / name).exists()), None)


def encoder_input(encoder: LocalEncoder) -> InputEntry:
    """Return the lineage of an encoder."""
    return InputEntry(name=f"encoder {encoder.name}", id=encoder.origin, digest=encoder.digest)


def task_inputs(task: Task, data: str) -> tuple[InputEntry, ...]:
    """Return the lineage of a task's data."""
    folder = task_folder(task, data)
    return tuple(
        InputEntry(name=f"task {task.name}", id=PurePosixPath(name).as_posix(), digest=_digest(folder / name))
        for name in task_names(task)
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
