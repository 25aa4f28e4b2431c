"""Start a command again after a failure; the exit code of each attempt says whether another one can succeed.

KubeRay's ``backoffLimit`` cannot do this: the operator sees that a driver failed, not its exit code, and starts new clusters
also for a wrong input. Here the attempts are processes, one after the other, on the same cluster. Not covered: a head that is
lost ends this process too, and KubeRay's submitter sends the job again.
"""

import logging
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from types import FrameType

from clinical_modernbert.errors import WRONG_INPUT

# Exit codes that another attempt would not change: success, a wrong input, and a stop on request (128 + SIGINT, 128 + SIGTERM).
FINAL = frozenset({0, WRONG_INPUT, 130, 143})
# Ray sets this for the command of a submitted job.
_OF_A_RAY_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
_POLL_S = 0.2

_logger = logging.getLogger(__name__)


def run_attempts(command: Sequence[str], *, retries: int, pause_s: float = 10) -> int:
    """Run ``command`` until its exit code is in ``FINAL``, at most ``1 + retries`` times, and return the last exit code.

    A process that a signal killed counts as 128 + its number. The pause doubles after each attempt. On SIGTERM and Ctrl-C the
    attempt that runs is the last one.
    """
    stop = _StopSignals()
    for number in range(1, retries + 2):
        status = stop.run(command)
        if status in FINAL or stop.received or number > retries:
            return status
        _logger.warning(
            "attempt %d of %d ended with exit code %d; next in %.0f s", number, retries + 1, status, pause_s
        )
        if not stop.sleep(pause_s):
            return 128 + stop.received
        pause_s *= 2
    raise AssertionError("the last attempt returns")


class _StopSignals:
    """Takes SIGTERM and SIGINT from now on: the attempt gets them, and this process waits for it."""

    def __init__(self) -> None:
        self.received = 0
        self._attempt: subprocess.Popen[bytes] | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._receive)

    def run(self, command: Sequence[str]) -> int:
        self._attempt = subprocess.Popen(command)
        if self.received:  # while it was started
            self._attempt.terminate()
        status = self._attempt.wait()
        self._attempt = None
        return status if status >= 0 else 128 - status

    def sleep(self, seconds: float) -> bool:
        """Return False at once if a signal comes."""
        deadline = time.monotonic() + seconds
        while not self.received and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        return not self.received

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        # A terminal sends Ctrl-C to the attempt too, and Ray sends SIGTERM to each process of a job: a second signal would end it
        # at once.
        if number == signal.SIGTERM and self._attempt and _OF_A_RAY_JOB not in os.environ:
            self._attempt.send_signal(number)
