"""Which relation two entities of a document have, if any: a text with both marked gets one label. A group is a document.

BC5CDR and BioRED relate concepts: every pair of concepts in a document is an example if a training document relates their types,
with all mentions of both marked. ChemProt relates mentions of one sentence: the example is that sentence. Marks are plain signs
with the type (Zhou and Chen, 2022): ``@ * chemical * lithium @ causes # ^ disease ^ tremor #``. A pair without a relation has the
label ``no relation``; figures are over the pairs that have or get a relation.

Legend: N examples, C labels.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import combinations
from pathlib import Path

import numpy as np

from clinical_modernbert.errors import SourceError
from clinical_modernbert.evaluation.encoders import LocalEncoder
from clinical_modernbert.evaluation.results import Baseline, Facts, Outcome
from clinical_modernbert.evaluation.scores import Scored, ratio
from clinical_modernbert.evaluation.tasks import text_labels
from clinical_modernbert.evaluation.tasks.examples import Splits, TextExample, limited, make_splits
from clinical_modernbert.evaluation.tasks.text_labels import VALUES, Scoring, errors, sample_size, trains
from clinical_modernbert.recipe import RunRecipe
from clinical_modernbert.recipe.tasks import RelationsTask
from clinical_modernbert.sources.evaluation_sets.bioc import read_bioc
from clinical_modernbert.sources.evaluation_sets.chemprot import read_chemprot
from clinical_modernbert.sources.evaluation_sets.ner import AnnotatedText, Span, read_pubtator
from clinical_modernbert.statistics import Floats

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

TITLE = "relations"
PLAIN = "Tell whether a text says that a drug causes a disease, a chemical inhibits a protein, and the like."
MAIN_METRICS = ("f1_micro",)
SHOWN = ("f1_micro", "precision", "recall")
NO_RELATION = "no relation"

Types = tuple[str, str]
"""The types of two entities, in the order of the alphabet."""

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])|\t")
_SIGNS = (("@", "*"), ("#", "^"))


def paths(task: RelationsTask) -> tuple[str | None, ...]:
    """Return the files or folders of the three parts."""
    return task.train, task.development, task.test


def load(task: RelationsTask, folder: Path) -> Splits[TextExample]:
    """Read the documents, mark every pair that may be related, and split them by document."""
    parts = [list(_documents(folder / name, task)) if name else None for name in paths(task)]
    types = {
        of_pair
        for document in parts[0] or []
        for relation in document.relations
        if _counts(relation.kind, task)
        if (of_pair := _types(document, relation.first, relation.second))
    }
    if not types:
        wanted = f" of {', '.join(task.relations)}" if task.relations else ""
        raise SourceError(f"{task.train}: no relation{wanted} between two entities that are mentioned")
    facts: Facts = {"types": ", ".join(sorted(" - ".join(of_pair) for of_pair in types))}
    lost = sum(num_unmarked(document, task, types) for part in parts for document in part or [])
    if lost:
        facts["relations_of_no_example"] = lost
    train, development, test = (
        None if part is None else [e for document in part for e in examples(document, task, types)] for part in parts
    )
    splits = make_splits(train or [], development, test, section=task.split, facts=facts)
    return limited(splits, max_train=task.max_train, max_test=task.max_test)


def _documents(path: Path, task: RelationsTask) -> Iterable[AnnotatedText]:
    read = {"chemprot": read_chemprot, "bioc": read_bioc, "pubtator": read_pubtator}[task.format]
    return read(path)


def examples(document: AnnotatedText, task: RelationsTask, types: set[Types]) -> Iterator[TextExample]:
    """Yield an example for each pair of entities whose types may be related, in the order of their first mentions."""
    related = _related(document, task)
    for a, b in _pairs(document, task, types):
        first, second = (_mentions(document, name) for name in (a, b))
        # The type that is first in the alphabet is marked as the first entity, so a mark tells which end is meant.
        if first[0].kind > second[0].kind:
            first, second = second, first
        text = document.text
        if task.format == "chemprot":
            start, end = _sentence(text, first[0], second[0])
            text = text[start:end]
            first, second = ([Span(s.start - start, s.end - start, s.kind) for s in spans] for spans in (first, second))
        label = related.get(frozenset((a, b)), NO_RELATION)
        yield TextExample(f"{document.id}:{a}:{b}", document.id, marked(text, first, second), label)


def num_unmarked(document: AnnotatedText, task: RelationsTask, types: set[Types]) -> int:
    """Return how many relations no example stands for: of entities without a mention, or of different sentences."""
    pairs = {frozenset(pair) for pair in _pairs(document, task, types)}
    return sum(pair not in pairs for pair in _related(document, task))


def _related(document: AnnotatedText, task: RelationsTask) -> dict[frozenset[str], str]:
    """Return the label of each related pair; of several the first one of the file."""
    found: dict[frozenset[str], str] = {}
    for relation in document.relations:
        if _counts(relation.kind, task):
            found.setdefault(frozenset((relation.first, relation.second)), relation.kind)
    return found


def _counts(kind: str, task: RelationsTask) -> bool:
    return not task.relations or kind in task.relations


def _pairs(document: AnnotatedText, task: RelationsTask, types: set[Types]) -> Iterator[tuple[str, str]]:
    names = dict.fromkeys(name for of_span in document.names for name in of_span)
    for a, b in combinations(names, 2):
        of_pair = _types(document, a, b)
        if of_pair not in types:
            continue
        if task.format == "chemprot":
            first, second = _mentions(document, a)[0], _mentions(document, b)[0]
            start, end = _sentence(document.text, first, second)
            if not (start <= min(first.start, second.start) and max(first.end, second.end) <= end):
                continue
        yield a, b


def _types(document: AnnotatedText, a: str, b: str) -> Types | None:
    """Return the types of two entities; None if one of them has no mention."""
    first, second = _mentions(document, a), _mentions(document, b)
    if not first or not second:
        return None
    low, high = sorted((first[0].kind, second[0].kind))
    return low, high


def _mentions(document: AnnotatedText, name: str) -> list[Span]:
    return [span for span, names in zip(document.spans, document.names, strict=True) if name in names]


def _sentence(text: str, first: Span, second: Span) -> tuple[int, int]:
    """Return the sentence of the earlier of two mentions: start and end in characters."""
    at = min(first.start, second.start)
    # A border inside of the mention itself is none.
    inner = min(first, second, key=lambda span: span.start)
    borders = [border for border in _borders(text) if not inner.start < border < inner.end]
    start = max(border for border in borders if border <= at)
    end = min(border for border in borders if border > at)
    return start, end


@lru_cache(maxsize=1)
def _borders(text: str) -> tuple[int, ...]:
    """Return where sentences begin, and the end; of one document at a time, for all of its pairs."""
    return 0, *(match.start() for match in _SENTENCE_END.finditer(text)), len(text)


def marked(text: str, first: Sequence[Span], second: Sequence[Span]) -> str:
    """Return the text with the mentions of both entities between their signs; a mention of both has both."""
    spans = [(span, signs) for spans, signs in zip((first, second), _SIGNS, strict=True) for span in spans]
    opening: dict[int, str] = {}
    closing: dict[int, str] = {}
    for span, (outer, inner) in spans:
        opening[span.start] = opening.get(span.start, "") + f"{outer} {inner} {span.kind.lower()} {inner} "
        closing[span.end] = f" {outer}" + closing.get(span.end, "")
    pieces, at = [], 0
    for place in sorted(opening.keys() | closing.keys()):
        pieces += [text[at:place], closing.get(place, ""), opening.get(place, "")]
        at = place
    return "".join([*pieces, text[at:]]).strip()


def measure(values: dict[str, Floats], weights_N: Floats) -> dict[str, float]:
    """Return micro F1, precision and recall of relations. ``values``: labels [N], probabilities [N, C]; 0 is no relation."""
    labels_N, predicted_N = values["labels"].astype(np.int64), values["probabilities"].argmax(axis=1)
    right = float(weights_N @ ((labels_N == predicted_N) & (labels_N > 0)))
    gold, predicted = float(weights_N @ (labels_N > 0)), float(weights_N @ (predicted_N > 0))
    return {
        "f1_micro": ratio(2 * right, gold + predicted),
        "precision": ratio(right, predicted),
        "recall": ratio(right, gold),
    }


def _development_figure(scored: Scored) -> float:
    return scored.figures()["f1_micro"]


def _labels(splits: Splits[TextExample]) -> list[str]:
    found = {example.label for part in splits.parts().values() for example in part}
    return [NO_RELATION, *sorted(found - {NO_RELATION})]


_SCORING = Scoring(measure, _development_figure, _labels)


def run(recipe: RunRecipe, encoder: LocalEncoder, splits: Splits[TextExample]) -> Outcome:
    """Train on the splits and score the test part."""
    return text_labels.run_scored(recipe, encoder, splits, _SCORING)


def baselines(splits: Splits[TextExample]) -> list[Baseline]:
    """Return the majority, logistic regression on TF-IDF of the marked text, and its length."""
    return text_labels.baselines_scored(splits, _SCORING)
