"""Read the texts and labels of a ``multi_label`` task: which labels are kept, and which part a text is in."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from clinical_modernbert.errors import SourceError
from clinical_modernbert.evaluation.results import Facts
from clinical_modernbert.evaluation.tasks.examples import LabelSetExample, Splits, limited, make_splits
from clinical_modernbert.recipe.tasks import MultiLabelTask
from clinical_modernbert.sources.evaluation_sets.icd_coding import read_coded_stays, read_split
from clinical_modernbert.sources.evaluation_sets.labelled_rows import LabelSetRow, read_label_sets

Parts = tuple[list[LabelSetExample], list[LabelSetExample] | None, list[LabelSetExample] | None]
"""Training, development and reported examples; None where they are taken from training by group."""


def load_label_sets(task: MultiLabelTask, folder: Path) -> Splits[LabelSetExample]:
    """Return the splits; their facts count what was left out."""
    facts: Facts = {}
    parts = _parts(task, folder, facts)
    kept = _kept_labels([part or [] for part in parts], task)
    train, development, test = (None if part is None else _restricted(part, kept, facts) for part in parts)
    splits = make_splits(train or [], development, test, section=task.split, facts={**facts, "labels": len(kept)})
    if not any(example.labels for example in splits.test) or not any(example.labels for example in splits.development):
        raise SourceError(f"{task.train}: no text of the development part or no reported text has a label")
    trained = {label for example in splits.train for label in example.labels}
    unseen = len({label for example in splits.test for label in example.labels} - trained)
    if unseen:
        splits.facts["reported_labels_not_in_training"] = unseen
    return limited(splits, max_train=task.max_train, max_test=task.max_test)


def _parts(task: MultiLabelTask, folder: Path, facts: Facts) -> Parts:
    if task.splits is None:
        train, development, test = (
            _examples(_rows(task, folder / name)) if name else None
            for name in (task.train, task.development, task.test)
        )
        return train or [], development, test
    # The published splits of MIMIC name a stay so.
    id_column = task.id or "_id"
    part_of = read_split(folder / task.splits, id_column=id_column)
    by_part: dict[str, list[LabelSetExample]] = {"train": [], "development": [], "test": []}
    num_left_out = 0
    for row in _examples(_rows(task, folder / task.train)):
        part = part_of.get(row.id)
        num_left_out += part is None
        if part is not None:
            by_part[part].append(row)
    if num_left_out:
        facts["texts_of_no_split"] = num_left_out
    if not by_part["train"] or not by_part["test"]:
        raise SourceError(f"{Path(task.splits).name}: no text of {task.train} is in train, or none in test")
    return by_part["train"], by_part["development"] or None, by_part["test"]


def _rows(task: MultiLabelTask, path: Path) -> Iterable[LabelSetRow]:
    if task.format == "mimic_iv":
        return read_coded_stays(path, icd_version=task.icd_version)
    return read_label_sets(
        path, text=task.text, labels=task.labels, separator=task.separator, group=task.group, id_column=task.id
    )


def _examples(rows: Iterable[LabelSetRow]) -> list[LabelSetExample]:
    return [LabelSetExample(row.id, row.group, row.text, row.labels) for row in rows]


def _kept_labels(parts: Sequence[Sequence[LabelSetExample]], task: MultiLabelTask) -> set[str]:
    """Return the labels that are frequent enough over all parts, as the literature counts; of equal ones the first by name."""
    counts = Counter(label for part in parts for example in part for label in example.labels)
    frequent = sorted(
        (label for label in counts if counts[label] >= task.min_label_texts), key=lambda x: (-counts[x], x)
    )
    kept = set(frequent[: task.top_labels])
    if len(kept) < 2:
        raise SourceError(f"{task.train}: {len(kept)} labels are left; a task needs two (min_label_texts, labels)")
    return kept


def _restricted(part: Sequence[LabelSetExample], kept: set[str], facts: Facts) -> list[LabelSetExample]:
    """Return the examples with the kept labels alone; one that loses all of its labels is left out and counted."""
    restricted = []
    for example in part:
        labels = tuple(label for label in example.labels if label in kept)
        if labels or not example.labels:
            restricted.append(LabelSetExample(example.id, example.group, example.text, labels))
    if len(restricted) < len(part):
        before = facts.get("texts_without_a_kept_label", 0)
        facts["texts_without_a_kept_label"] = int(before) + len(part) - len(restricted)
    return restricted
