"""A command is started again after a failure that another attempt can change, and after no other."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from clinical_modernbert.attempts import run_attempts

# Appends a line to the file of its first argument, and ends with the code of the line's number among the other arguments.
ATTEMPT = """
import os, signal, sys
path, *codes = sys.argv[1:]
with open(path, "a+") as file:
    file.write(f"{os.getpid()}\\n"); file.seek(0); number = len(file.readlines())
code = codes[min(number, len(codes)) - 1]
signal.pause() if code == "wait" else os.kill(os.getpid(), 9) if code == "killed" else sys.exit(int(code))
"""
RUNNER = """
import sys
from clinical_modernbert.attempts import run_attempts
sys.exit(run_attempts(sys.argv[1:], retries=2, pause_s=60))
"""


@pytest.mark.parametrize(
    ("codes", "status", "attempts"),
    [
        (["0"], 0, 1),
        (["2"], 2, 1),  # a wrong input
        (["143"], 143, 1),  # stopped on request
        (["1", "0"], 0, 2),
        (["3", "2"], 2, 2),  # the store was away, and then the input was wrong
        (["killed", "1", "0"], 0, 3),
        (["1"], 1, 3),
        (["killed"], 137, 3),
    ],
)
def test_attempts_end_with_success_or_what_is_final(
    tmp_path: Path, codes: list[str], status: int, attempts: int, handlers: None
) -> None:
    command = [sys.executable, "-c", ATTEMPT, str(tmp_path / "pids"), *codes]

    assert run_attempts(command, retries=2, pause_s=0) == status
    assert len((tmp_path / "pids").read_text().splitlines()) == attempts


@pytest.mark.parametrize(("codes", "status"), [(["wait"], 143), (["1"], 143)], ids=["in an attempt", "in a pause"])
def test_sigterm_ends_the_attempt_and_is_final(tmp_path: Path, repository: Path, codes: list[str], status: int) -> None:
    pids = tmp_path / "pids"
    process = subprocess.Popen(
        [sys.executable, "-c", RUNNER, sys.executable, "-c", ATTEMPT, str(pids), *codes],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(repository / "platform")},
    )
    try:
        while not pids.exists() or not pids.read_text():
            time.sleep(0.02)
        time.sleep(0.5)  # until it waits
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == status
    finally:
        process.kill()
    (pid,) = pids.read_text().split()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


@pytest.fixture
def handlers() -> Iterator[None]:
    """The signal handlers of pytest are put back."""
    former = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in former.items():
        signal.signal(number, handler)
