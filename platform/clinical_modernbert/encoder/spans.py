"""From the outputs of a classification head to probabilities, and from labelled tokens to spans of a text.

Legend: T tokens of one text, K tokens of one word, L labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.recipe.vocabulary import Grouping


def labels_of(model: Any) -> tuple[str, ...]:
    """Return the label of each output of the head."""
    names = model.config.id2label
    return tuple(str(names[i]) for i in range(model.config.num_labels))


def scores(logits: NDArray[np.float32], *, problem: str | None) -> NDArray[np.float32]:
    """Return probabilities over the last axis: softmax over classes; sigmoid for one label or independent ones.

    The output of a regression is returned unchanged.
    """
    if problem == "regression":
        return logits
    if problem == "multi_label_classification" or logits.shape[-1] == 1:
        return np.asarray(1 / (1 + np.exp(-logits)), dtype=np.float32)
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(-1, keepdims=True), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class TextSpan:
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
) -> list[TextSpan]:
    """Return the labelled spans of a text, those labelled ``O`` included.

    ``offsets`` are the tokenizer's, one pair for each token. ``none`` gives every token its label; ``simple`` joins adjacent
    tokens of the same class. The others label whole words, so that no span ends inside a word: by the first token, by the mean of
    the tokens' probabilities, or by the token with the highest probability. ``B-`` begins a new span, ``I-`` continues a span of
    the same class.

        text "took war farin2 daily", best labels of [took][ war][ far][in][2][ daily]: O B-DRUG I-DRUG O O O
        first   "war farin2" DRUG    the word farin2 has the label of its first token
        simple  "war far" DRUG       the tokens in and 2 are O
        none    "war" B-DRUG, "far" I-DRUG
    """
    members = [[i] for i in range(len(offsets))]
    if grouping in ("first", "average", "max"):
        members = _words(text, offsets)
    units = []
    for tokens in members:
        word_KL = likely_TL[tokens]
        likely_L = {"average": word_KL.mean(0), "max": word_KL[word_KL.max(1).argmax()]}.get(grouping, word_KL[0])
        best = int(likely_L.argmax())
        start, stop = _trimmed(text, offsets[tokens[0]][0], offsets[tokens[-1]][1])
        if stop > start:
            units.append(TextSpan(start, stop, labels[best], float(likely_L[best])))
    return units if grouping == "none" else _joined(units)


def _words(text: str, offsets: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Return the tokens of each word: an unbroken run of letters and digits, or one token of anything else.

    The tokenizer's own words are not used: they separate the letters of a drug or lab name from its digits.
    """
    groups: list[list[int]] = []
    for i, (start, _) in enumerate(offsets):
        before = offsets[i - 1][1] if i else 0
        # A character of several bytes may have several tokens, whose offsets overlap.
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


def _joined(units: Sequence[TextSpan]) -> list[TextSpan]:
    spans: list[list[TextSpan]] = []
    for unit in units:
        begins, name = unit.label.startswith("B-"), class_of(unit.label)
        if spans and not begins and name == class_of(spans[-1][-1].label):
            spans[-1].append(unit)
        else:
            spans.append([unit])
    return [
        TextSpan(group[0].start, group[-1].stop, class_of(group[0].label), sum(u.score for u in group) / len(group))
        for group in spans
    ]


def class_of(label: str) -> str:
    """Return a label without ``B-`` or ``I-``."""
    return label[2:] if label.startswith(("B-", "I-")) else label
