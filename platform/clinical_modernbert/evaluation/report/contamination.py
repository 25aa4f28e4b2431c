"""Whether an encoder may have read the reported texts, as far as the lineage of its artifact says."""

from collections.abc import Sequence
from pathlib import Path

from clinical_modernbert.artifacts import Artifact, find_artifact, trained_on
from clinical_modernbert.artifacts.remote_files import is_remote
from clinical_modernbert.corpus.pairs.unseen import history_of
from clinical_modernbert.evaluation.encoders import LocalEncoder
from clinical_modernbert.evaluation.fingerprint_inputs import task_inputs
from clinical_modernbert.evaluation.tasks import task_names
from clinical_modernbert.recipe import CorpusRecipe, PairsRecipe
from clinical_modernbert.recipe.section import below
from clinical_modernbert.recipe.tasks import Task

UNKNOWN = "unknown: not trained by this platform"


def contamination(encoder: LocalEncoder, tasks: Sequence[Task], data: str) -> dict[str, str]:
    """Return task -> what is known: ``decontaminated``, ``not decontaminated``, ``seen`` or ``unknown``, with the reason."""
    if encoder.artifact is None:
        return {task.name: UNKNOWN for task in tasks}
    return {task.name: _of_task(encoder.artifact, task, data) for task in tasks}


def _of_task(model: Artifact, task: Task, data: str) -> str:
    fine_tuned_on = {entry.digest for entry in model.manifest.inputs if entry.name.startswith("task ")}
    if any(entry.digest in fine_tuned_on for entry in task_inputs(task, data)):
        return "seen: the model was fine-tuned on this set"
    read = trained_on(model)
    corpora = [find_artifact(model.store, "corpus", corpus_id) for corpus_id in read.corpora]
    if not corpora or None in corpora:
        return "unknown: the store does not have the corpus of the model"
    pair_sets = [run.pairs for run in history_of(model).runs]
    if None in pair_sets:
        return "unknown: the store does not have the pair set of the model"
    bare = [texts for texts in (*corpora, *pair_sets) if texts and not _covers(texts, task, data)]
    if bare:
        names = ", ".join(dict.fromkeys(texts.manifest.id for texts in bare))
        if all(any(is_remote(path) != is_remote(data) for path in _compared(texts)) for texts in bare):
            place = "in a folder" if is_remote(data) else "in S3"
            return f"unknown: {names} was compared with sets {place}, whose files are not looked up"
        return f"not decontaminated: {names} was not compared with this set"
    if not read.unknown:
        return "decontaminated"
    return f"decontaminated; what {' and '.join(read.unknown)} had read before is unknown"


def _covers(texts: Artifact, task: Task, data: str) -> bool:
    """Whether every file of the task is one of those that the corpus or pair set was decontaminated against, or below one."""
    files = [below(data, name) for name in task_names(task)]
    return all(any(_is_below(file, path) for path in _compared(texts)) for file in files)


def _is_below(file: str, path: str) -> bool:
    if is_remote(file) or is_remote(path):
        return f"{file}/".startswith(f"{path.rstrip('/')}/")
    return Path(file).resolve().is_relative_to(Path(path).resolve())


def _compared(texts: Artifact) -> tuple[str, ...]:
    """Return the paths and addresses of the sets that the corpus or pair set was compared with."""
    recipe_type = PairsRecipe if texts.manifest.kind == "pairs" else CorpusRecipe
    section = recipe_type.model_validate(texts.manifest.recipe).decontamination
    return section.paths if section else ()
