"""One request to an ASGI app without a server."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from starlette.types import ASGIApp, Message


async def ask(
    app: ASGIApp, method: str, path: str, body: Any = None, *, key: str | None = None, root_path: str = ""
) -> tuple[int, Any]:
    """Return status and JSON of the answer; ``root_path`` is the prefix below which a proxy mounts the app."""
    sent = {"authorization": f"Bearer {key}"} if key else {}
    status, _, content = await answer_of(app, method, path, body, headers=sent, root_path=root_path)
    return status, json.loads(content)


async def answer_of(
    app: ASGIApp,
    method: str,
    path: str,
    body: Any = None,
    *,
    headers: Mapping[str, str] | None = None,
    root_path: str = "",
    query: str = "",
) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and bytes of the answer; a body of bytes is sent as it is."""
    sent = {"content-type": "application/json", **(headers or {})}
    scope = {
        "type": "http", "method": method, "path": root_path + path, "root_path": root_path,
        "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
        "query_string": query.encode(), "http_version": "1.1", "scheme": "http", "server": ("test", 80), "client": ("test", 1),
    }  # fmt: skip
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    requests = [{"type": "http.request", "body": content, "more_body": False}]
    answers: list[Message] = []

    async def receive() -> Message:
        if requests:
            return requests.pop()
        await asyncio.Event().wait()  # the client stays until it is answered
        raise AssertionError

    async def send(message: Message) -> None:
        answers.append(message)

    await app(scope, receive, send)
    received = {name.decode(): value.decode() for name, value in answers[0]["headers"]}
    return answers[0]["status"], received, b"".join(message.get("body", b"") for message in answers)
