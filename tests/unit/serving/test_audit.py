"""The audit line: which key did what, when, from where, on which model; never a text of the client."""

import asyncio
import json
import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi import FastAPI

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
