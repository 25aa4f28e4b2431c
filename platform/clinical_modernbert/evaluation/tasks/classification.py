"""Texts or pairs of texts with one label each, from the user's own tables. A group is what ``group`` names, else a row."""

from collections.abc import Iterator
from pathlib import Path

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
from clinical_modernbert.recipe.tasks import ClassificationTask
from clinical_modernbert.sources.evaluation_sets.labelled_rows import read_strings

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

TITLE = "classification"
PLAIN = "Give each text one of several labels."
SHOWN = ("accuracy", "f1_macro", "f1_weighted")


def paths(task: ClassificationTask) -> tuple[str | None, ...]:
    """Return the files of the three parts."""
    return task.train, task.development, task.test


def load(task: ClassificationTask, folder: Path) -> Splits[TextExample]:
    """Read the rows and split them by group."""
    train, development, test = (list(_examples(folder / name, task)) if name else None for name in paths(task))
    splits = make_splits(train or [], development, test, section=task.split, facts={})
    return limited(splits, max_train=task.max_train, max_test=task.max_test)


def _examples(path: Path, task: ClassificationTask) -> Iterator[TextExample]:
    optional = [column for column in (task.second_text, task.group) if column is not None]
    for number, (text, label, *rest) in read_strings(path, (task.text, task.label, *optional)):
        place = f"{path.name}:{number}"
        group = rest[-1] if task.group is not None else place
        if task.second_text is None:
            yield TextExample(place, group, text, label)
        else:
            yield TextExample(place, group, f"{text}\n{rest[0]}", label, (text, rest[0]))
