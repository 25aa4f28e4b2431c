"""The short form of ``make drill ROW=bad-input``."""

from pathlib import Path

from benchmarks.drills import bad_input
from benchmarks.kits.bad_files import DAMAGES, FORMATS


def test_every_damage_of_every_format_is_handled_by_rule(tmp_path: Path) -> None:
    num_bad = len(DAMAGES) * len(FORMATS)
    counts = bad_input.inject(tmp_path, num_files=num_bad + len(FORMATS), num_bad=num_bad, num_poison=6 * len(FORMATS))
    assert counts.wrong == []
    assert bad_input.outcome(counts, num_bad).passed
