"""The id of a request in logs: the client's if it is a plain id, else a new one, because a header may hold any text."""

import re
import uuid

_PLAIN = re.compile(r"[A-Za-z0-9-]{1,64}")


def request_id(sent: str | None) -> str:
    """Return the id that was ``sent`` as ``x-request-id``, or a new one where it is absent or holds other characters."""
    return sent if sent is not None and _PLAIN.fullmatch(sent) else uuid.uuid4().hex
