"""Follow a RayJob to its end: report each change of its state, why it waits, a line of progress each minute, and its log.

An API server that is away for some minutes (an upgrade of the control plane, a lost connection) does not end it.
"""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from clinical_modernbert.cluster.client import Cluster, JobState
from clinical_modernbert.errors import WRONG_INPUT, AbsentError, ClusterError, LoginError, UnavailableError

PROGRESS_S = 60.0
PATIENCE_S = 900.0
_LONGEST_PAUSE_S = 30.0
# Ray ends the log of a failed job with a message that repeats the end of the log after these words.
_REPEATED = ", last available logs"
# How `ray job logs` ends when the head does, below a traceback of its own.
_LOST_WORDS = "WebSocket connection closed unexpectedly"
_LOST = "the connection to the head is lost; if the head ended, another one starts and runs the job again\n"

T = TypeVar("T")
_logger = logging.getLogger(__name__)


def follow(cluster: Cluster, name: str, *, poll_s: float, patience_s: float = PATIENCE_S) -> bool:
    """Return whether the job succeeded; its log goes to stdout, everything else to the logger.

    Raises ``UnavailableError`` if the cluster does not answer for ``patience_s``, and ``ClusterError`` if the job's
    input is wrong.
    """
    logs = _Logs(cluster, name)
    reported: set[str] = set()
    started = last = time.monotonic()
    while True:
        try:
            # A login that worked before may work again, such as after the service for logins was away.
            final = () if reported else (LoginError,)
            state, lines = patiently(lambda: _look(cluster, name, logs), patience_s=patience_s, final=final)
        except AbsentError:
            if not reported:
                raise
            _logger.error("RayJob %s was deleted before it ended; its finished artifacts stay in the store", name)
            return False
        for line in sorted(lines - reported):
            _logger.info("%s", line)
        now = time.monotonic()
        if lines - reported:
            last = now
        elif now - last >= PROGRESS_S:
            last = now
            _logger.info("%s after %s", describe(state), time.strftime("%H:%M:%S", time.gmtime(now - started)))
        reported = lines
        if state.ended:
            break
        time.sleep(poll_s)
    logs.finish()
    if state.exit_code == WRONG_INPUT:
        raise ClusterError(f"the input of RayJob {name} is wrong, its log says why: correct it and submit another job")
    return state.succeeded


def patiently(
    call: Callable[[], T], *, patience_s: float, pause_s: float = 1, final: tuple[type[Exception], ...] = ()
) -> T:
    """Return ``call()``, repeated after growing pauses while the cluster does not answer, for at most ``patience_s``.

    Errors of the types ``final`` are raised at once.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return call()
        except UnavailableError as error:
            if isinstance(error, final) or time.monotonic() + pause_s > deadline:
                raise
            _logger.warning("%s; the job is not affected, next try in %.0f s", error, pause_s)
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def waiting(cluster: Cluster, state: JobState) -> list[str]:
    """Return a line for each reason why the command of a job does not run yet, or why a pod that replaces a lost one does not."""
    if state.ended:
        return []
    if state.started:
        return _by_reason(cluster.waiting(f"ray.io/cluster={state.cluster}")) if state.cluster else []
    lines = []
    if state.deployment == "Suspended" and state.queue:
        why = cluster.not_admitted(state.uid) or "kubectl get workloads says why"
        lines.append(f"waits for admission to Kueue's queue {state.queue}: {why}")
    selectors = [f"job-name={state.name}"] + ([f"ray.io/cluster={state.cluster}"] if state.cluster else [])
    for selector in selectors:
        lines += _by_reason(cluster.waiting(selector))
    for name in (state.name, state.cluster):
        lines += [f"event of {name}: {warning}" for warning in (cluster.warnings(name) if name else [])]
    return lines


def _by_reason(reasons: dict[str, str]) -> list[str]:
    pods: dict[str, list[str]] = {}
    for pod, reason in reasons.items():
        pods.setdefault(reason, []).append(pod)
    return [
        f"pod {names[0]} waits: {reason}" if len(names) == 1 else f"{len(names)} pods wait, {names[0]} first: {reason}"
        for reason, names in pods.items()
    ]


def last_words(cluster: Cluster, state: JobState) -> list[str]:
    """Return the last line of the log of a job that runs (its progress, or the input that it waits for), or its last error."""
    if state.ended:
        return [line for line in state.message.splitlines() if line.startswith("error: ")][-1:]
    if not state.started:
        return []
    found = [cluster.last_line(pod) for pod in cluster.submitters(state.name)[-1:]]
    return [f"log: {line}" for line in found if line]


def describe(state: JobState) -> str:
    """Return one line with the state of a job."""
    # KubeRay adds the end of the log to the message, and the log was shown already.
    message = state.message.partition("\n")[0].partition(_REPEATED)[0]
    parts = [f"RayJob {state.name}", state.deployment, state.job, state.reason, message]
    if state.failed_attempts:
        parts.append(f"failed attempts: {state.failed_attempts}")
    return " · ".join(part for part in parts if part)


def _look(cluster: Cluster, name: str, logs: "_Logs") -> tuple[JobState, set[str]]:
    state = cluster.state(name)
    lines = {describe(state), *waiting(cluster, state)}
    logs.read_new()
    return state, lines


def _without_tracebacks_of_ray(lines: Iterator[str]) -> Iterator[str]:
    """Replace the traceback of ``ray job logs`` by a line: the job's own tracebacks stay as they are.

    A traceback is indented below its first line, and ends with the first line that is not.
    """
    block: list[str] = []
    for line in lines:
        if not block and not line.startswith("Traceback (most recent call last)"):
            yield line
            continue
        block.append(line)
        if len(block) > 1 and not line.startswith((" ", "\n")):
            yield from [_LOST] if _LOST_WORDS in line else block
            block = []
    yield from block


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
        for thread in self._threads.values():
            thread.join(timeout=5)

    def _copy(self, pod: str) -> None:
        written = 0

        def copy() -> None:
            # A lost connection starts the log again: lines that are written already are skipped.
            nonlocal written
            for number, line in enumerate(_without_tracebacks_of_ray(self._cluster.log(pod))):
                new, repeats, _ = line.partition(_REPEATED)
                if number >= written:
                    sys.stdout.write(f"{new}\n" if repeats else line)
                    sys.stdout.flush()
                    written = number + 1
                if repeats:
                    return

        try:
            patiently(copy, patience_s=PATIENCE_S)
        except ClusterError as error:
            _logger.warning("%s", error)
