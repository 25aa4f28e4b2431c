"""Tasks to splits: the loader of each real format, and the check that no text gives its own label away."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from clinical_modernbert.errors import SourceError
from clinical_modernbert.evaluation.tasks.annotations import read_annotations
from clinical_modernbert.evaluation.tasks.examples import Splits, TextExample, WordExample, limited, make_splits
from clinical_modernbert.evaluation.tasks.retrieval_sets import RetrievalSet, retrieval_set
from clinical_modernbert.recipe.tasks import DispositionTask, EntitiesTask, RetrievalTask, SentenceRolesTask, Task
from clinical_modernbert.sources.evaluation_sets import rct
from clinical_modernbert.sources.evaluation_sets.ed import EdStay, read_stays
from clinical_modernbert.sources.evaluation_sets.ed_events import read_hosp_stays, read_meds_splits, read_meds_stays

# MEME's dispositions; others (transferred, left without being seen) are neither admitted nor sent home.
_DISPOSITIONS = ("ADMITTED", "HOME", "EXPIRED")
_WORD = re.compile(r"[\w/]+")
# A single word whose presence tells the label in so many of the stays is no finding, it is the label.
_TELLING = 0.97


TaskData = Splits[TextExample] | Splits[WordExample] | RetrievalSet


def load_task(task: Task, data: str) -> TaskData:
    """Read a task's files and split them; ``SourceError`` with file and line for what cannot be read."""
    folder = Path(data)
    if isinstance(task, RetrievalTask):
        return retrieval_set(task, folder)
    if isinstance(task, EntitiesTask):
        return limited(_word_splits(task, folder), max_train=task.max_train, max_test=task.max_test)
    return limited(_text_splits(task, folder), max_train=task.max_train, max_test=task.max_test)


def _word_splits(task: EntitiesTask, folder: Path) -> Splits[WordExample]:
    parts: list[list[WordExample] | None] = []
    facts: dict[str, int | str] = {}
    for name in (task.train, task.development, task.test):
        examples, lost = read_annotations(folder / name, task, data=folder) if name else (None, {})
        parts.append(examples)
        for fact, value in lost.items():
            before = facts.get(fact, 0)
            facts[fact] = before + value if isinstance(before, int) and isinstance(value, int) else value
    train, development, test = parts
    return make_splits(train or [], development, test, section=task.split, facts=facts)


def _text_splits(task: SentenceRolesTask | DispositionTask, folder: Path) -> Splits[TextExample]:
    if isinstance(task, DispositionTask):
        stays, facts = _stays(task, folder)
        of_subject = read_meds_splits(folder / task.path) if task.format == "meds" else {}
        if not of_subject:
            return make_splits(stays, None, None, section=task.split, facts=facts)
        parts = [[e for e in stays if of_subject.get(e.group) == name] for name in ("train", "tuning", "held_out")]
        if not parts[0] or not parts[2]:
            raise SourceError("subject_splits.parquet: no stay of a train or of a held_out subject")
        facts["split"] = "metadata/subject_splits.parquet"
        if len(stays) > sum(map(len, parts)):
            facts["stays_of_no_split"] = len(stays) - sum(map(len, parts))
        return make_splits(parts[0], parts[1] or None, parts[2], section=task.split, facts=facts)
    names = (task.train, task.development, task.test)
    train, development, test = (list(_sentences(folder / name)) if name else None for name in names)
    return make_splits(train or [], development, test, section=task.split, facts={})


def _sentences(path: Path) -> Iterator[TextExample]:
    for abstract in rct.read_rct(path):
        for number, (label, sentence) in enumerate(zip(abstract.labels, abstract.sentences, strict=True)):
            yield TextExample(f"{abstract.pmid}:{number}", abstract.pmid, sentence, label)


def _stays(task: DispositionTask, folder: Path) -> tuple[list[TextExample], dict[str, int | str]]:
    path = folder / task.path
    stays: list[EdStay]
    if task.format == "mimic_ed":
        stays = list(read_stays(path, minutes=task.minutes))
    elif task.format == "mimic_hosp":
        stays = list(read_hosp_stays(path, minutes=task.minutes))
    else:
        stays = list(read_meds_stays(path, minutes=task.minutes))
    kept = [stay for stay in stays if stay.outcome.disposition.strip().upper() in _DISPOSITIONS]
    examples = [
        TextExample(
            stay.stay_id,
            stay.group,
            stay.text,
            "admitted" if _is_admitted(stay.outcome.disposition) else "not admitted",
        )
        for stay in kept
    ]
    telling = telling_words([e.text for e in examples], [e.label for e in examples])
    if telling:
        raise SourceError(
            f"{path.name}: the texts say their own label: the presence of {', '.join(map(repr, telling[:3]))} alone tells "
            f"admitted from not admitted in at least {_TELLING:.0%} of both"
        )
    facts: dict[str, int | str] = {"admitted": sum(e.label == "admitted" for e in examples)}
    if len(kept) < len(stays):
        facts["other_dispositions_left_out"] = len(stays) - len(kept)
    return examples, facts


def _is_admitted(disposition: str) -> bool:
    return disposition.strip().upper() == "ADMITTED"


def telling_words(texts: list[str], labels: list[str]) -> list[str]:
    """Return words whose presence or absence alone tells two labels apart in nearly all texts of each.

    Column names and codes that only one outcome writes are caught here, whatever table they came from.
    """
    first, second = (
        (np.array(labels) == label for label in sorted(set(labels))[:2]) if len(set(labels)) > 1 else ([], [])
    )
    counts: list[Counter[str]] = [Counter(), Counter()]
    for text, is_second in zip(texts, second, strict=True) if len(second) else ():
        words = set(_WORD.findall(text.lower()))
        # Also by the shape of its digits: an admission's number differs from stay to stay, and is there for one label only.
        counts[int(is_second)].update(words | {re.sub(r"\d", "0", word) for word in words})
    found = []
    for word in sorted(counts[0].keys() | counts[1].keys()):
        shares = counts[0][word] / max(np.sum(first), 1), counts[1][word] / max(np.sum(second), 1)
        if max(shares) >= _TELLING and min(shares) <= 1 - _TELLING:
            found.append(word)
    return found
