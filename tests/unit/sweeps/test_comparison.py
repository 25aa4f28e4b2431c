"""Paired differences: intervals that cover, that use the pairs, and that refuse what was not asked alike."""

import numpy as np
import pytest
from clinical_modernbert.errors import ModelError
from clinical_modernbert.masking import TOP_K
from clinical_modernbert.sweeps.comparison import compare_seeds, paired_differences, with_verdicts
from clinical_modernbert.sweeps.kinds import MASKED_METRICS
from clinical_modernbert.sweeps.results import MetricComparison
from clinical_modernbert.sweeps.scores import GroupScores, document_scores
from clinical_modernbert.training.held_out import MaskedPositions


def scores(losses_D: np.ndarray, *, mask: str = "m", tokens: int = 10) -> GroupScores:
    count = len(losses_D)
    return GroupScores(
        scored=mask,
        groups_G=np.arange(count, dtype=np.uint64),
        counts_G=np.full(count, tokens),
        sums=dict.fromkeys(MASKED_METRICS, losses_D * tokens),
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
    assert table.groups_G.tolist() == [3, 9] and table.counts_G.tolist() == [2, 2]
    assert table.sums["loss"].tolist() == [5.0, 2.5]
    assert {k: table.sums[f"top{k}"].tolist() for k in TOP_K} == {1: [0, 1], 5: [1, 1], 10: [1, 2], 25: [2, 2]}
    assert table.mean("loss") == pytest.approx(found.loss) and table.mean("top5") == found.accuracy(5)


def test_the_interval_follows_the_pairs_and_not_the_spread_of_documents() -> None:
    rng = np.random.default_rng(0)
    hard_D = rng.normal(4, 2, size=300)  # documents differ by far more than the arms do
    arm = scores(hard_D - 0.1 + rng.normal(0, 0.05, size=300))
    difference = paired_differences(arm, scores(hard_D), resamples=500)["loss"]
    assert difference.value == pytest.approx(-0.1, abs=0.01)
    assert difference.high < 0 and difference.high - difference.low < 0.03


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(100):
        difference = paired_differences(scores(rng.normal(0.2, 1.0, size=80)), scores(np.zeros(80)), resamples=300)[
            "loss"
        ]
        covered += difference.low <= 0.2 <= difference.high
    assert 86 <= covered <= 99


def test_long_documents_weigh_by_their_hidden_tokens() -> None:
    arm, baseline = scores(np.array([1.0, 0.0])), scores(np.array([0.0, 0.0]))
    arm.counts_G[:] = baseline.counts_G[:] = (30, 10)
    arm.sums["loss"][:] = (30.0, 0.0)
    assert paired_differences(arm, baseline, resamples=100)["loss"].value == pytest.approx(0.75)


def test_models_that_were_asked_other_tokens_are_not_compared() -> None:
    with pytest.raises(ModelError, match="same hidden tokens"):
        paired_differences(scores(np.ones(3)), scores(np.ones(3), mask="other"), resamples=100)


def against(differences: list[float]) -> MetricComparison:
    """An arm whose loss is lower or higher by these amounts, one for each seed."""
    rng = np.random.default_rng(0)
    hard_D = rng.normal(4, 1, size=200)
    pairs = {str(seed): (scores(hard_D + value), scores(hard_D)) for seed, value in enumerate(differences)}
    return compare_seeds(pairs, resamples=100)["loss"]


def test_a_verdict_is_a_t_test_over_seeds() -> None:
    """Document intervals of all three are narrow and on one side; what counts is how the seeds spread."""
    arms = {"clear": against([0.30, 0.31, 0.32]), "spread": against([0.05, 0.5, 0.02])}
    assert all(difference.low > 0 for arm in arms.values() for difference in arm.seeds.values())
    decided = with_verdicts(arms, higher_is_better=False)
    assert [compared.verdict for compared in decided.values()] == ["worse", "undecided"]
    assert decided["spread"].p == pytest.approx(0.3456, abs=1e-3)  # t = 1.225, two degrees of freedom
    assert with_verdicts(arms, higher_is_better=True)["clear"].verdict == "better"
    low, high = decided["spread"].mean.low, decided["spread"].mean.high
    assert low < 0 < high and decided["spread"].mean.value == pytest.approx(0.19)


def test_arms_are_corrected_for_their_number() -> None:
    arm = against([0.28, 0.32, 0.36, 0.44])
    assert arm.p is not None and 0.001 < arm.p < 0.02
    assert with_verdicts({"one": arm}, higher_is_better=True)["one"].verdict == "better"
    many = with_verdicts({str(n): arm for n in range(60)}, higher_is_better=True)
    assert {compared.verdict for compared in many.values()} == {"undecided"}


@pytest.mark.parametrize("differences", [[0.3], [0.3, 0.31]])
def test_two_seeds_are_not_tested(differences: list[float]) -> None:
    arm = against(differences)
    assert arm.p is None and with_verdicts({"arm": arm}, higher_is_better=True)["arm"].verdict == "undecided"


def test_a_loss_that_is_not_a_number_decides_nothing() -> None:
    arm = against([0.3, 0.3, float("nan")])
    assert arm.p is None and with_verdicts({"arm": arm}, higher_is_better=True)["arm"].verdict == "undecided"
