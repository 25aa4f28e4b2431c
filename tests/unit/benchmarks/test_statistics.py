"""The short form of the row: what equals is seldom called different, and intervals cover."""

from benchmarks.rows.statistics import simulate


def test_equal_things_are_not_called_different_and_intervals_cover() -> None:
    """25 draws: bounds that the old test (62 %, 19 %, 72 %) misses and the right shares (5 %, 1 %, 95 %) keep almost always."""
    shares = simulate(25, num_resamples=60, seed=3)
    assert shares["same_encoder"] <= 0.24 and shares["identical_arm"] <= 0.08 and shares["coverage"] >= 0.8
