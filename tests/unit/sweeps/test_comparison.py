"""Paired differences: intervals that cover, that use the pairs, and that refuse what was not asked alike."""

import numpy as np
import pytest
from clinical_modernbert.errors import ModelError
from clinical_modernbert.masking import TOP_K
from clinical_modernbert.sweeps.comparison import paired_differences, verdict
from clinical_modernbert.sweeps.results import Difference
from clinical_modernbert.sweeps.scores import METRICS, DocumentScores, document_scores
from clinical_modernbert.training.held_out import MaskedPositions


def scores(losses_D: np.ndarray, *, mask: str = "m", tokens: int = 10) -> DocumentScores:
    count = len(losses_D)
    return DocumentScores(
        mask=mask,
        documents_D=np.arange(count, dtype=np.uint64),
        tokens_D=np.full(count, tokens),
        sums=dict.fromkeys(METRICS, losses_D * tokens),
    )


def test_scores_of_tokens_add_up_by_document() -> None:
    found = MaskedPositions(
        labels_N=np.array([5, 6, 7, 8]),
        ranks_N=np.array([0, 4, 5, 24]),
        sources_N=np.zeros(4, dtype=np.int64),
        documents_N=np.array([9, 3, 9, 3], dtype=np.uint64),
        losses_N=np.array([0.5, 1.0, 2.0, 4.0]),
        lefts_N=np.zeros(4, dtype=np.int64),
        rights_N=np.zeros(4, dtype=np.int64),
    )
    table = document_scores(found)
    assert table.documents_D.tolist() == [3, 9] and table.tokens_D.tolist() == [2, 2]
    assert table.sums["loss"].tolist() == [5.0, 2.5]
    assert {k: table.sums[f"top{k}"].tolist() for k in TOP_K} == {1: [0, 1], 5: [1, 1], 10: [1, 2], 25: [2, 2]}
    assert table.mean("loss") == pytest.approx(found.loss) and table.mean("top5") == found.accuracy(5)


def test_the_interval_follows_the_pairs_and_not_the_spread_of_documents() -> None:
    rng = np.random.default_rng(0)
    hard_D = rng.normal(4, 2, size=300)  # documents differ by far more than the arms do
    arm = scores(hard_D - 0.1 + rng.normal(0, 0.05, size=300))
    difference = paired_differences(arm, scores(hard_D), resamples=500)["loss"]
    assert difference.value == pytest.approx(-0.1, abs=0.01)
    assert difference.clear and difference.high - difference.low < 0.03


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(100):
        difference = paired_differences(
            scores(rng.normal(0.2, 1.0, size=80)), scores(np.zeros(80)), resamples=300, seed=int(rng.integers(1 << 30))
        )["loss"]
        covered += difference.low <= 0.2 <= difference.high
    assert 86 <= covered <= 99


def test_long_documents_weigh_by_their_hidden_tokens() -> None:
    arm, baseline = scores(np.array([1.0, 0.0])), scores(np.array([0.0, 0.0]))
    arm.tokens_D[:] = baseline.tokens_D[:] = (30, 10)
    arm.sums["loss"][:] = (30.0, 0.0)
    assert paired_differences(arm, baseline, resamples=100)["loss"].value == pytest.approx(0.75)


def test_models_that_were_asked_other_tokens_are_not_compared() -> None:
    with pytest.raises(ModelError, match="same hidden tokens"):
        paired_differences(scores(np.ones(3)), scores(np.ones(3), mask="other"), resamples=100)


@pytest.mark.parametrize(
    ("intervals", "expected"),
    [
        ([(0.1, 0.2), (0.05, 0.3), (0.1, 0.4)], "better"),
        ([(-0.2, -0.1), (-0.3, -0.1), (-0.3, -0.1)], "worse"),
        ([(0.1, 0.2), (0.1, 0.2), (-0.2, -0.1)], "undecided"),
        ([(0.1, 0.2), (0.1, 0.2), (-0.01, 0.3)], "undecided"),
        ([(0.1, 0.2), (0.05, 0.3)], "undecided"),
        ([(0.1, 0.2)], "undecided"),
        ([], "undecided"),
    ],
)
def test_a_verdict_needs_every_seed_and_three_of_them(intervals: list[tuple[float, float]], expected: str) -> None:
    differences = [Difference(value=(low + high) / 2, low=low, high=high) for low, high in intervals]
    assert verdict(differences, higher_is_better=True) == expected
    opposite = {"better": "worse", "worse": "better", "undecided": "undecided"}[expected]
    assert verdict(differences, higher_is_better=False) == opposite
