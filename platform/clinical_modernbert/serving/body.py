"""The body of a request before it is parsed: its bytes and the items of its lists are counted, so that parsing is bounded."""

import asyncio
import json

import numpy as np
from starlette.datastructures import Headers
from starlette.types import Receive, Scope

from clinical_modernbert.recipe.serve import ServeLimits
from clinical_modernbert.serving import problems


class ClientLeftError(Exception):
    """The client closed its connection."""


async def read_body(scope: Scope, receive: Receive, limits: ServeLimits) -> bytes:
    """Return the whole body; raises ``ClientLeftError`` after a disconnect, ``ProblemError`` for one too large or in UTF-16."""
    announced = Headers(scope=scope).get("content-length", "")
    if announced.isdigit() and int(announced) > limits.max_body_bytes:
        raise problems.body_too_large(limits.max_body_bytes)
    chunks, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeftError
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limits.max_body_bytes:
            raise problems.body_too_large(limits.max_body_bytes)
        chunks.append(chunk)
        more = message.get("more_body", False)
    body = b"".join(chunks)
    # Python would read UTF-16 and UTF-32 too, in which commas and quotes cannot be counted by their bytes.
    if not json.detect_encoding(body).startswith("utf-8"):
        raise problems.invalid_json()
    # Leaving strings out takes tenths of a second for a hostile body: in a thread it lets others' requests through.
    if body.count(b",") > limits.max_items and await asyncio.to_thread(has_more_items, body, limits.max_items):
        raise problems.too_many_items(limits.max_items)
    return body


def has_more_items(body: bytes, limit: int) -> bool:
    """Whether the lists and objects of a JSON text have more than about ``limit`` items.

    Parsing millions of items holds the event loop for seconds. Commas are counted, which is fast; those inside strings are left
    out, which is slower and done only where all commas exceed the limit. NumPy lets other threads run meanwhile.

        {"input": ["a, b", "c"]}   1 comma outside strings: 2 items
    """
    if body.count(b",") <= limit:
        return False
    # A quote begins or ends a string unless an odd number of backslashes is before it.
    text = np.frombuffer(body.replace(b"\\\\", b"").replace(b'\\"', b""), np.uint8)
    inside = np.logical_xor.accumulate(text == ord('"'))
    return bool(np.count_nonzero((text == ord(",")) & ~inside) > limit)


async def wait_for_leave(receive: Receive) -> None:
    """Return once the client closed its connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
