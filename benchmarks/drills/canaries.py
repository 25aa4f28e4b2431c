"""Plant 1,000 synthetic patients in the input of jobs and requests, and look for them in all that operators and readers can see.

Patients are in texts, ids and labels, in rows and files that cannot be read, and in every field, header and path of requests, of
which many are refused. Corpus builds, bulk jobs, evaluations, pretraining, sweeps, pair sets and contrastive training run to
their end and into refusals, and a worker of a training run is aborted; every page of the explorer is opened, and the endpoint's
app runs in this process. Then the jobs' output, Ray's logs with the dumps of crashes, every manifest, card, report, curve and
list of the store, the pages and the explorer's log, the endpoint's logs, metrics, traces and refusals are searched.

``wrong`` counts places with a hit. Not searched: data (shards, tokenizers, vectors, pairs, weights), and answers with status 200.
"""

import asyncio
import json
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from clinical_modernbert.recipe import ServeRecipe
from clinical_modernbert.serving.api import build_api
from clinical_modernbert.serving.engine import load_engine
from clinical_modernbert.serving.key_ring import KeyRing
from clinical_modernbert.serving.keys import parse_keys
from clinical_modernbert.serving.service import EmbeddingService
from clinical_modernbert.serving.tracing import open_tracer
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from benchmarks.drill import Outcome
from benchmarks.kits.canaries import Hits, text_of
from benchmarks.kits.canary_jobs import crash, jobs
from benchmarks.kits.explorer_visit import kept_log, visit
from benchmarks.kits.training_runs import helper_of_tests, tiny_store

_PATHS = (
    "/embed",
    "/embed_all",
    "/embed_sparse",
    "/tokenize",
    "/fill-mask",
    "/predict",
    "/token-classify",
    "/rerank",
    "/similarity",
    "/v1/embeddings",
)


def run(scratch: Path, seed: int, *, num_patients: int = 1000) -> Outcome:
    """Run the jobs and ask the endpoint, then search."""
    hits = Hits()
    store = tiny_store(scratch / "store")
    helper_of_tests("served_models").publish_model(scratch / "store", scratch / "export")
    with _ray_logs(scratch, hits):
        for job in jobs(scratch, num_patients):
            _note(f"{job.script} {job.name}", *job.run(scratch, store), wanted=job.status, hits=hits)
        _note("pretrain crashed", *crash(scratch, store), wanted=0, hits=hits)
    hits.search_store(store)
    typed = text_of(1)
    for place, text in visit(store.uri, typed=typed):
        # A page may repeat its viewer's own address, and nothing may log it.
        hits.search(place, text.replace(typed, "") if place.startswith("page") else text)
    ask_endpoint(scratch / "store", hits, num_patients=num_patients)
    return Outcome(
        injected=num_patients,
        recovered=num_patients if not hits.wrong else 0,
        lost=len(hits.unexpected),
        wrong=len(hits.wrong),
        facts={"hits": dict(hits.wrong), "searched": dict(hits.searched), "unexpected": hits.unexpected},
    )


def _note(name: str, status: int, printed: str, *, wanted: int, hits: Hits) -> None:
    hits.search(f"output: {name}", printed)
    if status != wanted:
        hits.unexpected.append(f"{name} ended with {status}, not {wanted}: {printed[-300:]}")


@contextmanager
def _ray_logs(scratch: Path, hits: Hits) -> Iterator[None]:
    """Let Ray write below ``scratch`` while the block runs, and search its logs afterwards."""
    before = os.environ.get("RAY_TMPDIR")
    os.environ["RAY_TMPDIR"] = str(scratch / "ray")
    (scratch / "ray").mkdir()
    try:
        yield
    finally:
        os.environ.pop("RAY_TMPDIR")
        if before is not None:
            os.environ["RAY_TMPDIR"] = before
    for path in (scratch / "ray").rglob("*"):
        if path.is_file() and not path.is_symlink() and path.suffix != ".sock":
            hits.search(f"ray: {path.name}", path.read_bytes())


def ask_endpoint(store: Path, hits: Hits, *, num_patients: int) -> None:
    """Send patients in every place of a request to the app, and search its logs, metrics, traces and refusals."""
    recipe = ServeRecipe.model_validate(
        {"name": "tiny", "model": "tiny", "limits": {"max_tokens": 256, "max_texts": 8}}
    )
    metrics: list[object] = []
    spans = InMemorySpanExporter()
    trace = open_tracer(model_id="tiny", fraction=1.0, exporter=spans)
    engine = load_engine(str(store), recipe)
    service = EmbeddingService(engine, record=lambda *record: metrics.append(record), trace=trace)
    app = build_api(service, keys=KeyRing(parse_keys("", origin="drill")))
    answer_of = helper_of_tests("asgi").answer_of
    with kept_log() as kept, closing(service):
        for number in range(num_patients):
            path, body, headers = _request(number)
            status, _, answer = asyncio.run(answer_of(app, "POST", path, body, headers=headers))
            if status != 200:
                hits.search(f"refusal: {status} of {path if path in _PATHS else 'an unknown path'}", answer)
    hits.search("logs: of the endpoint", "\n".join(kept.lines))
    hits.search("metrics: of the endpoint", repr(metrics))
    for span in spans.get_finished_spans():
        hits.search("traces: of the endpoint", span.to_json())


def _request(number: int) -> tuple[str, Any, dict[str, str]]:
    """Return path, body and headers of a request; the places of the patient take turns."""
    path, text = _PATHS[number % len(_PATHS)], text_of(number)
    model = {"model": "tiny"} if path == "/v1/embeddings" else {}
    names = {"/v1/embeddings": "input", "/rerank": "texts"}
    good: dict[str, Any] = {names.get(path, "inputs"): text if path != "/rerank" else [text], **model}
    good |= {"query": text} if path == "/rerank" else {}
    bodies: tuple[Any, ...] = (
        good,
        {**good, text: 1},
        {**good, "truncate": text},
        {names.get(path, "inputs"): {text: text}, **model},
        {**good, "model": text},
        [text],
        text,
        {names.get(path, "inputs"): [text * 40] * 20, **model},
        {**good, "parameters": {"top_k": text, "targets": [text]}},
    )
    headers = (
        {"x-request-id": text} if number % 5 == 0 else {"authorization": f"Bearer {text}"} if number % 5 == 1 else {}
    )
    place = path if number % 11 else f"/{text.replace(' ', '%20')}"
    return (
        place,
        bodies[number // len(_PATHS) % len(bodies)],
        {key: json.dumps(value)[1:-1] for key, value in headers.items()},
    )
