"""Traces: whole, joined to the caller's, and without a word of what was sent, even where a request fails."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from clinical_modernbert.recipe import ServeRecipe
from clinical_modernbert.serving.tracing import open_tracer
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.helpers.bare_server import Server, key_lines
from tests.helpers.served_models import CANARY, LONG, publish_model

PARENT, TRACE = "00f067aa0ba902b7", "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture(scope="module")
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture(scope="module")
def server(exporter: InMemorySpanExporter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("store")
    publish_model(root, tmp_path_factory.mktemp("export"))
    running = Server(root, key_lines(), trace=open_tracer(model_id="tiny", fraction=1.0, exporter=exporter))
    yield running
    running.close()


def finished(exporter: InMemorySpanExporter, name: str, number: int = 1) -> list[ReadableSpan]:
    deadline = time.monotonic() + 10
    while True:
        found = [span for span in exporter.get_finished_spans() if span.name == name]
        if len(found) >= number:
            return found
        assert time.monotonic() < deadline, [span.name for span in exporter.get_finished_spans()]
        time.sleep(0.01)


def test_a_request_is_one_trace_that_goes_on_with_the_caller_s(server: Server, exporter: InMemorySpanExporter) -> None:
    exporter.clear()
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    status, _ = server.post("/embed", {"inputs": [f"{CANARY} was seen", "x"]}, headers=headers)
    assert status == 200
    (root,) = finished(exporter, "POST /embed")
    assert f"{root.context.trace_id:032x}" == TRACE
    assert root.parent is not None
    assert f"{root.parent.span_id:016x}" == PARENT
    attributes = dict(root.attributes or {})
    assert (attributes["http.response.status_code"], attributes["texts"]) == (200, 2)
    for name in ("tokenize", "encode", "render"):
        (span,) = finished(exporter, name)
        assert span.parent is not None
        assert span.parent.span_id == root.context.span_id, name
    (batch,) = finished(exporter, "batch")
    assert batch.parent is None
    assert dict(batch.attributes or {})["tokens"] == attributes["tokens"]


def test_no_span_holds_a_word_of_any_request(server: Server, exporter: InMemorySpanExporter) -> None:
    exporter.clear()
    server.post("/embed", {"inputs": [CANARY + LONG]})
    server.post("/fill-mask", {"inputs": CANARY})
    server.post(f"/{CANARY.split()[0]}", {"inputs": CANARY, CANARY: 1})
    server.post("/embed", {"inputs": CANARY}, CANARY)
    server.get("/health")
    finished(exporter, "POST other")
    statuses = {
        span.name: dict(span.attributes or {}).get("http.response.status_code")
        for span in exporter.get_finished_spans()
    }
    assert statuses["POST /fill-mask"] == 422
    assert "GET /health" not in statuses  # probes would drown the rest
    told = json.dumps([json.loads(span.to_json()) for span in exporter.get_finished_spans()])
    assert not any(word in told for word in CANARY.split())


def test_a_failing_batch_is_marked_and_its_message_is_not_kept(
    server: Server, exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeError(f"the note said {CANARY}")

    exporter.clear()
    monkeypatch.setattr(server, "before_batch", fail)
    assert server.post("/embed", {"inputs": "x"})[0] == 500
    finished(exporter, "POST /embed")
    (encode,) = finished(exporter, "encode")
    assert encode.status.status_code.name == "ERROR"
    assert CANARY not in "".join(span.to_json() for span in exporter.get_finished_spans())


def test_without_traces_neither_sdk_nor_exporter_is_loaded(tmp_path: Path) -> None:
    code = (
        "import sys, clinical_modernbert.serving.api; heavy = ('opentelemetry.sdk', 'opentelemetry.exporter'); "
        "print([m for m in sys.modules if m.startswith(heavy)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")
    assert ServeRecipe.model_validate({"name": "t", "model": "t"}).tracing.enabled is False
