"""The middleware before the routes: keys, limits on size and time, disconnects, the audit line, unexpected errors.

It acts before a body is parsed, and never logs or repeats any part of it. It is plain ASGI, so that Ray Serve and a bare server
run the same code.
"""

import asyncio
import json
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime

from fastapi import Response
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clinical_modernbert.recipe.serve import ServeLimits
from clinical_modernbert.serving import problems
from clinical_modernbert.serving.body import ClientLeftError, read_body, wait_for_leave
from clinical_modernbert.serving.key_ring import KeyRing
from clinical_modernbert.serving.keys import AnyKey, Key, KeyScope, find_key
from clinical_modernbert.serving.metrics import TALLY, Record, Tally
from clinical_modernbert.serving.request_id import request_id
from clinical_modernbert.serving.tracing import Trace

_CLIENT_LEFT = 499

_logger = logging.getLogger(__name__)
audit_logger = logging.getLogger("clinical_modernbert.audit")


def respond(problem: problems.ProblemError) -> Response:
    """Return a refusal as a response."""
    return JSONResponse(problem.body.model_dump(), status_code=problem.status, headers=dict(problem.headers))


def route_path(scope: Scope) -> str:
    """Return the path below the prefix that the app is mounted at, as Starlette's router does.

    Ray Serve leaves an application's ``route_prefix`` in ``path`` and repeats it in ``root_path``.
    """
    path: str = scope["path"]
    below = path.removeprefix(scope.get("root_path", ""))
    return below if below.startswith("/") else path


class Gate:
    """The middleware.

    ``scopes`` gives the scope that each known path needs, None for a path that is open to clients without a key. An unknown path
    needs any key. Log lines and metrics show known paths only. ``model_id`` is the model of a request that was refused before it
    chose one: the only model, None if there are several.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limits: ServeLimits,
        keys: KeyRing,
        record: Record,
        trace: Trace,
        scopes: Mapping[str, KeyScope | AnyKey | None],
        model_id: str | None,
    ) -> None:
        self._app = app
        self._limits = limits
        self._keys = keys
        self._record, self._trace = record, trace
        self._scopes, self._model_id = scopes, model_id
        self._open = frozenset(path for path, needed in scopes.items() if needed is None)
        self._num_requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        route = self._known(route_path(scope))
        if route in self._open:
            await self._handle(scope, receive, send, route=route)
            return
        with self._trace(f"{scope['method']} {route}", headers=Headers(scope=scope)) as note:
            status, tally = await self._handle(scope, receive, send, route=route)
            note("http.route", route)
            note("http.response.status_code", status)
            note("texts", tally.num_texts)
            note("tokens", tally.num_tokens)
            note("model", tally.model or self._model_id or "")

    def _known(self, path: str) -> str:
        """Return the path of the route, with the name of a parameter for its value; "other" for the client's own text."""
        if path in self._scopes:
            return path
        folder, _, last = path.rpartition("/")
        return next((known for known in self._scopes if last and known.startswith(f"{folder}/{{")), "other")

    async def _handle(self, scope: Scope, receive: Receive, send: Send, *, route: str) -> tuple[int, Tally]:
        """Answer one request, also if its route fails; return the status and the tally of the request."""
        started, status = time.perf_counter(), 0
        keys = self._keys.accepted()
        key = find_key(keys, Headers(scope=scope).get("authorization")) if keys else None
        tally = Tally(key=key.name if key else None, allowed_models=key.models if key else None)
        TALLY.set(tally)

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                if tally.model:
                    headers["x-model"] = tally.model
                if tally.ignored:
                    headers["x-ignored-fields"] = ", ".join(sorted(tally.ignored))
            await send(message)

        self._num_requests += 1
        try:
            self._admit(route, key=key, needs_key=bool(keys))
            await self._pass(scope, receive, watch, tally)
        except ClientLeftError:
            status, tally.cause = _CLIENT_LEFT, "client_left"
        except problems.ProblemError as problem:
            tally.cause = problem.body.error.code
            await respond(problem)(scope, receive, watch)
        except asyncio.CancelledError:
            # Ray Serve cancels a request when its client disconnects.
            status, tally.cause = _CLIENT_LEFT, "client_left"
            raise
        except Exception as error:  # noqa: BLE001  # a traceback would put the message into the server's log
            _logger.error("%s failed with %s", route, type(error).__name__)
            tally.cause = "internal_error"
            if status:
                raise RuntimeError(f"failed with {type(error).__name__}") from None
            await respond(problems.internal_error())(scope, receive, watch)
        finally:
            self._num_requests -= 1
            if key is not None and tally.num_tokens:
                self._keys.count_tokens(key, tally.num_tokens)
            self._note(scope, route, status, started, key=key, tally=tally)
        return status, tally

    def _admit(self, route: str, *, key: Key | None, needs_key: bool) -> None:
        """Refuse a request whose key lacks the route's scope or has used its rate, and one more than the replica may hold."""
        if route in self._open:
            return
        if needs_key and key is None:
            raise problems.no_key()
        if key is not None:
            needed = self._scopes.get(route) or "any"
            if needed != "any" and needed not in key.scopes:
                raise problems.wrong_scope(needed)
            wait_s = self._keys.seconds_until(key)
            if wait_s:
                raise problems.rate_limited(wait_s)
        if self._num_requests > self._limits.max_requests:
            raise problems.too_many_requests(self._limits.max_requests)

    async def _pass(self, scope: Scope, receive: Receive, send: Send, tally: Tally) -> None:
        """Read the whole body and hand it to the route."""
        limits = self._limits
        try:
            async with asyncio.timeout(limits.body_timeout_s):
                body = await read_body(scope, receive, limits)
        except TimeoutError:
            raise problems.body_timeout(limits.body_timeout_s) from None
        tally.received = time.perf_counter()
        await self._answer(scope, receive, send, body)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, body: bytes) -> None:
        """Run the route until it answers, its time is over or its client disconnects."""
        sent = False

        async def replay() -> Message:
            nonlocal sent
            if not sent:
                sent = True
                return {"type": "http.request", "body": body, "more_body": False}
            return await asyncio.get_running_loop().create_future()  # wait_for_leave sees a disconnect

        answering = asyncio.ensure_future(self._app(scope, replay, send))
        leaving = asyncio.ensure_future(wait_for_leave(receive))
        try:
            done, _ = await asyncio.wait(
                {answering, leaving}, timeout=self._limits.request_timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            if answering in done:
                answering.result()
                return
        finally:
            for task in (answering, leaving):
                if not task.done():
                    task.cancel()
                    with suppress(asyncio.CancelledError):
                        await task
        if leaving in done:
            raise ClientLeftError
        raise problems.request_timeout(self._limits.request_timeout_s)

    def _note(self, scope: Scope, route: str, status: int, started: float, *, key: Key | None, tally: Tally) -> None:
        ended = time.perf_counter()
        peer, model = scope.get("client"), tally.model or self._model_id
        line = {
            "key": key.name if key else None,
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "request_id": request_id(Headers(scope=scope).get("x-request-id")),
            "peer": peer[0] if peer else None,
            "model": model,
            "route": route,
            "status": status,
            "texts": tally.num_texts,
            "tokens": tally.num_tokens,
            "ms": round((ended - started) * 1000, 1),
        }
        if route not in self._open:
            audit_logger.info(json.dumps(line))
        tags = {"model": model or "", "route": route}
        self._record("cm_requests", 1, {**tags, "status": str(status)})
        if tally.received is not None:
            self._record("cm_request_seconds", ended - tally.received, tags)
        if status >= 400:
            self._record("cm_failures", 1, {**tags, "cause": tally.cause or f"status_{status}"})
