"""Each block of docs/clients.md runs as it is and leaves the vectors that the model gives offline; so does that of an export.

Clients that the project's environment lacks run in a venv of their own, ``build/clients``, which ``make clients`` makes.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from clinical_modernbert.artifacts import open_store, resolve

from tests.helpers.bare_server import Server
from tests.helpers.served_models import publish_model
from tools.pins import pins

PORT = 8000
TEXTS = ["chest pain", "no acute distress"]
OWN_VENV = ("langchain-openai", "llama-index-embeddings-openai-like", "haystack-ai", "litellm")
QUIET = {"HAYSTACK_TELEMETRY_ENABLED": "False", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "HF_HUB_OFFLINE": "0"}
_RUN = """
import json, runpy
print(json.dumps([[float(number) for number in vector] for vector in runpy.run_path("block.py")["vectors"]]))
"""


def blocks(repository: Path, page: str = "clients.md") -> dict[str, tuple[str, str]]:
    """Return the heading of each part of the page that has a block -> its language and code."""
    parts = (repository / "docs" / page).read_text(encoding="utf-8").split("\n## ")[1:]
    found = {part.partition("\n")[0]: re.search(r"^```(\w+)\n(.*?)^```$", part, re.M | re.S) for part in parts}
    return {heading: (match[1], match[2]) for heading, match in found.items() if match}


def absent(reason: str) -> NoReturn:
    """Skip a test, or fail it where REQUIRE_CLIENTS is set."""
    if os.environ.get("REQUIRE_CLIENTS"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", PORT)) == 0:
            absent(f"port {PORT}, which the page names, is in use")
    root, folder = tmp_path_factory.mktemp("store"), tmp_path_factory.mktemp("model")
    publish_model(root, folder, name="demo")
    running = Server(root, "", model="demo", port=PORT)
    yield running
    running.close()


def python_of(client: str, repository: Path) -> str:
    """Return the interpreter that has the client."""
    if client not in OWN_VENV:
        return sys.executable
    python = repository / "build" / "clients" / "bin" / "python"
    if not python.exists():
        absent("build/clients is absent: run `make clients`")
    return str(python)


def vectors_of(language: str, code: str, *, python: str, folder: Path, repository: Path) -> np.ndarray:
    """Run a block and return its vectors."""
    if language == "python":
        (folder / "block.py").write_text(code)
        command = [python, "-c", _RUN]
    elif language == "js":
        (folder / "block.mjs").write_text(f"{code}\nconsole.log(JSON.stringify(vectors));\n")
        command = [shutil.which("node") or "node", "block.mjs"]
    else:
        command = ["sh", "-c", code]
    environment = {**os.environ, **QUIET}
    if python == sys.executable:
        environment["PYTHONPATH"] = str(repository / "platform")
    else:
        environment.pop("PYTHONPATH", None)
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return np.array(json.loads(done.stdout.strip().splitlines()[-1]))


def test_the_page_has_every_client_with_the_version_that_is_tested(repository: Path) -> None:
    headings = [*blocks(repository)]
    names = ["openai", *OWN_VENV, "huggingface_hub"]
    assert headings[:6] == [" ".join(pin.split("==")) for pin in pins(names)]
    assert headings[6:] == ["curl", "JavaScript", "A client with retry"]


@pytest.mark.slow
@pytest.mark.parametrize("number", range(9))
def test_a_block_runs_as_it_is(server: Server, repository: Path, tmp_path: Path, number: int) -> None:
    heading, (language, code) = [*blocks(repository).items()][number]
    if language == "js" and not shutil.which("node"):
        pytest.skip("node is not installed")
    python = python_of(heading.partition(" ")[0], repository)
    found = vectors_of(language, code, python=python, folder=tmp_path, repository=repository)
    np.testing.assert_allclose(found, server.offline(TEXTS), atol=1e-5)


@pytest.mark.slow
def test_the_block_of_an_export_needs_no_torch(repository: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the extra export is not installed")
    from clinical_modernbert.encoder import load_export

    root = tmp_path / "store"
    publish_model(root, tmp_path / "model", name="demo")
    job = [sys.executable, str(repository / "jobs/export.py"), "demo", "exported", "--root", str(root)]
    environment = {**os.environ, "PYTHONPATH": str(repository / "platform")}
    done = subprocess.run(job, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "onnx/model.onnx  onnxruntime" in done.stdout, done.stderr[-2000:]
    ((language, code),) = [block for name, block in blocks(repository, "serving.md").items() if "ONNX" in name]
    code += "\nimport sys\nassert not {'torch', 'transformers'} & set(sys.modules)\n"
    found = vectors_of(language, code, python=sys.executable, folder=tmp_path, repository=repository)
    ours = load_export(resolve(open_store(str(root)), "model", "demo").folder("model"))
    np.testing.assert_allclose(found, ours.embed(ours.tokenize(TEXTS), pooling="cls", normalize=True), atol=1e-5)
