"""Heads: what labels become of outputs, and spans that never end inside a word."""

from pathlib import Path

import numpy as np
import pytest
import torch
from clinical_modernbert.errors import ModelError
from clinical_modernbert.serving.heads import Grouping, find_spans, load_export, scores

from tests.tiny import save_tiny_classifier, save_tiny_model

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


def test_a_masked_language_export_is_no_classifier(tmp_path: Path) -> None:
    save_tiny_model(tmp_path)
    assert load_export(tmp_path)[1] == "masked-lm"


@pytest.mark.parametrize(("head", "architecture"), [("sequence", "Sequence"), ("token", "Token")])
def test_an_export_with_missing_weights_is_refused(tmp_path: Path, head: str, architecture: str) -> None:
    save_tiny_classifier(tmp_path, head=head, labels=LABELS)
    encoder, found = load_export(tmp_path)
    assert found == head
    assert type(encoder.model).__name__ == f"ModernBertFor{architecture}Classification"
    config = (tmp_path / "config.json").read_text()
    save_tiny_model(tmp_path)
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(ModelError, match=r"2 keys missing \['classifier"):
        load_export(tmp_path)
