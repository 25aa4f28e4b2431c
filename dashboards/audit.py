"""The audit line: who asked to see what, and when. Never any text, and without a line nothing is shown.

Lines go to standard error through the logger ``clinical_modernbert.audit``, as the endpoint's do: the cluster's log collector
keeps them. ``EXPLORER_USER_HEADER`` names the header in which a login proxy says who is there; without it the explorer has no
login, as on one's own machine, and the line says so.
"""

import json
import logging
import os
import threading
from collections.abc import Mapping
from datetime import UTC, datetime

NO_LOGIN = "nobody is asked who they are (EXPLORER_USER_HEADER is not set)"
_logger = logging.getLogger("clinical_modernbert.audit")
_lock = threading.Lock()


class _StrictHandler(logging.StreamHandler):  # type: ignore[type-arg]  # a subscript at run time needs an import for typing
    """A line that cannot be written is an error here, not a note on standard error."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # as logging names it
        raise  # noqa: PLE0704  # called inside the except clause of emit


def who_asks(headers: Mapping[str, str]) -> str | None:
    """Return who is there, or None where the login proxy that this deployment counts on names nobody."""
    header = os.environ.get("EXPLORER_USER_HEADER")
    return (headers.get(header) or None) if header else NO_LOGIN


def record(event: str, *, who: str, what: str) -> None:
    """Write one line; raises where it cannot be written."""
    with _lock:
        if not any(isinstance(handler, _StrictHandler) for handler in _logger.handlers):
            _logger.addHandler(_StrictHandler())
            _logger.setLevel(logging.INFO)
    line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, "who": who, "what": what}
    _logger.info(json.dumps(line))
