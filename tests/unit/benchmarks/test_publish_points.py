"""The short form of ``make drill ROW=publish-points``."""

from pathlib import Path

from benchmarks.drills import publish_points


def test_no_crash_shows_a_mix_or_leaves_a_file(tmp_path: Path) -> None:
    assert publish_points.crash_jobs(tmp_path, ["model"], pairs=False).passed
