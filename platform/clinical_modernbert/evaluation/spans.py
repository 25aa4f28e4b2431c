"""Entity spans of IOB tags, counted as seqeval counts them in its default mode (conlleval's rules).

seqeval has had no release since 2020 and its source package no longer builds everywhere, so it is the reference in the tests and
no dependency: ``tests/golden/seqeval.json`` holds its figures for random tag sequences.
"""

from collections.abc import Sequence

Span = tuple[str, int, int]


def entity_spans(tags: Sequence[str]) -> set[Span]:
    """Return (type, first word, last word); an ``I-`` that continues nothing begins an entity, as in conlleval."""
    spans: set[Span] = set()
    start, kind = 0, ""
    for number, tag in enumerate([*tags, "O"]):
        prefix, _, here = tag.partition("-")
        here = here or ("entity" if prefix in "BI" else "")
        goes_on = prefix == "I" and here == kind and kind
        if kind and not goes_on:
            spans.add((kind, start, number - 1))
        if not goes_on:
            start, kind = number, here if prefix in ("B", "I") else ""
    return spans


def span_counts(gold: Sequence[str], predicted: Sequence[str]) -> tuple[int, int, int]:
    """Return (found and right, predicted, gold) spans of one text."""
    right, found = entity_spans(gold), entity_spans(predicted)
    return len(right & found), len(found), len(right)


def f1(right: float, predicted: float, gold: float) -> float:
    """Return the harmonic mean of precision and recall; 0 where nothing is right."""
    return 2 * right / (predicted + gold) if right else 0.0
