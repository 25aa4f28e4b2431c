"""Tasks to splits: the loader of each real format, and the check that no text gives its own label away."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clinical_modernbert.errors import SourceError
from clinical_modernbert.evaluation.annotations import read_annotations
from clinical_modernbert.evaluation.examples import Splits, TextExample, WordExample, carve, limited, make_splits
from clinical_modernbert.recipe.tasks import DispositionTask, EntitiesTask, RetrievalTask, SentenceRolesTask, Task
from clinical_modernbert.sources import pmc_patients, rct
from clinical_modernbert.sources.ed import EdStay, read_stays
from clinical_modernbert.sources.ed_events import read_hosp_stays, read_meds_splits, read_meds_stays
from clinical_modernbert.sources.evaluation_texts import evaluation_texts

# MEME's dispositions; others (transferred, left without being seen) are neither admitted nor sent home.
_DISPOSITIONS = ("ADMITTED", "HOME", "EXPIRED")
_WORD = re.compile(r"[\w/]+")
# A single word whose presence tells the label in so many of the stays is no finding, it is the label.
_TELLING = 0.97


@dataclass(frozen=True, slots=True)
class RetrievalSet:
    """Queries, documents, and which document answers which query."""

    query_ids: list[str]
    queries: list[str]
    document_ids: list[str]
    documents: list[str]
    qrels: dict[str, dict[str, int]]
    """Query id -> document id -> grade."""
    train_pairs: list[tuple[str, str]]
    """(query text, text of a relevant document) to fine-tune on; empty where there are none."""
    development_pairs: list[tuple[str, str]]
    facts: dict[str, int | str]


TaskData = Splits[TextExample] | Splits[WordExample] | RetrievalSet


def load_task(task: Task, data: str) -> TaskData:
    """Read a task's files and split them; ``SourceError`` with file and line for what cannot be read."""
    folder = Path(data)
    if isinstance(task, RetrievalTask):
        return _retrieval(task, folder)
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


def _retrieval(task: RetrievalTask, folder: Path) -> RetrievalSet:
    if task.format == "halves":
        return _halves(task, list(evaluation_texts(folder / task.queries)))
    assert task.corpus is not None and task.qrels is not None
    documents = {e.id: f"{e.title} {e.text}".strip() for e in pmc_patients.read_entries(folder / task.corpus)}
    queries = _queries(folder / task.queries)
    qrels = _qrels(folder / task.qrels, queries, documents)
    asked = [query for query in queries if query in qrels][: task.max_test]
    taken = dict.fromkeys(qrels, task.qrels)
    train: list[tuple[str, str]] = []
    development: list[tuple[str, str]] = []
    if task.development_queries is not None and task.development_qrels is not None:
        development = _pairs(folder, task.development_queries, task.development_qrels, documents, taken)
        # As for other tasks: a development part larger than the training part would be no saving.
        development = development[: task.max_train and max(task.max_train // 4, 8)]
    if task.train_queries is not None and task.train_qrels is not None:
        train = _pairs(folder, task.train_queries, task.train_qrels, documents, taken)[: task.max_train]
    if train and not development:
        held = max(round(len(train) * task.split.development_fraction), 1)
        train, development = train[held:], train[:held]
    return RetrievalSet(
        asked, [queries[q] for q in asked], list(documents), list(documents.values()),
        {q: qrels[q] for q in asked}, train, development, {"documents": len(documents)},
    )  # fmt: skip


def _queries(path: Path) -> dict[str, str]:
    return {entry.id: entry.text for entry in pmc_patients.read_entries(path)}


def _pairs(
    folder: Path, queries_name: str, qrels_name: str, documents: dict[str, str], taken: dict[str, str]
) -> list[tuple[str, str]]:
    """Return each graded query's text with that of its best document; ``taken`` is graded query -> file, and grows."""
    queries = _queries(folder / queries_name)
    graded = _qrels(folder / qrels_name, queries, documents)
    twice = sorted(graded.keys() & taken.keys())
    if twice:
        raise SourceError(
            f"{qrels_name}: query {twice[0]!r} is also graded in {taken[twice[0]]}; a query must be on one side only"
        )
    taken.update(dict.fromkeys(graded, qrels_name))
    return [(queries[q], documents[max(grades, key=lambda d: grades[d])]) for q, grades in graded.items()]


def _qrels(path: Path, queries: dict[str, Any], documents: dict[str, Any]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for line, query, document, grade in pmc_patients.read_qrels(path):
        if query in queries and grade > 0:
            if document not in documents:
                raise SourceError(f"{path.name}, line {line}: document {document!r} is not in the corpus")
            found.setdefault(query, {})[document] = grade
    if not found:
        raise SourceError(f"{path.name} grades no document for any of the {len(queries)} queries")
    return found


@dataclass(frozen=True, slots=True)
class _Half:
    group: str
    first: str
    second: str


def _halves(task: RetrievalTask, texts: list[str]) -> RetrievalSet:
    """Each text's first half asks for its second among the second halves of all: a stand-in where no judgements are at hand."""
    halves = []
    for number, text in enumerate(dict.fromkeys(texts)):
        words = text.split()
        middle = len(words) // 2
        if middle >= 20:
            halves.append(_Half(str(number), " ".join(words[:middle]), " ".join(words[middle:])))
    if len(halves) < 8:
        raise SourceError(f"{task.queries}: {len(halves)} texts of 40 words and more; format=halves needs 8")
    train, test = carve(halves, 0.5, salt=f"test {task.split.seed}")
    train, development = carve(train, task.split.development_fraction, salt="development")
    return RetrievalSet(
        [half.group for half in test][: task.max_test], [half.first for half in test][: task.max_test],
        [half.group for half in halves], [half.second for half in halves],
        {half.group: {half.group: 1} for half in test[: task.max_test]},
        [(half.first, half.second) for half in train][: task.max_train],
        [(half.first, half.second) for half in development],
        {"documents": len(halves), "judgements": "made: the two halves of a text belong together"},
    )  # fmt: skip
