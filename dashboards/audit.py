"""The audit line: which user opened what, and when. It never holds text; where it cannot be written, nothing is shown.

Lines go to standard error through the logger ``clinical_modernbert.audit``, as the endpoint's do: the cluster's log collector
keeps them. ``EXPLORER_USER_HEADER`` names the header in which a login proxy sends the user's name. Without it the explorer has
no login, as on a laptop, and the line says so.
"""

import json
import logging
import os
import threading
from collections.abc import Mapping
from datetime import UTC, datetime

NO_LOGIN = "users are not identified (EXPLORER_USER_HEADER is not set)"
_logger = logging.getLogger("clinical_modernbert.audit")
_lock = threading.Lock()


class _StrictHandler(logging.StreamHandler):  # type: ignore[type-arg]  # a subscript at run time needs an import for typing
    """Raises where a line cannot be written; logging would print a note and continue."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # as logging names it
        raise  # noqa: PLE0704  # called inside the except clause of emit


def user_name(headers: Mapping[str, str]) -> str | None:
    """Return the user's name from the login proxy's header, or None where the header is configured and absent."""
    header = os.environ.get("EXPLORER_USER_HEADER")
    return (headers.get(header) or None) if header else NO_LOGIN


def record(event: str, *, who: str, what: str) -> None:
    """Write one line. Raises where it cannot be written."""
    with _lock:
        if not any(isinstance(handler, _StrictHandler) for handler in _logger.handlers):
            _logger.addHandler(_StrictHandler())
            _logger.setLevel(logging.INFO)
    line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, "who": who, "what": what}
    _logger.info(json.dumps(line))
