"""Entity spans of IOB2 tags, counted as seqeval counts them in its default mode (conlleval's rules), strictly, and by overlap.

Strictly, a prediction that does not begin with ``B-`` is no entity (seqeval's strict IOB2); what is gold stays the same, because
files may have IOB1. By overlap, a span is found if one of the same type shares a word with it, as i2b2 and n2c2 count.
``gold B-D I-D O, predicted O I-D O`` is wrong by default and strictly (the latter sees no prediction), and found by overlap.

seqeval has had no release since 2020, and its source package no longer builds everywhere. So it is not a dependency but the
reference of the tests: ``tests/golden/seqeval.json`` holds its figures for random tag sequences.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.evaluation.tasks.examples import WordExample

Span = tuple[str, int, int]
"""(type, first word, last word)."""


def entity_spans(tags: Sequence[str], *, strict: bool = False) -> set[Span]:
    """Return the spans; an ``I-`` that continues nothing begins an entity, as in conlleval, or with ``strict`` none."""
    spans: set[Span] = set()
    start, current = 0, ""  # the open entity
    for number, tag in enumerate([*tags, "O"]):
        prefix, _, kind = tag.partition("-")
        kind = kind or ("entity" if prefix in "BI" else "")
        continues = prefix == "I" and kind == current and current
        if current and not continues:
            spans.add((current, start, number - 1))
        if not continues:
            begins = prefix == "B" or (prefix == "I" and not strict)
            start, current = number, kind if begins else ""
    return spans


COUNTS = (
    "right",
    "predicted",
    "gold",
    "right_words",
    "words",
    "right_strict",
    "predicted_strict",
    "gold_found",
    "predicted_found",
    "right_marked_words",
    "predicted_words",
    "gold_words",
)
"""Columns of ``tag_counts``: spans, words with the right tag, spans strictly and by overlap, and words in any entity."""


def tag_counts(examples: Sequence[WordExample], predicted: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """Return [N, 12] in the order of ``COUNTS``."""
    rows = [_counts(example.tags, tags) for example, tags in zip(examples, predicted, strict=True)]
    return np.array(rows, dtype=np.float64)


def _counts(gold_tags: Sequence[str], tags: Sequence[str]) -> tuple[int, ...]:
    gold, predicted, strict = entity_spans(gold_tags), entity_spans(tags), entity_spans(tags, strict=True)
    is_gold, is_predicted = ([tag != "O" for tag in of_side] for of_side in (gold_tags, tags))
    return (
        len(gold & predicted),
        len(predicted),
        len(gold),
        sum(a == b for a, b in zip(gold_tags, tags, strict=True)),
        len(tags),
        len(gold & strict),
        len(strict),
        len(overlapped(gold, predicted)),
        len(overlapped(predicted, gold)),
        sum(a and b for a, b in zip(is_gold, is_predicted, strict=True)),
        sum(is_predicted),
        sum(is_gold),
    )


def overlapped(spans: set[Span], others: set[Span]) -> set[Span]:
    """Return the spans that share a word with another of the same type."""
    words = {(kind, word) for kind, first, last in others for word in range(first, last + 1)}
    return {
        (kind, first, last) for kind, first, last in spans if any((kind, w) in words for w in range(first, last + 1))
    }


def f1(right: float, predicted: float, gold: float) -> float:
    """Return the harmonic mean of precision and recall; 0 if nothing is right."""
    return 2 * right / (predicted + gold) if right else 0.0
