"""Errors are counted as one counts them by hand, and no text of a set that is not public is in what is said of them."""

import json

import numpy as np
import pytest
from clinical_modernbert.evaluation.errors import entity_errors, retrieval_errors, text_errors
from clinical_modernbert.evaluation.examples import Splits, TextExample, WordExample
from clinical_modernbert.evaluation.retrieval import first_ranks


def tagged(number: int, text: str, tags: str) -> WordExample:
    words, at = [], 0
    for word in text.split():
        words.append((at, at + len(word)))
        at += len(word) + 1
    return WordExample(str(number), str(number), text, tuple(words), tuple(tags.split()))


TRAIN = [
    tagged(0, "aspirin and aspirin", "B-Drug O B-Drug"),
    tagged(1, "Renal failure", "B-Disease I-Disease"),
    *(tagged(2 + i, "heparin", "B-Drug") for i in range(6)),
]
TEST = [
    tagged(20, "Aspirin for renal failure", "B-Drug O B-Disease I-Disease"),
    tagged(21, "heparin then zzz today in the ward", "B-Drug O B-Drug O O O O"),
]
ENTITIES = Splits(train=TRAIN, development=TRAIN[:1], test=TEST)
FIRST = [
    "B-Drug",
    "O",
    "B-Disease",
    "O",
    "B-Disease",
    "O",
    "O",
    "O",
    "O",
    "O",
    "O",
]  # one border wrong, one type wrong, one missed
SECOND = ["B-Drug", "O", "B-Disease", "I-Disease", "B-Drug", "O", "B-Drug", "O", "O", "O", "O"]  # all right


def test_entities_by_type_length_rarity_and_document() -> None:
    found = entity_errors(ENTITIES, [FIRST, SECOND], shown=False)
    # Drug: gold 3, found right 1 and 3, predicted 1 and 3; Disease: gold 1, right 0 and 1, predicted 2 and 1.
    assert found["by_type"]["Drug"] == {"f1": pytest.approx(2 * 4 / (4 + 6)), "gold": 3}
    assert found["by_type"]["Disease"] == {"f1": pytest.approx(2 * 1 / (3 + 2)), "gold": 1}
    assert found["recall_by_words"] == {"1": {"recall": 4 / 6, "gold": 3}, "2": {"recall": 0.5, "gold": 1}}
    assert found["recall_by_rarity"] == {
        "6 and more times in training": {"recall": 0.5, "gold": 1},  # heparin
        "2 to 5 times": {"recall": 1.0, "gold": 1},  # aspirin, whatever its case
        "once": {"recall": 0.5, "gold": 1},  # renal failure
        "never": {"recall": 0.5, "gold": 1},  # zzz
    }
    assert found["label_pairs"] == [{"gold": "Drug", "predicted": "Disease", "examples": 0.5}]
    by_document = {tuple(row["words"]): row for row in found["by_document_words"]}
    assert sum(row["documents"] for row in by_document.values()) == 2
    shortest = min(found["by_document_words"], key=lambda row: row["words"][0])
    # First document: gold 2, right 1 and 2, predicted 2 and 2.
    assert shortest["f1"] == pytest.approx(2 * 3 / (4 + 4))


def test_examples_are_those_of_the_first_seed_and_of_public_sets_alone() -> None:
    shown = entity_errors(ENTITIES, [FIRST, SECOND], shown=True)
    assert shown["examples"] == [
        {"entity": "renal failure", "gold": "Disease", "predicted": "other borders, or none"},
        {"entity": "heparin", "gold": "Drug", "predicted": "Disease"},
        {"entity": "zzz", "gold": "Drug", "predicted": "other borders, or none"},
    ]
    hidden = json.dumps(entity_errors(ENTITIES, [FIRST, SECOND], shown=False)).lower()
    assert not any(word in hidden for word in ("aspirin", "renal", "heparin", "zzz", "ward"))


def texts(*examples: tuple[str, str]) -> list[TextExample]:
    return [TextExample(str(i), str(i), text, label) for i, (text, label) in enumerate(examples)]


def test_texts_by_label_pair_length_and_unknown_words() -> None:
    splits = Splits(
        train=texts(("pulse was high", "a")),
        development=[],
        test=texts(("pulse", "a"), ("pulse was", "a"), ("pulse was high", "b"), ("pulse qqq www eee rrr ttt yyy", "b")),
    )
    found = text_errors(splits, [["a", "b", "b", "a"], ["a", "a", "b", "a"]], shown=False)
    assert found["label_pairs"] == [
        {"gold": "b", "predicted": "a", "examples": 1.0},
        {"gold": "a", "predicted": "b", "examples": 0.5},
    ]
    assert [row["examples"] for row in found["by_length"]] == [1, 1, 1, 1]
    assert [row["accuracy"] for row in found["by_length"]] == [1.0, 0.5, 1.0, 0.0]
    # Only the last has words that training lacks: six of seven.
    assert found["by_unknown_words"][-1]["share"][1] == pytest.approx(6 / 7)
    assert "qqq" not in json.dumps(found)
    shown = text_errors(splits, [["a", "b", "b", "a"], ["a", "a", "b", "a"]], shown=True)
    assert [e["text"] for e in shown["examples"]] == ["pulse was", "pulse qqq www eee rrr ttt yyy"]


def test_a_set_of_equal_lengths_is_one_part() -> None:
    splits = Splits(train=texts(("x", "a")), development=[], test=texts(("x", "a"), ("y", "b")))
    found = text_errors(splits, [["a", "a"]], shown=False)
    assert [row["examples"] for row in found["by_length"]] == [2] and found["by_length"][0]["accuracy"] == 0.5


def test_queries_by_the_rank_of_their_document_and_by_length() -> None:
    qrels = {"a": {"d1": 1}, "b": {"d2": 1, "d3": 1}, "c": {"d9": 1}}
    found = {
        "a": {"d1": 0.9, "d2": 0.1},
        "b": {"d1": 0.9, "d2": 0.5, "d3": 0.7},
        "c": {"d1": 0.9, "d2": 0.5},
    }
    ranks = first_ranks(qrels, found, ["a", "b", "c"])
    assert ranks.tolist() == [1, 2, 0]
    metrics = np.arange(12, dtype=float).reshape(3, 4)
    analysis = retrieval_errors(["one", "two words", "three whole words"], [metrics], [ranks])
    assert analysis["first_relevant_rank"] == {
        "1": 1.0, "2 to 10": 1.0, "11 to 100": 0.0, "101 to 1,000": 0.0, "not found": 1.0,
    }  # fmt: skip
    assert sum(row["queries"] for row in analysis["by_query_words"]) == 3
    assert analysis["by_query_words"][0]["ndcg@10"] == 0.0 and analysis["by_query_words"][-1]["words"][1] == 3
    assert retrieval_errors(["q"] * 3, [metrics] * 2, [ranks, np.array([1, 1, 1])])["first_relevant_rank"]["1"] == 2.0
