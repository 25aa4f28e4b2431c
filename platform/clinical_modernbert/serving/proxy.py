"""Refusals of Ray Serve's proxy (full, unavailable, timed out, failed) in the shape of OpenAI's errors.

The proxy answers in plain text. It loads this middleware if ``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH`` is
``clinical_modernbert.serving.proxy.middlewares`` when Ray starts; the images set it. Answers of a replica pass unchanged.
Replicas cannot count what the proxy refuses, so it is counted here.
"""

import json

from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clinical_modernbert.serving import problems
from clinical_modernbert.serving.gate import respond
from clinical_modernbert.serving.metrics import PROXY_REFUSALS, Record, drop
from clinical_modernbert.serving.request_id import request_id

_PROXY_PATHS = ("/-/",)


def middlewares() -> list[Middleware]:
    """Return the middleware that the proxy applies to every request."""
    from ray.util.metrics import Counter

    counter = Counter(PROXY_REFUSALS.name, PROXY_REFUSALS.description, PROXY_REFUSALS.tags)
    return [Middleware(JsonRefusals, record=lambda _, value, tags: counter.inc(value, tags))]


class JsonRefusals:
    """Replaces a plain-text refusal by JSON. The text is dropped: it may name actors, and that of a failure may quote input."""

    def __init__(self, app: ASGIApp, *, record: Record = drop) -> None:
        self._app, self._record = app, record

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(_PROXY_PATHS):
            await self._app(scope, receive, send)
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
            self._record(PROXY_REFUSALS.name, 1, {"cause": lost.body.error.code})
            await respond(lost)(scope, receive, send)
