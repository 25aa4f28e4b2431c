"""Texts with one label each from the user's own CSV, JSON lines or Parquet files. A group is what ``group`` names, else a row."""

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
from clinical_modernbert.sources.evaluation_sets.labelled_rows import read_labelled

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
    for row in read_labelled(path, text=task.text, label=task.label, group=task.group):
        yield TextExample(f"{path.name}:{row.number}", row.group, row.text, row.label)
