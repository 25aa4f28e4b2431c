"""Resamples draw whole groups, both draws have the same distribution, and a spread counts seeds and groups."""

import numpy as np
import pytest
from clinical_modernbert.statistics import (
    Seeds,
    bootstrap,
    holm,
    index_weights,
    mean_intervals,
    multinomial_weights,
    percentiles,
    resampled_means,
    share_interval,
    spread,
    t_test,
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


def seeds(figures: list[float], *, over_groups: float = 0.0, together: float = 0.0) -> Seeds:
    """Figures whose resamples deviate by ``over_groups``, in common, and by ``together``, each by its own."""
    rng = np.random.default_rng(0)
    common_R1 = rng.normal(0, 1, (4000, 1)) * over_groups
    return Seeds(np.array(figures), np.array(figures) + common_R1 + rng.normal(0, 1, (4000, len(figures))) * together)


def test_a_spread_adds_seeds_and_groups_and_counts_what_both_do_once() -> None:
    five = [0.5, 0.6, 0.7, 0.8, 0.9]
    of_seeds = np.std(five, ddof=1) / np.sqrt(5)
    alone = spread(seeds(five), num_groups=100)
    assert alone.standard_error == pytest.approx(of_seeds) and alone.degrees == pytest.approx(4)
    groups = spread(seeds([0.7] * 5, over_groups=0.1), num_groups=100)
    assert groups.standard_error == pytest.approx(0.1, rel=0.05) and groups.degrees == pytest.approx(99)
    both = spread(seeds(five, over_groups=0.1), num_groups=100)
    assert both.standard_error == pytest.approx(np.hypot(of_seeds, 0.1), rel=0.05) and 4 < both.degrees < 99
    # What a seed does to some groups only is in the seeds' figures already.
    assert spread(seeds(five, together=0.1), num_groups=100).standard_error == pytest.approx(of_seeds, rel=0.01)


def test_one_seed_has_the_spread_of_its_groups_alone() -> None:
    assert spread(seeds([0.7], over_groups=0.1), num_groups=50).standard_error == pytest.approx(0.1, rel=0.05)


def test_a_difference_has_the_spread_of_both_sides_seeds_and_of_paired_groups() -> None:
    """Groups that are hard for both sides cancel; seeds do not pair, so theirs add up."""
    ours, other = seeds([0.5, 0.7], over_groups=0.3), seeds([0.5, 0.6], over_groups=0.3)
    expected = np.sqrt(0.02 / 2 + 0.005 / 2)
    assert spread(ours, other, num_groups=100).standard_error == pytest.approx(expected)


def test_p_is_that_of_students_table_and_never_below_what_the_groups_allow() -> None:
    of = spread(seeds([0.5, 0.6, 0.7, 0.8, 0.9]), num_groups=100)
    assert t_test(2.776 * of.standard_error, of) == pytest.approx(0.05, abs=1e-4) and t_test(0.0, of) == 1.0
    assert t_test(-2.776 * of.standard_error, of) == pytest.approx(0.05, abs=1e-4)
    certain = spread(seeds([0.9, 0.9]), num_groups=5)
    assert t_test(0.4, certain) == 2 / 2**5 and t_test(0.0, certain) == 1.0


def test_an_interval_of_a_share_stays_inside_0_and_1() -> None:
    low, high = share_interval(0.95, spread(seeds([0.95], over_groups=0.05), num_groups=20))
    assert 0.6 < low < 0.95 < high < 1
    assert share_interval(1.0, spread(seeds([1.0]), num_groups=30)) == (pytest.approx(0.884, abs=1e-3), 1.0)
    assert share_interval(0.0, spread(seeds([0.0]), num_groups=30)) == (0.0, pytest.approx(0.116, abs=1e-3))


def test_holms_correction_is_that_of_the_book() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0] and holm([]) == []
    assert holm([0.01, 0.02], num_tests=6) == pytest.approx([0.06, 0.1])
