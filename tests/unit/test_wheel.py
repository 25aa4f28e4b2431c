"""Two builds of one commit's wheel have the same bytes."""

import os
import time
from pathlib import Path

from tools.wheel import build


def test_two_builds_are_equal_to_the_byte(tmp_path: Path) -> None:
    first = build("HEAD", tmp_path / "first")
    time.sleep(2)  # archives count in steps of two seconds
    before = os.umask(0o077)
    try:
        second = build("HEAD", tmp_path / "second")
    finally:
        os.umask(before)
    assert first.name == second.name
    assert first.read_bytes() == second.read_bytes()
