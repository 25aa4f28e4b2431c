"""The speed of a queue: an average over batches that are large enough."""

import pytest
from clinical_modernbert.serving.speed import SpeedEstimate


def test_a_small_batch_does_not_tell_how_fast_a_queue_shrinks() -> None:
    speed = SpeedEstimate(min_tokens=50)
    speed.note(49, 10.0)
    assert speed.tokens_per_s is None
    assert speed.seconds_for(10) is None
    speed.note(50, 10.0)
    assert speed.tokens_per_s == 5
    assert speed.seconds_for(10) == 2


def test_the_latest_batch_weighs_a_fifth() -> None:
    speed = SpeedEstimate(min_tokens=1)
    speed.note(100, 1.0)
    speed.note(200, 1.0)
    assert speed.tokens_per_s == pytest.approx(120)
