"""What Ray Serve's proxy refuses in plain text comes out in our words; answers of a replica stay as they are."""

import asyncio
import json
import re
import time
from typing import Any

import pytest
from clinical_modernbert.serving.proxy import JsonRefusals, PacedBodies, middlewares
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

counts: list[tuple[str, float, dict[str, str]]] = []
"""What the last answer was counted as."""


def answered(status: int, kind: str, text: bytes, *, path: str = "/embed") -> tuple[int, dict[str, str], bytes]:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", kind.encode()), (b"x-request-id", b"7")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": text[:3], "more_body": True})
        await send({"type": "http.response.body", "body": text[3:]})

    sent: list[Any] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    assert [middleware.cls for middleware in middlewares()] == [PacedBodies, JsonRefusals]
    counts.clear()
    record = lambda name, value, tags: counts.append((name, value, tags))  # noqa: E731
    asyncio.run(JsonRefusals(app, record=record)({"type": "http", "path": path, "headers": []}, receive, send))
    head, *bodies = sent
    names = {name.decode(): value.decode() for name, value in head["headers"]}
    return head["status"], names, b"".join(body.get("body", b"") for body in bodies)


@pytest.mark.parametrize(
    ("status", "expected", "code", "retry"),
    [
        (429, 429, "proxy_full", "1"),
        (503, 503, "unavailable", "1"),
        (500, 500, "internal_error", None),
        (408, 504, "request_timeout", None),
        (404, 404, "not_found", None),
    ],
)
def test_a_plain_refusal_is_worded_anew(status: int, expected: int, code: str, retry: str | None) -> None:
    found, headers, body = answered(status, "text/plain", b"ActorDiedError: the note said Zebulon")
    error = json.loads(body)["error"]
    assert (found, error["code"]) == (expected, code)
    assert headers.get("retry-after") == retry
    assert headers["content-length"] == str(len(body))
    assert headers["x-request-id"] == "7"
    assert b"Zebulon" not in body
    assert counts == [("cm_proxy_refusals", 1, {"cause": code})]


@pytest.mark.parametrize(
    ("status", "kind"), [(200, "text/plain"), (429, "application/json"), (500, "application/json")]
)
def test_an_answer_of_a_replica_passes_untouched(status: int, kind: str) -> None:
    assert answered(status, kind, b'{"a": 1}')[2] == b'{"a": 1}'
    assert counts == []


def test_the_proxy_s_own_pages_pass_untouched() -> None:
    assert answered(503, "text/plain", b"draining", path="/-/healthz")[2] == b"draining"


async def _receive() -> Message:
    return {"type": "http.request", "body": b""}


def test_a_replica_that_dies_is_a_503_to_be_tried_again() -> None:
    async def dying(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("ActorDiedError: the note said Zebulon")

    sent: list[Any] = []

    async def send(message: Message) -> None:
        sent.append(message)

    counts.clear()
    app = JsonRefusals(dying, record=lambda name, value, tags: counts.append((name, value, tags)))
    asyncio.run(app({"type": "http", "path": "/embed", "headers": []}, _receive, send))
    head, body = sent
    headers = dict(head["headers"])
    assert (head["status"], headers[b"retry-after"], headers[b"content-type"]) == (503, b"1", b"application/json")
    assert json.loads(body["body"])["error"]["code"] == "unavailable"
    assert b"Zebulon" not in body["body"]
    assert counts == [("cm_proxy_refusals", 1, {"cause": "unavailable"})]


def test_an_answer_that_breaks_off_gets_no_second_head_and_no_message() -> None:
    async def breaking(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        raise RuntimeError("the note said Zebulon")

    sent: list[Any] = []

    async def send(message: Message) -> None:
        sent.append(message)

    with pytest.raises(RuntimeError) as broken:
        asyncio.run(JsonRefusals(breaking)({"type": "http", "path": "/embed", "headers": []}, _receive, send))
    assert len(sent) == 1
    assert "Zebulon" not in str(broken.value)


@pytest.mark.parametrize(
    ("sent", "kept"), [("a-1", True), ("Zebulon MRN 12", False), ("a" * 65, False), ("", False), (None, False)]
)
def test_a_request_id_that_may_be_text_is_replaced_before_ray_logs_it(sent: str | None, kept: bool) -> None:
    seen: list[str | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(Headers(scope=scope).get("x-request-id"))
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Message) -> None:
        pass

    headers = [] if sent is None else [(b"x-request-id", sent.encode())]
    asyncio.run(JsonRefusals(app)({"type": "http", "path": "/embed", "headers": headers}, _receive, send))
    assert (seen == [sent]) == kept
    assert seen[0] and re.fullmatch("[A-Za-z0-9-]{1,64}", seen[0])


@pytest.mark.parametrize("place", ["headers", "raw_path", "query_string"])
def test_an_address_and_headers_of_more_than_64_kilobytes_are_refused_before_the_replica(place: str) -> None:
    reached: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        reached.append(scope)

    def ask(size: int) -> list[Any]:
        sent: list[Any] = []

        async def send(message: Message) -> None:
            sent.append(message)

        value: Any = [(b"x-note", b"y" * size)] if place == "headers" else b"/" * size
        scope = {"type": "http", "path": "/embed", "headers": [], place: value}
        asyncio.run(JsonRefusals(app, record=lambda *record: counts.append(record))(scope, _receive, send))
        return sent

    counts.clear()
    assert ask(60_000) == [] and len(reached) == 1 and counts == []
    head, body = ask(70_000)
    assert len(reached) == 1
    assert (head["status"], json.loads(body["body"])["error"]["code"]) == (431, "head_too_large")
    assert counts == [("cm_proxy_refusals", 1, {"cause": "head_too_large"})]


def passed(sent: list[Message]) -> tuple[list[Message], float]:
    """What reaches the application of a body that comes in these messages, and after how many seconds."""
    got: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        got.append(await receive())
        while got[-1].get("more_body"):
            got.append(await receive())
        got.append(await receive())

    async def receive() -> Message:
        return left.pop(0)

    left = [*sent, {"type": "http.disconnect"}]
    began = time.monotonic()
    asyncio.run(PacedBodies(app)({"type": "http"}, receive, _no_send))
    return got, time.monotonic() - began


def messages(chunks: list[bytes]) -> list[Message]:
    last = len(chunks) - 1
    return [{"type": "http.request", "body": chunk, "more_body": n < last} for n, chunk in enumerate(chunks)]


def test_a_large_body_passes_in_slices_at_a_limited_rate() -> None:
    (*bodies, end), seconds = passed(messages([bytes(65_536)] * 64))
    assert b"".join(message["body"] for message in bodies) == bytes(64 * 65_536)
    assert len(bodies) == 16 and end == {"type": "http.disconnect"}
    assert [message["more_body"] for message in bodies] == [True] * 15 + [False]
    assert seconds > 0.14  # fifteen slices, each a hundredth of a second after the last


@pytest.mark.parametrize("chunks", [[b"{}"], [bytes(65_536)] * 4, [b"x"] * 1000])
def test_a_small_body_passes_as_one_message_also_if_it_comes_byte_by_byte(chunks: list[bytes]) -> None:
    bodies, _ = passed(messages(chunks))
    assert bodies == [*messages([b"".join(chunks)]), {"type": "http.disconnect"}]


def test_a_client_that_leaves_in_the_middle_of_a_body_is_reported_at_once() -> None:
    got, _ = passed([{"type": "http.request", "body": b"x", "more_body": True}, {"type": "http.disconnect"}])
    assert got[0] == {"type": "http.disconnect"}


async def _no_send(message: Message) -> None:
    raise AssertionError("nothing is sent")
