"""The role of each sentence of an abstract (methods, results, ...), in PubMed-RCT's layout. A group is an abstract."""

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
from clinical_modernbert.recipe.tasks import SentenceRolesTask
from clinical_modernbert.sources.evaluation_sets import rct

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

TITLE = "sentence roles"
PLAIN = "Tell what a sentence of an abstract is for: background, method, result, conclusion."
SHOWN = ("accuracy", "f1_macro", "f1_weighted")


def paths(task: SentenceRolesTask) -> tuple[str | None, ...]:
    """Return the files of the three parts."""
    return task.train, task.development, task.test


def load(task: SentenceRolesTask, folder: Path) -> Splits[TextExample]:
    """Read the sentences and split them by abstract."""
    train, development, test = (list(_sentences(folder / name)) if name else None for name in paths(task))
    splits = make_splits(train or [], development, test, section=task.split, facts={})
    return limited(splits, max_train=task.max_train, max_test=task.max_test)


def _sentences(path: Path) -> Iterator[TextExample]:
    for abstract in rct.read_rct(path):
        for number, (label, sentence) in enumerate(zip(abstract.labels, abstract.sentences, strict=True)):
            yield TextExample(f"{abstract.pmid}:{number}", abstract.pmid, sentence, label)
