"""A command is started again after a failure that another attempt can change, and after no other."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from clinical_modernbert.attempts import run_attempts

Start = Callable[..., tuple[subprocess.Popen[bytes], int]]
# Appends a line to the file of its first argument, and ends with the code of the line's number among the other arguments.
ATTEMPT = """
import os, signal, sys
path, *codes = sys.argv[1:]
with open(path, "a+") as file:
    file.write(f"{os.getpid()}\\n"); file.seek(0); number = len(file.readlines())
code = codes[min(number, len(codes)) - 1]
signal.pause() if code == "wait" else os.kill(os.getpid(), 9) if code == "killed" else sys.exit(int(code))
"""
# Writes its pid, and ends a second after the first SIGTERM with the number of those it got.
COUNTS = """
import os, pathlib, signal, sys, time
got = []
signal.signal(signal.SIGTERM, lambda *_: got.append(1))
pathlib.Path(sys.argv[1]).write_text(f"{os.getpid()}\\n")
signal.pause()
end = time.monotonic() + 1
while time.monotonic() < end:
    time.sleep(0.1)
sys.exit(140 + len(got))
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


@pytest.fixture
def start(tmp_path: Path, repository: Path) -> Iterator[Start]:
    """Start the attempts of a script in a process of their own; returns it and the pid of the first attempt."""
    started: list[subprocess.Popen[bytes]] = []

    def run(script: str, *codes: str, **variables: str) -> tuple[subprocess.Popen[bytes], int]:
        pids = tmp_path / "pids"
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(repository / "platform"), **variables}
        command = [sys.executable, "-c", RUNNER, sys.executable, "-c", script, str(pids), *codes]
        started.append(subprocess.Popen(command, env=environment))
        while not pids.exists() or not pids.read_text().endswith("\n"):
            time.sleep(0.02)
        time.sleep(0.5)  # until it waits
        return started[-1], int(pids.read_text())

    yield run
    for process in started:
        process.kill()


@pytest.mark.parametrize("code", ["wait", "1"], ids=["in an attempt", "in a pause"])
def test_sigterm_ends_the_attempt_and_is_final(start: Start, code: str) -> None:
    process, attempt = start(ATTEMPT, code)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 143
    with pytest.raises(ProcessLookupError):
        os.kill(attempt, 0)


@pytest.mark.parametrize("variables", [{}, {"RAY_JOB_CONFIG_JSON_ENV_VAR": "{}"}], ids=["by kill", "by Ray"])
def test_an_attempt_gets_one_sigterm(start: Start, variables: dict[str, str]) -> None:
    """A second one would end it at once, without its state. Ray sends one to each process of a job."""
    process, attempt = start(COUNTS, **variables)
    if variables:
        os.kill(attempt, signal.SIGTERM)
        time.sleep(0.3)  # two at the same time would be one
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 141


@pytest.fixture
def handlers() -> Iterator[None]:
    """The signal handlers of pytest are put back."""
    former = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in former.items():
        signal.signal(number, handler)
