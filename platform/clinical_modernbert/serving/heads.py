"""Classification heads, and what their labels mean: classes of a text, or spans of it.

Legend: T tokens of one text, L labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Grouping = Literal["none", "simple", "first", "average", "max"]


def labels_of(model: Any) -> tuple[str, ...]:
    """Return the label of each output of the head."""
    names = model.config.id2label
    return tuple(str(names[i]) for i in range(model.config.num_labels))


def scores(logits: NDArray[np.float32], *, problem: str | None) -> NDArray[np.float32]:
    """Return probabilities over the last axis: softmax over classes; sigmoid for one label or independent ones.

    A regression's output stands as it is.
    """
    if problem == "regression":
        return logits
    if problem == "multi_label_classification" or logits.shape[-1] == 1:
        return np.asarray(1 / (1 + np.exp(-logits)), dtype=np.float32)
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(-1, keepdims=True), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Span:
    """Characters ``start`` to ``stop`` of a text with their label."""

    start: int
    stop: int
    label: str
    score: float
    """Mean over the words or tokens of the span."""


def find_spans(
    text: str,
    offsets: Sequence[tuple[int, int]],
    likely_TL: NDArray[np.float32],
    labels: Sequence[str],
    *,
    grouping: Grouping,
) -> list[Span]:
    """Return the labelled spans of a text, every label but those that the caller drops afterwards.

    ``offsets`` are the tokenizer's, one a token. ``none`` gives every token its label; ``simple`` joins neighbouring tokens of
    one class; the others label whole words first, by their first token, by the mean of their tokens' probabilities or by the
    surest token, so that no span ends inside a word. ``B-`` begins a new span, ``I-`` goes on with one of its own class.
    """
    members = [[i] for i in range(len(offsets))]
    if grouping in ("first", "average", "max"):
        members = _words(text, offsets)
    units = []
    for tokens in members:
        found_KL = likely_TL[tokens]
        likely_L = {"average": found_KL.mean(0), "max": found_KL[found_KL.max(1).argmax()]}.get(grouping, found_KL[0])
        best = int(likely_L.argmax())
        start, stop = _trimmed(text, offsets[tokens[0]][0], offsets[tokens[-1]][1])
        if stop > start:
            units.append(Span(start, stop, labels[best], float(likely_L[best])))
    return units if grouping == "none" else _joined(units)


def _words(text: str, offsets: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Return the tokens of each word: an unbroken run of letters and digits, or one token of anything else.

    Not the tokenizer's own words, which part the letters of a drug or lab name from its digits.
    """
    groups: list[list[int]] = []
    for i, (start, _) in enumerate(offsets):
        before = offsets[i - 1][1] if i else 0
        # Tokens of one character that takes several bytes overlap.
        joined = start < before or (
            start == before and text[start - 1 : start].isalnum() and text[start : start + 1].isalnum()
        )
        if i and joined:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def _trimmed(text: str, start: int, stop: int) -> tuple[int, int]:
    inside = text[start:stop]
    return start + len(inside) - len(inside.lstrip()), stop - len(inside) + len(inside.rstrip())


def _joined(units: Sequence[Span]) -> list[Span]:
    spans: list[list[Span]] = []
    for unit in units:
        begins, name = unit.label.startswith("B-"), _class(unit.label)
        if spans and not begins and name == _class(spans[-1][-1].label):
            spans[-1].append(unit)
        else:
            spans.append([unit])
    return [
        Span(group[0].start, group[-1].stop, _class(group[0].label), sum(u.score for u in group) / len(group))
        for group in spans
    ]


def _class(label: str) -> str:
    return label[2:] if label.startswith(("B-", "I-")) else label
