"""Short forms of the drills ``hostile``, ``soak`` and ``proxy-kill``; their bars on time and memory need a quiet machine."""

from pathlib import Path

import pytest

from benchmarks.drills import hostile, proxy_kill, soak

pytestmark = pytest.mark.slow


def test_hostile_requests_fail_no_other_request(tmp_path: Path) -> None:
    names = ("fill-mask, 2,000 masks", "deep objects", "no JSON", "slow bodies", "huge headers", "idle connections")
    outcome = hostile.drill(tmp_path, seed=0, seconds=1, num_idle=200, names=names, server="uvicorn")
    assert (outcome.injected, outcome.lost, outcome.wrong) == (len(names), 0, 0), outcome
    assert all(row["requests"] for row in outcome.facts.values()), outcome


def test_mixed_load_and_viewers_meet_no_error(tmp_path: Path) -> None:
    outcome = soak.drill(tmp_path, 0, minutes=0.15, server="uvicorn")
    assert outcome.passed, outcome
    assert outcome.facts["requests"] and outcome.facts["pages"]


@pytest.mark.ray
def test_a_killed_proxy_and_controller_lose_no_request_of_the_client(tmp_path: Path) -> None:
    outcome = proxy_kill.drill(tmp_path, seed=1, num_each=1)
    assert outcome.passed, outcome
