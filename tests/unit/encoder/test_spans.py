"""Scores from outputs, and spans that never end inside a word."""

import numpy as np
import torch
from clinical_modernbert.encoder.spans import find_spans, scores
from clinical_modernbert.recipe.vocabulary import Grouping

LABELS = ("O", "B-DRUG", "I-DRUG")


def outputs(*best: int, sure: float = 0.8) -> np.ndarray:
    """Rows of probabilities whose likeliest label is ``best``."""
    rest = (1 - sure) / 2
    return np.array([[sure if label == one else rest for label in range(3)] for one in best], dtype=np.float32)


def spans(text: str, pieces: list[str], likely: np.ndarray, grouping: Grouping) -> list[tuple[str, str]]:
    offsets, at = [], 0
    for piece in pieces:
        start = text.index(piece, at)
        offsets.append((start, start + len(piece)))
        at = start + len(piece)
    found = find_spans(text, offsets, likely, LABELS, grouping=grouping)
    return [(text[span.start : span.stop], span.label) for span in found if span.label != "O"]


def test_a_word_is_labelled_whole_whatever_its_later_tokens_say() -> None:
    text, pieces = "took war farin2 daily", ["took", " war", " far", "in", "2", " daily"]
    likely = outputs(0, 1, 2, 0, 0, 0)
    assert spans(text, pieces, likely, "first") == [("war farin2", "DRUG")]
    assert spans(text, pieces, likely, "simple") == [("war far", "DRUG")]
    assert spans(text, pieces, likely, "none") == [("war", "B-DRUG"), ("far", "I-DRUG")]


def test_average_and_max_weigh_all_tokens_of_a_word() -> None:
    likely = np.array([[0.5, 0.4, 0.1], [0.05, 0.9, 0.05], [0.9, 0.05, 0.05]], dtype=np.float32)
    text, pieces = "metformin held", ["metfor", "min", " held"]
    assert spans(text, pieces, likely, "first") == []
    assert spans(text, pieces, likely, "average") == [("metformin", "DRUG")]
    assert spans(text, pieces, likely, "max") == [("metformin", "DRUG")]


def test_b_begins_a_new_span_and_punctuation_is_a_word_of_its_own() -> None:
    text, pieces = "aspirin heparin, insulin.", ["aspirin", " heparin", ",", " insulin", "."]
    found = spans(text, pieces, outputs(1, 1, 0, 1, 0), "first")
    assert found == [("aspirin", "DRUG"), ("heparin", "DRUG"), ("insulin", "DRUG")]
    assert spans(text, pieces, outputs(1, 2, 0, 2, 0), "first") == [("aspirin heparin", "DRUG"), ("insulin", "DRUG")]


def test_tokens_of_one_character_are_one_word() -> None:
    found = find_spans("µ x", [(0, 1), (0, 1), (2, 3)], outputs(1, 0, 0), LABELS, grouping="first")
    assert [(span.start, span.stop, span.label) for span in found] == [(0, 1, "DRUG"), (2, 3, "O")]


def test_scores_follow_the_problem() -> None:
    logits = np.array([[2.0, -1.0, 0.5]], dtype=np.float32)
    np.testing.assert_allclose(scores(logits, problem=None), torch.tensor(logits).softmax(-1), atol=1e-6)
    np.testing.assert_allclose(
        scores(logits, problem="multi_label_classification"), torch.tensor(logits).sigmoid(), atol=1e-6
    )
    np.testing.assert_array_equal(scores(logits, problem="regression"), logits)
