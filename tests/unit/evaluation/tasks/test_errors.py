"""Errors are counted as one counts them by hand, and no text of a set that is not public is in what is said of them."""

import json

import numpy as np
import pytest
from clinical_modernbert.evaluation.report.details import error_lines
from clinical_modernbert.evaluation.report.figures import figure_2
from clinical_modernbert.evaluation.report.schema import CodesReport, TaskReport, section_json
from clinical_modernbert.evaluation.tasks.errors.buckets import quartiles, recall
from clinical_modernbert.evaluation.tasks.errors.entities import entity_errors
from clinical_modernbert.evaluation.tasks.errors.retrieval import retrieval_errors
from clinical_modernbert.evaluation.tasks.errors.texts import text_errors
from clinical_modernbert.evaluation.tasks.examples import Splits, TextExample, WordExample
from clinical_modernbert.evaluation.tasks.ranking import first_ranks


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
    found = section_json(entity_errors(ENTITIES, [FIRST, SECOND], num_resamples=100, shown=False))
    # Drug: gold 3, found right 1 and 3, predicted 1 and 3; Disease: gold 1, right 0 and 1, predicted 2 and 1.
    # A word is found if it is in a prediction of any type: heparin, and one of two words of renal failure.
    assert found["by_type"]["Drug"] == {
        "f1": pytest.approx(2 * 4 / (4 + 6)),
        "gold": 3,
        "recall": pytest.approx(4 / 6),
        "recall_overlap": pytest.approx(4 / 6),
        "recall_words": pytest.approx(5 / 6),
    }
    assert found["by_type"]["Disease"] == {
        "f1": pytest.approx(2 * 1 / (3 + 2)),
        "gold": 1,
        "recall": 0.5,
        "recall_overlap": 1.0,
        "recall_words": 0.75,
    }
    # Entities of one word, both seeds together: right are 2 of 2 in the first document, 2 of 4 in the second.
    by_words = {name: (bucket["recall"], bucket["gold"]) for name, bucket in found["recall_by_words"].items()}
    assert by_words == {"1": (pytest.approx(4 / 6), 3), "2": (0.5, 1)}
    assert {name: (bucket["recall"], bucket["gold"]) for name, bucket in found["recall_by_rarity"].items()} == {
        "6 and more times in training": (0.5, 1),  # heparin
        "2 to 5 times": (1.0, 1),  # aspirin, whatever its case
        "once": (0.5, 1),  # renal failure
        "never": (0.5, 1),  # zzz
    }
    # Two seeds that disagree, or one document, say next to nothing.
    for bucket in found["recall_by_rarity"].values():
        assert bucket["low"] < 0.03 and bucket["high"] > 0.97
    assert found["label_pairs"] == [{"gold": "Drug", "predicted": "Disease", "examples": 0.5}]
    assert found["by_document_words"] == [
        {
            "words": [4, 4],
            "documents": 1,
            "f1": pytest.approx(2 * 3 / (4 + 4)),
        },  # gold 2, right 1 and 2, predicted 2 and 2
        {
            "words": [7, 7],
            "documents": 1,
            "f1": pytest.approx(2 * 2 / (3 + 4)),
        },  # gold 2, right 0 and 2, predicted 1 and 2
    ]


def test_recall_draws_whole_groups_and_counts_seeds() -> None:
    # One document all right and one all wrong, in both seeds: 200 entities, but two documents.
    torn = recall(np.array([[100.0, 100.0], [0.0, 0.0]]), np.array([100.0, 100.0]), num_resamples=200)
    assert (torn.recall, torn.gold) == (0.5, 200) and torn.low < 0.01 and torn.high > 0.99
    even = recall(np.full((9, 1), 1.0), np.full(9, 4.0), num_resamples=50)
    assert (even.recall, even.low, even.high, even.gold) == (0.25, 0.25, 0.25, 36)
    # Every document gives the same, but seeds do not.
    seeds = recall(np.tile([1.0, 2.0, 3.0], (9, 1)), np.full(9, 4.0), num_resamples=50)
    assert seeds.recall == 0.5 and seeds.low < 0.2 and seeds.high > 0.8


def test_quartiles_are_named_by_what_is_in_them_and_do_not_overlap() -> None:
    values = np.array([30, 1, 4, 2, 9, 4, 3, 6, 7, 10])  # quarters at 3.25, 5 and 8.5: lengths that nothing has
    parts = quartiles(values)
    assert [(low, high, int(here.sum())) for low, high, here in parts] == [(1, 3, 3), (4, 4, 2), (6, 7, 2), (9, 30, 3)]
    assert (sum(here.astype(int) for _, _, here in parts) == 1).all()


def test_examples_are_those_of_the_first_seed_and_of_public_sets_alone() -> None:
    shown = section_json(entity_errors(ENTITIES, [FIRST, SECOND], num_resamples=100, shown=True))
    assert shown["examples"] == [
        {"entity": "renal failure", "gold": "Disease", "predicted": "other borders, or none"},
        {"entity": "heparin", "gold": "Drug", "predicted": "Disease"},
        {"entity": "zzz", "gold": "Drug", "predicted": "other borders, or none"},
    ]
    swapped = section_json(entity_errors(ENTITIES, [SECOND, FIRST], num_resamples=100, shown=True))
    assert swapped["examples"] == []  # the first seed now has all right
    hidden = json.dumps(section_json(entity_errors(ENTITIES, [FIRST, SECOND], num_resamples=100, shown=False))).lower()
    assert not any(word in hidden for word in ("aspirin", "renal", "heparin", "zzz", "ward"))


def texts(*examples: tuple[str, str]) -> list[TextExample]:
    return [TextExample(str(i), str(i), text, label) for i, (text, label) in enumerate(examples)]


def test_texts_by_label_pair_length_and_unknown_words() -> None:
    splits = Splits(
        train=texts(("pulse was high", "a")),
        development=[],
        test=texts(("pulse", "a"), ("pulse was", "a"), ("pulse was high", "b"), ("pulse qqq www eee rrr ttt yyy", "b")),
    )
    found = section_json(text_errors(splits, [["a", "b", "b", "a"], ["a", "a", "b", "a"]], shown=False))
    assert found["label_pairs"] == [
        {"gold": "b", "predicted": "a", "examples": 1.0},
        {"gold": "a", "predicted": "b", "examples": 0.5},
    ]
    assert [row["examples"] for row in found["by_length"]] == [1, 1, 1, 1]
    assert [row["accuracy"] for row in found["by_length"]] == [1.0, 0.5, 1.0, 0.0]
    # Only the last has words that training lacks: six of seven.
    assert found["by_unknown_words"][-1]["share"][1] == pytest.approx(6 / 7)
    hidden = json.dumps(found)
    assert not any(word in hidden for e in splits.test for word in e.text.split())
    shown = section_json(text_errors(splits, [["a", "b", "b", "a"], ["a", "a", "b", "a"]], shown=True))
    assert [e["text"] for e in shown["examples"]] == ["pulse was", "pulse qqq www eee rrr ttt yyy"]


def test_a_set_of_equal_lengths_is_one_part() -> None:
    splits = Splits(train=texts(("x", "a")), development=[], test=texts(("x", "a"), ("y", "b")))
    found = section_json(text_errors(splits, [["a", "a"]], shown=False))
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
    queries = ["one", "two words", "three whole words"]
    analysis = section_json(retrieval_errors(queries, [1, 2, 30], [metrics], [ranks]))
    assert analysis["first_relevant_rank"] == {
        "1": 1.0, "2 to 10": 1.0, "11 to 100": 0.0, "101 to 1,000": 0.0, "not found": 1.0,
    }  # fmt: skip
    names = ("ndcg@10", "precision@10", "recall@10", "map")
    one, two, three = ({"queries": 1, **dict(zip(names, row, strict=True))} for row in metrics.tolist())
    assert analysis["by_query_words"] == [{"words": [n, n], **row} for n, row in ((1, one), (2, two), (3, three))]
    assert analysis["by_relevant_documents"] == {"1": one, "2 to 5": two, "11 and more": three}
    assert not any(word in json.dumps(analysis) for word in ("one", "two", "three", "whole"))
    # Two seeds: figures are means over them, and queries count once.
    both = section_json(retrieval_errors(["q"] * 3, [6, 10, 1], [metrics, metrics + 2], [ranks, np.array([1, 1, 1])]))
    assert both["first_relevant_rank"]["1"] == 2.0
    assert both["by_query_words"][0]["queries"] == 3 and both["by_query_words"][0]["ndcg@10"] == 4 + 1
    assert (
        both["by_relevant_documents"]["6 to 10"]["ndcg@10"] == 2 + 1
        and both["by_relevant_documents"]["1"]["queries"] == 1
    )


def test_the_markdown_gives_recall_and_chance_with_their_ranges() -> None:
    found = entity_errors(ENTITIES, [FIRST, SECOND], num_resamples=100, shown=False)
    metrics = np.arange(4, dtype=float)[None] / 10
    ranked = retrieval_errors(["q"], [3], [metrics + 0.25], [np.array([7])])
    task = {"type": "entities", "note": "", "results": [], "paired_tests": [], "facts": {}}
    (text,) = error_lines(TaskReport.model_validate({**task, "errors": {"frozen": {"bert": found, "minilm": ranked}}}))
    assert "2 to 5 times 1.000 [0.025, 1.000] of 1" in text and "Drug taken for Disease (0.5)" in text
    assert "ndcg@10 by number of relevant documents: 2 to 5: 0.250 of 1" in text and "2 to 10: 1," in text
    figure = {"mean": 0.5, "low": 0.4, "high": 0.6}
    names = ("purity", "neighbour_agreement", "silhouette")
    chance = {name: {"mean": number / 10, "low": 0.0, "high": 0.9} for number, name in enumerate(names)}
    figures = {"codes": 1200, **dict.fromkeys(names, figure), "permutation": 0.0, "permutations": chance}
    codes = CodesReport.model_validate({"num_codes": 1200, "k": 10, "encoders": {"bert": figures}, "tfidf": figures})
    (row,) = [line for line in figure_2(codes)[-1].splitlines() if line.startswith("| bert |")]
    assert row.startswith("| bert | 1,200 | 0.5000 [0.4000, 0.6000] |")
    assert row.endswith("| 0.000 [0.000, 0.900] / 0.100 [0.000, 0.900] / 0.200 [0.000, 0.900] |")


def test_a_model_trained_on_the_pairs_has_a_row_that_says_so_and_one_of_held_out_concepts() -> None:
    figure = {"mean": 0.5, "low": 0.4, "high": 0.6}
    chance = {"purity": figure, "neighbour_agreement": figure, "silhouette": figure}
    figures = {"codes": 9, **dict.fromkeys(chance, figure), "permutation": 0.0, "permutations": chance}
    found = {"queries": 100, "candidates": 900, "recall_at_1": figure, "recall_at_10": figure}
    trained = {**found, "was_trained": True, "held_out": {**found, "queries": 20}}
    crosswalk = {"BM25": found, "ours": trained}
    report = {"num_codes": 9, "k": 10, "encoders": {}, "tfidf": figures, "crosswalk": crosswalk}
    text = "\n".join(figure_2(CodesReport.model_validate(report)))
    assert "| BM25 | 100 |" in text and "| ours, trained on pairs of these codes | 100 |" in text
    assert "| ours, held-out concepts | 20 |" in text
