"""Emergency disposition: admitted or not, from what is known in the first minutes of a stay. A group is a patient.

A text must not contain its own label: a table whose texts do is refused (``leaks``).
"""

from pathlib import Path

from clinical_modernbert.evaluation.results import Facts
from clinical_modernbert.evaluation.tasks.examples import Splits, TextExample, limited, subject_splits
from clinical_modernbert.evaluation.tasks.leaks import refuse_telling_words
from clinical_modernbert.evaluation.tasks.text_labels import (
    MAIN_METRICS,
    VALUES,
    baselines,
    errors,
    measure,
    run,
    sample_size,
    trains,
)
from clinical_modernbert.recipe.tasks import DispositionTask
from clinical_modernbert.sources.evaluation_sets.ed import EdStay, read_stays
from clinical_modernbert.sources.evaluation_sets.ed_events import read_hosp_stays, read_meds_stays
from clinical_modernbert.sources.evaluation_sets.meds_sets import read_meds_splits

__all__ = [
    "MAIN_METRICS",
    "PLAIN",
    "SHOWN",
    "TITLE",
    "VALUES",
    "baselines",
    "errors",
    "load",
    "measure",
    "paths",
    "run",
    "sample_size",
    "trains",
]

TITLE = "emergency disposition"
PLAIN = "Tell from the first hours in the emergency department who will be admitted."
SHOWN = ("auroc", "accuracy")

# MEME's dispositions; others (transferred, left without being seen) are neither admitted nor sent home.
_DISPOSITIONS = ("ADMITTED", "HOME", "EXPIRED")


def paths(task: DispositionTask) -> tuple[str, ...]:
    """Return the folder or file of the stays."""
    return (task.path,)


def load(task: DispositionTask, folder: Path) -> Splits[TextExample]:
    """Read the stays and split them by patient, or as the data set's own split says."""
    return limited(_splits(task, folder), max_train=task.max_train, max_test=task.max_test)


def _splits(task: DispositionTask, folder: Path) -> Splits[TextExample]:
    stays, facts = _labelled_stays(task, folder / task.path)
    split_of_subject = read_meds_splits(folder / task.path) if task.format == "meds" else {}
    return subject_splits(stays, split_of_subject, section=task.split, facts=facts, name="stay")


def _labelled_stays(task: DispositionTask, path: Path) -> tuple[list[TextExample], Facts]:
    stays = _stays(task, path)
    kept = [stay for stay in stays if stay.outcome.disposition.strip().upper() in _DISPOSITIONS]
    examples = [TextExample(stay.stay_id, stay.group, stay.text, _label(stay)) for stay in kept]
    refuse_telling_words(path.name, [e.text for e in examples], [e.label for e in examples])
    facts: Facts = {"admitted": sum(e.label == "admitted" for e in examples)}
    if len(kept) < len(stays):
        facts["other_dispositions_left_out"] = len(stays) - len(kept)
    return examples, facts


def _stays(task: DispositionTask, path: Path) -> list[EdStay]:
    if task.format == "mimic_ed":
        return list(read_stays(path, minutes=task.minutes))
    if task.format == "mimic_hosp":
        return list(read_hosp_stays(path, minutes=task.minutes))
    return list(read_meds_stays(path, minutes=task.minutes))


def _label(stay: EdStay) -> str:
    return "admitted" if stay.outcome.disposition.strip().upper() == "ADMITTED" else "not admitted"
