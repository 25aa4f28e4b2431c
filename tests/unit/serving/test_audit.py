"""The audit line: which key did what, when, from where, on which model; never a text of the client."""

import asyncio
import json
import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from clinical_modernbert.recipe.serve import ServeLimits
from clinical_modernbert.serving.gate import Gate
from clinical_modernbert.serving.key_ring import KeyRing
from clinical_modernbert.serving.tracing import no_trace
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from tests.helpers.asgi import answer_of
from tests.helpers.served_app import open_app, publish


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    app, service = open_app(publish(tmp_path_factory.mktemp("model")))
    yield app
    service.close()


def line_of(app: FastAPI, caplog: pytest.LogCaptureFixture, headers: dict[str, str]) -> dict[str, Any]:
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="clinical_modernbert.audit"):
        asyncio.run(answer_of(app, "POST", "/embed", {"inputs": "x"}, headers=headers))
    (record,) = [record for record in caplog.records if record.name == "clinical_modernbert.audit"]
    line: dict[str, Any] = json.loads(record.getMessage())
    return line


def test_a_line_says_when_from_where_and_on_which_model(app: FastAPI, caplog: pytest.LogCaptureFixture) -> None:
    line = line_of(app, caplog, {"x-request-id": "abc-123"})
    assert next(iter(line)) == "key"
    assert (line["peer"], line["model"], line["request_id"]) == ("test", "tiny-0123456789ab", "abc-123")
    assert timedelta(0) <= datetime.now(UTC) - datetime.fromisoformat(line["time"]) < timedelta(minutes=1)


@pytest.mark.parametrize("sent", ["Zebulon MRN 12", "a" * 65, "", "a\u00e9"])
def test_a_request_id_that_may_be_text_is_replaced(app: FastAPI, caplog: pytest.LogCaptureFixture, sent: str) -> None:
    first = line_of(app, caplog, {"x-request-id": sent})["request_id"]
    assert re.fullmatch("[0-9a-f]{32}", first)
    assert line_of(app, caplog, {"x-request-id": sent})["request_id"] != first


def test_the_time_of_a_slow_body_is_the_client_s_and_not_the_endpoint_s() -> None:
    found: dict[str, list[float]] = {}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await JSONResponse([])(scope, receive, send)

    gate = Gate(
        app,
        limits=ServeLimits(body_timeout_s=0.5),
        keys=KeyRing(),
        record=lambda name, value, tags: found.setdefault(name, []).append(value),
        trace=no_trace,
        scopes={"/embed": "embed"},
        model_id="tiny",
    )

    async def body(seconds: float) -> None:
        scope = {"type": "http", "method": "POST", "path": "/embed", "headers": [], "client": ("test", 1)}
        calls = iter([seconds, 10.0])

        async def receive() -> Message:
            await asyncio.sleep(next(calls))
            return {"type": "http.request", "body": b"{}", "more_body": False}

        async def send(message: Message) -> None:
            pass

        await gate(scope, receive, send)

    asyncio.run(body(0.2))
    assert len(found["cm_request_seconds"]) == 1 and found["cm_request_seconds"][0] < 0.15
    asyncio.run(body(1.0))
    assert len(found["cm_request_seconds"]) == 1 and len(found["cm_requests"]) == 2
