"""Follow a RayJob to its end: report each change of its state, why pods wait, a line of progress each minute, and its log."""

import logging
import sys
import threading
import time

from clinical_modernbert.cluster.client import Cluster, JobState

PROGRESS_S = 60.0

_logger = logging.getLogger(__name__)


def follow(cluster: Cluster, name: str, *, poll_s: float) -> bool:
    """Return whether the job succeeded; its log goes to stdout, everything else to the logger."""
    logs = _Logs(cluster, name)
    reported: set[str] = set()
    started = last = time.monotonic()
    state = None
    for state in cluster.follow(name, poll_s=poll_s):
        lines = {_line(state), *_waiting(cluster, state)}
        for line in sorted(lines - reported):
            _logger.info("%s", line)
        now = time.monotonic()
        if lines - reported:
            last = now
        elif now - last >= PROGRESS_S:
            last = now
            _logger.info("%s after %s", _line(state), time.strftime("%H:%M:%S", time.gmtime(now - started)))
        reported = lines
        logs.read_new()
    logs.finish()
    return state is not None and state.succeeded


class _Logs:
    """The logs of the submitter pods, one for each attempt of the job, each read in its own thread."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self._cluster, self._name = cluster, name
        self._threads: dict[str, threading.Thread] = {}

    def read_new(self) -> None:
        """Start to read the pods that have started since the last call."""
        for pod in self._cluster.submitters(self._name):
            if pod not in self._threads:
                self._threads[pod] = threading.Thread(target=self._copy, args=(pod,), daemon=True)
                self._threads[pod].start()

    def finish(self) -> None:
        """Wait a few seconds for the rest of the logs; not longer, because a pod may outlive its job."""
        self.read_new()
        for thread in self._threads.values():
            thread.join(timeout=5)

    def _copy(self, pod: str) -> None:
        for line in self._cluster.log(pod):
            sys.stdout.write(line)
            sys.stdout.flush()


def _waiting(cluster: Cluster, state: JobState) -> list[str]:
    if not state.cluster or state.deployment != "Initializing":
        return []
    return [f"pod {pod} waits: {reason}" for pod, reason in cluster.waiting(state.cluster).items()]


def _line(state: JobState) -> str:
    parts = [f"RayJob {state.name}", state.deployment, state.job, state.reason, state.message]
    if state.failed_attempts:
        parts.append(f"failed attempts: {state.failed_attempts}")
    return " · ".join(part for part in parts if part)
