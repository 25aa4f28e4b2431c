"""One request to an ASGI app without a server."""

import asyncio
import json
from typing import Any

from starlette.types import ASGIApp, Message


async def ask(
    app: ASGIApp, method: str, path: str, body: Any = None, *, key: str | None = None, root_path: str = ""
) -> tuple[int, Any]:
    """Return status and JSON of the answer; ``root_path`` is the prefix below which a proxy mounts the app."""
    headers = [(b"content-type", b"application/json")]
    if key:
        headers.append((b"authorization", f"Bearer {key}".encode()))
    scope = {
        "type": "http", "method": method, "path": root_path + path, "root_path": root_path, "headers": headers,
        "query_string": b"", "http_version": "1.1", "scheme": "http", "server": ("test", 80), "client": ("test", 1),
    }  # fmt: skip
    content = b"" if body is None else json.dumps(body).encode()
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
    return answers[0]["status"], json.loads(b"".join(message.get("body", b"") for message in answers))
