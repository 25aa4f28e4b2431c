"""Schedules by step."""

import pytest
from clinical_modernbert.masking import Masker, TokenRanges, linear
from clinical_modernbert.recipe.pretrain import MaskingSection


def test_the_rate_falls_from_start_to_end_in_a_straight_line(vocabulary: TokenRanges) -> None:
    masker = Masker(section=MaskingSection(), tokens=vocabulary, num_steps=101, seed=0)
    assert masker.rate(0) == 0.30
    assert masker.rate(50) == pytest.approx(0.225)
    assert masker.rate(100) == 0.15
    assert masker.odds(0) == 4.0
    assert masker.odds(50) == pytest.approx(2.5)
    assert masker.odds(100) == 1.0


def test_beyond_its_ends_a_schedule_stays_where_it_is() -> None:
    assert linear(-1, num_steps=11, start=0.3, end=0.15) == 0.3
    assert linear(99, num_steps=11, start=0.3, end=0.15) == pytest.approx(0.15)


def test_a_run_of_one_step_is_at_its_start() -> None:
    assert linear(0, num_steps=1, start=0.3, end=0.15) == 0.3
