"""Entity spans of IOB2 tags, counted as seqeval counts them in its default mode (conlleval's rules).

seqeval has had no release since 2020, and its source package no longer builds everywhere. So it is not a dependency but the
reference of the tests: ``tests/golden/seqeval.json`` holds its figures for random tag sequences.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.evaluation.tasks.examples import WordExample

Span = tuple[str, int, int]
"""(type, first word, last word)."""


def entity_spans(tags: Sequence[str]) -> set[Span]:
    """Return the spans; an ``I-`` that continues nothing begins an entity, as in conlleval."""
    spans: set[Span] = set()
    start, current = 0, ""  # the open entity
    for number, tag in enumerate([*tags, "O"]):
        prefix, _, kind = tag.partition("-")
        kind = kind or ("entity" if prefix in "BI" else "")
        continues = prefix == "I" and kind == current and current
        if current and not continues:
            spans.add((current, start, number - 1))
        if not continues:
            start, current = number, kind if prefix in ("B", "I") else ""
    return spans


def span_counts(gold: Sequence[str], predicted: Sequence[str]) -> tuple[int, int, int]:
    """Return the number of (right, predicted, gold) spans of one text."""
    gold_spans, predicted_spans = entity_spans(gold), entity_spans(predicted)
    return len(gold_spans & predicted_spans), len(predicted_spans), len(gold_spans)


def tag_counts(examples: Sequence[WordExample], predicted: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """Return [N, 5]: right, predicted and gold spans; right and all words."""
    rows = [
        (*span_counts(e.tags, tags), sum(a == b for a, b in zip(e.tags, tags, strict=True)), len(tags))
        for e, tags in zip(examples, predicted, strict=True)
    ]
    return np.array(rows, dtype=np.float64)


def f1(right: float, predicted: float, gold: float) -> float:
    """Return the harmonic mean of precision and recall; 0 if nothing is right."""
    return 2 * right / (predicted + gold) if right else 0.0
