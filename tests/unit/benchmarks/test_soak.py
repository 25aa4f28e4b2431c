"""How ``make drill ROW=soak`` reads memory."""

from benchmarks.drills.soak import percent_an_hour


def test_growth_after_the_warm_up_is_a_slope_in_percent_an_hour() -> None:
    steady, growing = [100.0] * 400, [500.0 + n for n in range(361)]
    assert percent_an_hour([10.0] * 100 + steady) == 0
    assert abs(percent_an_hour(growing) - 360 / 725 * 100) < 1  # a megabyte each ten seconds
