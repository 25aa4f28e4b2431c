"""Fuzz the endpoint by its OpenAPI page (schemathesis) and each parser of raw files by coverage (atheris), for ten minutes each.

The endpoint must answer by 2xx or 4xx, keep its process and its memory, and have no text of a request in a refusal or its log. A
parser must yield records or refuse the file; an input that takes over ten seconds or four gigabytes breaks the rule too.
``injected`` counts requests and inputs, ``wrong`` those that broke a rule; an input is kept below ``build/fuzz`` and belongs into
``tests/golden/fuzz`` once it is fixed. ``FUZZ_SECONDS`` sets another time.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from benchmarks.drill import Outcome
from benchmarks.kits import fuzz_parsers
from benchmarks.kits.canaries import has_patient
from benchmarks.kits.endpoints import Endpoint, ours, processes_of, publish_model
from benchmarks.kits.fuzz_api import send_requests
from benchmarks.kits.tests import REPOSITORY

SECONDS = 600.0
_KEPT = REPOSITORY / "build" / "fuzz"
_MOST_CRASHES = 5
_LIMITS = ("-timeout=10", "-rss_limit_mb=4096", "-malloc_limit_mb=2048", "-max_len=65536", "-print_final_stats=1")
_INPUTS = re.compile(r"stat::number_of_executed_units:\s+(\d+)|^#(\d+)\s", re.MULTILINE)
_LEAST_GROWTH_MB = 200


def run(scratch: Path, seed: int) -> Outcome:
    """Fuzz all."""
    seconds = float(os.environ.get("FUZZ_SECONDS", SECONDS))
    facts: dict[str, Any] = {"seconds_each": seconds}
    injected = wrong = 0
    for name in (*fuzz_parsers.PARSERS, "endpoint"):
        if name == "endpoint":
            facts[name] = _fuzz_endpoint(scratch, seed, seconds)
        else:
            facts[name] = _fuzz_parser(name, scratch, seed, seconds)
        injected, wrong = injected + facts[name]["inputs"], wrong + len(facts[name]["crashes"])
        sys.stdout.write(f"{name}: {facts[name]}\n")
        sys.stdout.flush()
    return Outcome(injected=injected, recovered=injected - wrong, lost=0, wrong=wrong, facts=facts)


def _fuzz_parser(name: str, scratch: Path, seed: int, seconds: float) -> dict[str, Any]:
    """Start the fuzzer again after each crash, until its time is over."""
    ended, inputs, crashes = time.monotonic() + seconds, 0, list[str]()
    corpus, folder, kept = scratch / f"{name}-inputs", scratch / f"{name}-files", _KEPT / name
    for one in (corpus, folder, kept):
        one.mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(fuzz_parsers.PARSERS[name].seeds):
        (corpus / f"seed-{number}").write_bytes(content)
    words = scratch / "tokens.dict"
    words.write_text("".join(f'"{_escaped(token)}"\n' for token in fuzz_parsers.TOKENS if len(token) < 64))
    while (left := ended - time.monotonic()) > 1 and len(crashes) < _MOST_CRASHES:
        command = [sys.executable, "-m", "benchmarks.kits.fuzz_target", name, str(folder), str(corpus), *_LIMITS]
        command += [f"-seed={seed + len(crashes) + 1}", f"-max_total_time={int(left)}", f"-dict={words}"]
        done = subprocess.run(
            [*command, f"-artifact_prefix={kept}/"],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        found = [int(a or b) for a, b in _INPUTS.findall(done.stderr)]
        inputs += max(found, default=0)
        if done.returncode:
            crashes.append(done.stdout[-500:] + done.stderr[-1500:])
    shutil.rmtree(folder)
    return {"inputs": inputs, "kept": len([*corpus.iterdir()]), "crashes": crashes}


def _escaped(token: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in token)


def _fuzz_endpoint(scratch: Path, seed: int, seconds: float) -> dict[str, Any]:
    export, inputs, crashes, rounds = publish_model(scratch / "model", num_layers=1), 0, list[str](), 0
    with ours(export, server="uvicorn", **{"limits.max_tokens": 256, "limits.max_texts": 64}) as endpoint:
        with urllib.request.urlopen(f"http://127.0.0.1:{endpoint.port}/openapi.json", timeout=30) as answer:
            page = json.load(answer)
        memory, ended = [_memory_mb(endpoint)], time.monotonic() + seconds
        while not rounds or (time.monotonic() < ended and len(crashes) < _MOST_CRASHES):
            try:
                seen = send_requests(
                    f"http://127.0.0.1:{endpoint.port}", page, seed=seed * 1000 + rounds, max_examples=20
                )
                inputs += seen.total()
            except Exception as error:  # noqa: BLE001 - hypothesis wraps what an example raised
                crashes.append(str(error)[:1000])
            rounds += 1
            memory.append(_memory_mb(endpoint))
        if has_patient(endpoint.log.read_text(errors="replace")):
            crashes.append("the endpoint's log quotes a request")
        if memory[-1] > 1.5 * memory[1] and memory[-1] - memory[1] > _LEAST_GROWTH_MB:
            crashes.append(f"memory grew from {memory[1]} to {memory[-1]} MB")
    return {"inputs": inputs, "rounds": rounds, "memory_mb": memory[:2] + memory[-1:], "crashes": crashes}


def _memory_mb(endpoint: Endpoint) -> int:
    return sum(process.memory_info().rss for process in processes_of(endpoint.process)) >> 20
