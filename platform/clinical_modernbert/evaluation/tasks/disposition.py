"""Emergency disposition: admitted or not, from what is known in the first minutes of a stay. A group is a patient.

A text must not contain its own label. ``telling_words`` finds words that do, such as a column that only admissions fill, and a
table with such a word is refused.
"""

import re
from collections import Counter
from pathlib import Path

from clinical_modernbert.errors import SourceError
from clinical_modernbert.evaluation.results import Facts
from clinical_modernbert.evaluation.tasks.examples import Splits, TextExample, limited, make_splits
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
from clinical_modernbert.sources.evaluation_sets.ed_events import read_hosp_stays, read_meds_splits, read_meds_stays

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
    "telling_words",
    "trains",
]

TITLE = "emergency disposition"
PLAIN = "Tell from the first hours in the emergency department who will be admitted."
SHOWN = ("auroc", "accuracy")

# MEME's dispositions; others (transferred, left without being seen) are neither admitted nor sent home.
_DISPOSITIONS = ("ADMITTED", "HOME", "EXPIRED")
_WORD = re.compile(r"[\w/]+")
# If one word predicts the label in this share of stays, the label has leaked into the text.
_TELLING = 0.97


def paths(task: DispositionTask) -> tuple[str, ...]:
    """Return the folder or file of the stays."""
    return (task.path,)


def load(task: DispositionTask, folder: Path) -> Splits[TextExample]:
    """Read the stays and split them by patient, or as the data set's own split says."""
    return limited(_splits(task, folder), max_train=task.max_train, max_test=task.max_test)


def _splits(task: DispositionTask, folder: Path) -> Splits[TextExample]:
    stays, facts = _labelled_stays(task, folder / task.path)
    split_of_subject = read_meds_splits(folder / task.path) if task.format == "meds" else {}
    if not split_of_subject:
        return make_splits(stays, None, None, section=task.split, facts=facts)
    train, tuning, held_out = (
        [stay for stay in stays if split_of_subject.get(stay.group) == name] for name in ("train", "tuning", "held_out")
    )
    if not train or not held_out:
        raise SourceError("subject_splits.parquet: no stay of a train or of a held_out subject")
    facts["split"] = "metadata/subject_splits.parquet"
    num_left_out = len(stays) - len(train) - len(tuning) - len(held_out)
    if num_left_out:
        facts["stays_of_no_split"] = num_left_out
    return make_splits(train, tuning or None, held_out, section=task.split, facts=facts)


def _labelled_stays(task: DispositionTask, path: Path) -> tuple[list[TextExample], Facts]:
    stays = _stays(task, path)
    kept = [stay for stay in stays if stay.outcome.disposition.strip().upper() in _DISPOSITIONS]
    examples = [TextExample(stay.stay_id, stay.group, stay.text, _label(stay)) for stay in kept]
    telling = telling_words([e.text for e in examples], [e.label for e in examples])
    if telling:
        raise SourceError(
            f"{path.name}: the texts contain their own label: the presence of {', '.join(map(repr, telling[:3]))} alone tells "
            f"admitted from not admitted in at least {_TELLING:.0%} of both"
        )
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


def telling_words(texts: list[str], labels: list[str]) -> list[str]:
    """Return words whose presence or absence alone tells two labels apart in nearly all texts of each.

    This finds column names and codes that are written for one outcome only, in any table.
    """
    names = sorted(set(labels))
    if len(names) < 2:
        return []
    num_first, num_second = labels.count(names[0]), labels.count(names[1])
    counts: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    for text, label in zip(texts, labels, strict=True):
        words = set(_WORD.findall(text.lower()))
        # Also the shape of its digits: the number of an admission differs from stay to stay, but only one label has it.
        counts[label == names[1]].update(words | {re.sub(r"\d", "0", word) for word in words})
    telling = []
    for word in sorted(counts[0].keys() | counts[1].keys()):
        shares = counts[0][word] / num_first, counts[1][word] / num_second
        if max(shares) >= _TELLING and min(shares) <= 1 - _TELLING:
            telling.append(word)
    return telling
