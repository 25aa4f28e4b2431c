"""Plant 1,000 synthetic patients in the input of jobs and requests, and look for them in all that operators and readers can see.

A patient is a name, a number and an e-mail address. They are in texts, ids and labels, in rows and files that cannot be read, and
in every field, header and path of requests, of which many are refused. Corpus builds, bulk jobs and evaluations run to their end
and into refusals; every page of the explorer is opened, and the endpoint's app runs in this process. Then the jobs' output, Ray's
logs, every manifest, card, report and list of the store, the pages and the explorer's log, the endpoint's logs, metrics and
refusals are searched.

``wrong`` counts places with a hit. Not searched: data (shards, tokenizer, vectors), and answers with status 200.
"""

import asyncio
import csv
import io
import json
import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml
from clinical_modernbert.artifacts import Store
from clinical_modernbert.recipe import ServeRecipe
from clinical_modernbert.serving.api import build_api
from clinical_modernbert.serving.engine import load_engine
from clinical_modernbert.serving.key_ring import KeyRing
from clinical_modernbert.serving.keys import parse_keys
from clinical_modernbert.serving.service import EmbeddingService

from benchmarks.drill import Outcome
from benchmarks.kits.explorer_visit import kept_log, visit
from benchmarks.kits.training_runs import helper_of_tests, start_script, tiny_store

_PLANTED = re.compile(r"Zq\d{4}ton|774411\d{4}|zq\d{4}@canary", re.IGNORECASE)
_DATA = re.compile(r"/(?:tokenizer|vectors|model|shards?)/|\.(?:npy|safetensors|bin)$|/lexicon\.txt$")
_PATHS = (
    "/embed",
    "/embed_all",
    "/tokenize",
    "/fill-mask",
    "/predict",
    "/token-classify",
    "/rerank",
    "/similarity",
    "/v1/embeddings",
)


@dataclass(slots=True)
class Hits:
    """Places where a patient was seen, and what was searched."""

    wrong: Counter[str] = field(default_factory=Counter)
    searched: Counter[str] = field(default_factory=Counter)
    unexpected: list[str] = field(default_factory=list)
    """Jobs that ended in another way than they should."""

    def search(self, place: str, text: str | bytes) -> None:
        """Count the patients in a text."""
        content = text.decode("utf-8", errors="replace") if isinstance(text, bytes) else text
        self.searched[place.partition(":")[0]] += 1
        found = len(_PLANTED.findall(content))
        if found:
            self.wrong[place] += found


def run(scratch: Path, seed: int, *, num_patients: int = 1000) -> Outcome:
    """Run the jobs and ask the endpoint, then search."""
    hits = Hits()
    store = tiny_store(scratch / "store")
    helper_of_tests("served_models").publish_model(scratch / "store", scratch / "export")
    with _ray_logs(scratch, hits):
        for script, name, values, wanted in _jobs(scratch, num_patients):
            recipe = scratch / f"{name}.yaml"
            recipe.write_text(yaml.safe_dump(values))
            _run_job(start_script(script, recipe, store), name, wanted, hits)
    _search_store(store, hits)
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


def text_of(number: int) -> str:
    """Return a text about patient ``number``."""
    return (
        f"Zq{number:04d}ton Vexley, number 774411{number:04d}, zq{number:04d}@canary.example, was admitted with fever and cough "
        f"and took warfarin {number % 9} mg daily."
    )


def _rows(num: int, *, header: Sequence[str] = ("id", "patient", "text", "label"), bad: int = 0) -> str:
    out = io.StringIO()
    lines = csv.writer(out)
    if header:
        lines.writerow(header)
    for number in range(num):
        lines.writerow(
            (f"774411{number:04d}", f"774411{number:04d}", text_of(number), ("home", "admitted")[number % 2])
        )
        if number < bad:
            lines.writerow((text_of(number), "", text_of(number), "home", text_of(number)))
    return out.getvalue()


def _jobs(scratch: Path, num: int) -> Iterator[tuple[str, str, dict[str, Any], int]]:
    """Yield script, name, recipe and expected exit status of each job."""
    files = {"good": _rows(num, bad=3), "bad": _rows(num, bad=num // 2), "headless": _rows(num, header=())}
    paths = {name: scratch / f"{name}.csv" for name in files}
    for name, content in files.items():
        paths[name].write_text(content)
    (scratch / "labels.csv").write_text(_rows(min(num, 200)))
    (scratch / "no-label.csv").write_text(_rows(min(num, 200)) + f'1,1,"{text_of(1)}",\n')
    tokenizer = {"base": "train", "vocabulary_size": 512, "num_clinical_tokens": 0, "training_megabytes": 1}
    for name, wanted in (("good", 0), ("bad", 2), ("headless", 2)):
        table = {"type": "table", "name": "notes", "path": str(paths[name]), "text_column": "text", "id_column": "id"}
        values = {"kind": "corpus", "name": name, "sources": [table], "tokenizer": tokenizer, "dedup": {"near": False}}
        yield "build_corpus", f"corpus-{name}", values, wanted
        values = {"kind": "embed", "name": name, "model": "tiny", "input_uri": str(paths[name]), "id_column": "id"}
        values |= {"text_column": "text", "scaling": {"num_workers": 1}, "max_tokens": 32}
        yield "embed", f"embed-{name}", values, wanted
    for name, wanted in (("labels", 0), ("no-label", 2)):
        task = {"type": "classification", "name": "notes", "train": f"{name}.csv", "group": "patient"}
        values = {"kind": "evaluate", "name": name, "model": "tiny", "corpus": None}
        values |= {
            "data": str(scratch),
            "tasks": [task],
            "modes": ["frozen"],
            "seeds": [0],
            "num_resamples": 100,
            "codes": None,
        }
        values |= {"few_shot": [], "efficiency": None, "scaling": {"num_cpus": 1, "num_runs": 1}}
        yield "evaluate", f"evaluate-{name}", values, wanted


def _run_job(job: "subprocess.Popen[str]", name: str, wanted: int, hits: Hits) -> None:
    output, errors = job.communicate(timeout=600)
    hits.search(f"output: {name}", output + errors)
    if job.returncode != wanted:
        hits.unexpected.append(f"{name} ended with {job.returncode}, not {wanted}: {errors[-300:]}")


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


def _search_store(store: Store, hits: Hits) -> None:
    for item in store.walk(""):
        if _DATA.search(f"/{item.key}"):
            continue
        content = store.read_bytes(item.key)
        if item.key.endswith(".parquet"):
            content = str(pq.read_table(io.BytesIO(content)).to_pylist()).encode()
        hits.search(f"store: {item.key.rpartition('/')[2]}", f"{item.key}\n".encode() + content)


def ask_endpoint(store: Path, hits: Hits, *, num_patients: int) -> None:
    """Send patients in every place of a request to the app, and search its logs, metrics and refusals."""
    recipe = ServeRecipe.model_validate(
        {"name": "tiny", "model": "tiny", "limits": {"max_tokens": 256, "max_texts": 8}}
    )
    metrics: list[object] = []
    service = EmbeddingService(load_engine(str(store), recipe), record=lambda *record: metrics.append(record))
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
