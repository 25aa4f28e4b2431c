"""Outages of the store: work that may fail for a while without an end of the run, and work that is tried again for minutes."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from clinical_modernbert.errors import StoreError

FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0
PATIENCE_S = 600.0
"""Longest time over which ``patiently`` tries again. A store's pod that moves to another node is away for a minute or two."""

T = TypeVar("T")
_logger = logging.getLogger(__name__)


class Outage:
    """The failures in a row of one kind of best-effort work: one logged line an outage, and waits that grow."""

    def __init__(self, work: str) -> None:
        self._work = work
        self._wait_s = 0.0

    def failed(self, error: Exception) -> float:
        """Count a failure; return the seconds to wait before the next try: 1, 2, 4, ... 60."""
        if not self._wait_s:
            _logger.warning("%s failed and is tried again: %s: %s", self._work, type(error).__name__, error)
        self._wait_s = min(2 * self._wait_s or FIRST_WAIT_S, LONGEST_WAIT_S)
        return self._wait_s

    def ended(self) -> None:
        """Count a success."""
        if self._wait_s:
            _logger.warning("%s works again", self._work)
        self._wait_s = 0.0


def patiently(
    do: Callable[[], T],
    *,
    work: str,
    wait: Callable[[float], object] = time.sleep,
    patience_s: float | Callable[[StoreError], float] | None = None,
    error_type: type[StoreError] = StoreError,
) -> T:
    """Return ``do()``, tried again while it raises an ``error_type``; after ``patience_s`` seconds the first error is raised.

    None is ``PATIENCE_S``, read at the call: as a default it would be fixed at import, where no test can shorten it. A function
    gets the first error.
    ``wait`` may cut a pause short by a true value: then the first error is raised at once.
    """
    outage, began, first = Outage(work), time.monotonic(), None
    limit_s = PATIENCE_S if patience_s is None else patience_s
    while True:
        try:
            result = do()
        except error_type as error:
            first = first or error
            limit_s = limit_s(first) if callable(limit_s) else limit_s
            pause = outage.failed(error)
            if time.monotonic() - began + pause > limit_s or wait(pause):
                raise first from None
            continue
        outage.ended()
        return result
