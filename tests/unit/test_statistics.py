"""Resamples draw whole groups, both draws have the same distribution, and permutation tests have their known ends."""

import numpy as np
import pytest
from clinical_modernbert.statistics import (
    bootstrap,
    holm,
    index_weights,
    mean_intervals,
    multinomial_weights,
    paired_permutation,
    percentiles,
    resampled_means,
    usable_resamples,
)


@pytest.mark.parametrize("weights", [index_weights, multinomial_weights])
def test_weights_draw_as_many_groups_as_there_are(weights) -> None:
    drawn_RG = weights(np.random.default_rng(0), 7, 4000)
    assert drawn_RG.shape == (4000, 7) and (drawn_RG.sum(1) == 7).all()
    # Each count is binomial(7, 1/7): mean 1, variance 6/7. Four standard errors over 4,000 resamples.
    assert np.abs(drawn_RG.mean(0) - 1).max() < 4 * np.sqrt(6 / 7 / 4000)
    assert drawn_RG.var() == pytest.approx(6 / 7, rel=0.05)


def test_index_weights_are_the_same_one_by_one_and_together() -> None:
    together = index_weights(np.random.default_rng(3), 37, 5)
    rng = np.random.default_rng(3)
    assert np.array_equal(together, np.concatenate([index_weights(rng, 37, 1) for _ in range(5)]))


@pytest.mark.parametrize("weights", [index_weights, multinomial_weights])
def test_means_of_resamples_weigh_groups_by_their_items(weights) -> None:
    # One group of 30 items with value 1, one of 10 with value 0: drawn are 1, 0 or the mean over all items.
    means_R = resampled_means(np.array([[30.0], [0.0]]), np.array([30.0, 10.0]), num_resamples=401, weights=weights)
    assert means_R.shape == (401, 1) and set(means_R[:, 0]) == {0.0, 0.75, 1.0}


def test_a_mean_interval_has_the_width_of_theory() -> None:
    rng = np.random.default_rng(0)
    values_G = rng.normal(size=2000)
    low, high = mean_intervals(values_G[:, None], np.ones(2000), num_resamples=2000)[:, 0]
    assert (high - low) / 2 == pytest.approx(1.96 * values_G.std() / np.sqrt(2000), rel=0.1)
    ends = percentiles(bootstrap(lambda w_G: float(w_G @ values_G) / 2000, 2000, num_resamples=2000))
    assert ends == pytest.approx([low, high], abs=0.01)


def test_unusable_resamples_are_drawn_again() -> None:
    drawn = list(usable_resamples(3, num_resamples=50, seed=0, usable=lambda indices: len(np.unique(indices)) > 1))
    assert len(drawn) == 50 and all(len(np.unique(indices)) > 1 for indices in drawn)


def test_a_permutation_test_never_says_zero_and_says_one_of_no_difference() -> None:
    deltas_G = np.ones(20)
    observed, p = paired_permutation(lambda s_G: float(np.where(s_G, -deltas_G, deltas_G).mean()), 20, num_resamples=99)
    assert (observed, p) == (1.0, 0.01)
    assert paired_permutation(lambda _: 0.0, 20, num_resamples=99) == (0.0, 1.0)


def test_holms_correction_is_that_of_the_book() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0] and holm([]) == []
