"""Counterparts are found among the descriptions of the other version, and words alone find a part of them."""

import numpy as np
import pytest
from clinical_modernbert.evaluation.codes.crosswalk import Crosswalk, counting_figures, crosswalk, encoder_figures


def test_recall_counts_queries_whose_nearest_hold_a_counterpart() -> None:
    vectors = {"a": [1.0, 0.0], "b": [0.0, 1.0], "c": [0.9, 0.1], "x": [0.5, 0.5]}
    of = Crosswalk(["a", "b"], ["1", "2"], ["c", "b", *["x"] * 20], [{0}, {0}])
    found = encoder_figures(of, lambda texts: np.array([vectors[text] for text in texts], dtype=np.float32), seed=0)
    # The first query's own counterpart is nearest; that of the second comes after all others.
    assert (found.recall_at_1.mean, found.recall_at_10.mean) == (0.5, 0.5)
    assert (found.queries, found.candidates) == (2, 22)


def test_a_sample_holds_every_counterpart_of_its_queries_and_is_drawn_by_the_seed() -> None:
    of = crosswalk(num_queries=60, all_candidates=False, seed=1)
    assert len(of.queries) == len(of.categories) == 60 and len(of.candidates) == 600
    assert all(answers and max(answers) < 600 for answers in of.answers)
    assert crosswalk(num_queries=60, all_candidates=False, seed=1) == of
    found = counting_figures(of, seed=0)
    assert set(found) == {"BM25", "TF-IDF of words", "TF-IDF of characters"}
    for figures in found.values():
        assert 0.5 < figures.recall_at_1.mean < figures.recall_at_10.mean <= 1
        assert figures.recall_at_1.low < figures.recall_at_1.mean < figures.recall_at_1.high


@pytest.mark.slow
def test_all_candidates_give_the_figures_of_the_results_page() -> None:
    found = counting_figures(crosswalk(num_queries=1500, all_candidates=True, seed=0), seed=0)["TF-IDF of characters"]
    assert found.candidates > 7000 and 0.5 < found.recall_at_1.mean < 0.75
