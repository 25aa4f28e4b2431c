"""Middleware of Ray Serve's proxy: its refusals have the shape of OpenAI's errors, and large requests do not hold others up.

The proxy answers in plain text (full, unavailable, timed out, failed), takes headers of any size, and passes a body on in small
messages, each a call of an actor, as fast as it arrives. It loads this middleware if
``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH`` is ``clinical_modernbert.serving.proxy.middlewares`` when Ray starts; the images set
it. Answers of a replica pass unchanged. Replicas cannot count what the proxy refuses, so it is counted here.
"""

import asyncio
import json

from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clinical_modernbert.serving import problems
from clinical_modernbert.serving.gate import respond
from clinical_modernbert.serving.metrics import PROXY_REFUSALS, Record, drop
from clinical_modernbert.serving.request_id import request_id

_PROXY_PATHS = ("/-/",)
_MOST_HEAD_BYTES = 65_536
_HEAD_REFUSAL_S = 0.25
"""Seconds before large headers are refused. They are parsed already, and a client that repeats them at once fills the proxy."""
_SLICE_BYTES = 262_144
"""Most bytes of a body that wait here before they are passed on: more than most requests have."""
_SLICES_A_S = 100
"""Slices a second after the first ones, of all bodies together."""


def middlewares() -> list[Middleware]:
    """Return the middleware that the proxy applies to every request."""
    from ray.util.metrics import Counter

    counter = Counter(PROXY_REFUSALS.name, PROXY_REFUSALS.description, PROXY_REFUSALS.tags)

    def record(_: str, value: float, tags: dict[str, str]) -> None:
        counter.inc(value, tags)

    return [Middleware(PacedBodies), Middleware(JsonRefusals, record=record)]


class PacedBodies:
    """Passes bodies on in slices: the first at once, the others of all bodies together at a limited rate.

    Each message is a call of an actor. Without it one client that sends without a pause, or many that send a byte at a time, keep
    the proxy's only thread and the replica's busy. A replica that refuses a request by its ``Content-Length`` gets few slices.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app, self._turn = app, asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        unfinished = False

        async def next_slice() -> Message:
            nonlocal unfinished
            if unfinished:
                async with self._turn:
                    await asyncio.sleep(1 / _SLICES_A_S)
            message = await receive()
            pieces = [message.get("body", b"")]
            size = len(pieces[0])
            while message.get("more_body") and size < _SLICE_BYTES:
                message = await receive()
                pieces.append(message.get("body", b""))
                size += len(pieces[-1])
            unfinished = message.get("more_body", False)
            return {**message, "body": b"".join(pieces)} if message["type"] == "http.request" else message

        await self._app(scope, next_slice if scope["type"] == "http" else receive, send)


class JsonRefusals:
    """Replaces a plain-text refusal by JSON, and refuses large headers itself.

    The text is dropped: it may name actors, and that of a failure may quote input.
    """

    def __init__(self, app: ASGIApp, *, record: Record = drop) -> None:
        self._app, self._record = app, record

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(_PROXY_PATHS):
            await self._app(scope, receive, send)
            return
        address = len(scope.get("raw_path") or b"") + len(scope.get("query_string", b""))
        if address + sum(len(name) + len(value) for name, value in scope["headers"]) > _MOST_HEAD_BYTES:
            scope["headers"].clear()  # frees them while this client, and no other one, waits
            await asyncio.sleep(_HEAD_REFUSAL_S)
            await self._refuse(problems.head_too_large(_MOST_HEAD_BYTES), scope, receive, send)
            return
        problem: problems.ProblemError | None = None
        started = False
        # Ray's access log prints the client's x-request-id as it is: another text than a plain id is replaced.
        inward = MutableHeaders(scope=scope)
        inward["x-request-id"] = request_id(inward.get("x-request-id"))

        async def translate(message: Message) -> None:
            nonlocal problem, started
            started = True
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=list(message["headers"]))
                plain = not headers.get("content-type", "").startswith("application/json")
                problem = problems.of_proxy(message["status"]) if plain else None
                if problem:
                    self._record(PROXY_REFUSALS.name, 1, {"cause": problem.body.error.code})
                    body = json.dumps(problem.body.model_dump()).encode()
                    headers.update(
                        {"content-type": "application/json", "content-length": str(len(body)), **problem.headers}
                    )
                    await send({**message, "status": problem.status, "headers": headers.raw})
                    await send({"type": "http.response.body", "body": body})
                    return
            elif problem:
                return  # drop the plain text
            await send(message)

        try:
            await self._app(scope, receive, translate)
        except Exception as error:  # noqa: BLE001  # the message of a lost replica names actors, that of a failure may quote input
            if started:
                raise RuntimeError(f"the answer broke off with {type(error).__name__}") from None
            lost = problems.of_proxy(503)
            assert lost
            await self._refuse(lost, scope, receive, send)

    async def _refuse(self, problem: problems.ProblemError, scope: Scope, receive: Receive, send: Send) -> None:
        self._record(PROXY_REFUSALS.name, 1, {"cause": problem.body.error.code})
        await respond(problem)(scope, receive, send)
