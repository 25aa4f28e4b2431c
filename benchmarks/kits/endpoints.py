"""Endpoints to measure: ours on Ray Serve or on bare uvicorn, and the peers, each in its own process over the same weights.

Ours runs from this checkout; a peer runs in a venv below ``build/peers``, made on first use, because none can share the
project's. ``load`` sends them requests.
"""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from clinical_modernbert.artifacts import Manifest, open_store, upload_folder, write_manifest
from clinical_modernbert.encoder import build_model
from clinical_modernbert.recipe.corpus import TokenizerSection
from clinical_modernbert.recipe.pretrain import ModelSection
from clinical_modernbert.recipe.sources import SyntheticNoteSource
from clinical_modernbert.sources import Document, list_units, read_unit
from clinical_modernbert.tokenizer import build_tokenizer, padded_vocabulary_size, special_ids
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
MODEL = "bench"
_LOG, _DEPLOYED = "server.log", "deployed"
NUM_THREADS = 2
_START_S = 180


@dataclass(frozen=True, slots=True)
class Export:
    """One model with random weights, as our store has it and as sentence-transformers reads it."""

    root: Path
    """Artifact store."""
    folder: Path
    """The same weights with sentence-transformers' files: [CLS] pooling, unit length."""


def publish_model(scratch: Path, *, num_layers: int = 22) -> Export:
    """Publish ModernBERT-base's layers with weights drawn from seed 0, and a tokenizer of generated notes with its vocabulary."""
    tokenizer = build_tokenizer(
        TokenizerSection(base="train", vocabulary_size=8192, num_clinical_tokens=0),
        _notes(400),
        clinical_words=frozenset(),
    )
    model = build_model(
        ModelSection(num_layers=num_layers),
        vocabulary_size=padded_vocabulary_size(tokenizer),
        special_ids=special_ids(tokenizer),
        seed=0,
    )
    root, folder = scratch / "store", scratch / "export"
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    store, artifact_id = open_store(str(root)), f"{MODEL}-000000000000"
    write_manifest(
        store,
        f"model/{artifact_id}",
        Manifest(
            kind="model",
            id=artifact_id,
            fingerprint="000000000000",
            format_version=2,
            recipe={},
            inputs=(),
            summary={},
            files=upload_folder(store, f"model/{artifact_id}", folder),
        ),
    )
    peer = folder / "model"
    width = model.config.hidden_size
    modules = [("0", "", "Transformer"), ("1", "1_Pooling", "Pooling"), ("2", "2_Normalize", "Normalize")]
    _write(
        peer / "modules.json",
        [
            {"idx": int(i), "name": i, "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, path, kind in modules
        ],
    )
    _write(peer / "1_Pooling" / "config.json", {"word_embedding_dimension": width, "pooling_mode_cls_token": True,
                                                "pooling_mode_mean_tokens": False})  # fmt: skip
    (peer / "2_Normalize").mkdir()
    _write(peer / "sentence_bert_config.json", {"max_seq_length": 8192, "do_lower_case": False})
    # The name of transformers 5 for the same class, which the transformers 4 of a peer does not know.
    settings = json.loads((peer / "tokenizer_config.json").read_text(encoding="utf-8"))
    _write(peer / "tokenizer_config.json", {**settings, "tokenizer_class": "PreTrainedTokenizerFast"})
    return Export(root=root, folder=peer)


def _write(path: Path, value: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def _notes(number: int) -> list[str]:
    source = SyntheticNoteSource(type="synthetic_notes", name="notes", num_documents=number)
    found = (record for unit in list_units(source) for record in read_unit(source, unit))
    return [record.text for record in found if isinstance(record, Document)]


def clinical_texts(export: Export, lengths: Sequence[int], *, seed: int) -> list[str]:
    """Return generated notes of about the given lengths in tokens, [CLS] and [SEP] included."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(export.folder))
    ids = tokenizer("\n".join(_notes(200)), add_special_tokens=False)["input_ids"]
    starts = np.random.default_rng(seed).integers(0, len(ids) - max(lengths), size=len(lengths))
    # Without blanks at the ends, which one of the peers would cut off.
    return [
        tokenizer.decode(ids[start : start + length - 2]).strip() for start, length in zip(starts, lengths, strict=True)
    ]


def mixed_lengths(number: int, *, seed: int) -> list[int]:
    """Return lengths of 10 to 2,000 tokens, log-normal around 90, the longest always among them."""
    drawn = np.random.default_rng(seed).lognormal(np.log(90), 0.9, size=number - 1)
    lengths = [*np.clip(drawn, 10, 2000).astype(int).tolist(), 2000]
    return [lengths[i] for i in np.random.default_rng(seed).permutation(number)]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A running endpoint."""

    name: str
    port: int
    path: str
    model: str
    process: "subprocess.Popen[bytes]" = field(repr=False)
    log: Path = field(repr=False)
    """What its processes print."""

    def ask(self, connection: http.client.HTTPConnection, texts: str | list[str]) -> tuple[int, bytes]:
        """Send one request and return status and body."""
        body = json.dumps({"model": self.model, "input": texts})
        connection.request("POST", self.path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()

    def connect(self) -> http.client.HTTPConnection:
        """Return a connection of one client."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)

    def vectors(self, texts: list[str]) -> NDArray[np.float32]:
        """Return the vectors of ``texts``, asked one by one."""
        connection, found = self.connect(), []
        for text in texts:
            status, body = self.ask(connection, text)
            if status != 200:
                raise AssertionError(f"{self.name} answered {status}: {body[:300]!r}")
            found.append(json.loads(body)["data"][0]["embedding"])
        return np.array(found, dtype=np.float32)

    def cpu_s(self) -> float:
        """CPU seconds of the endpoint's processes so far."""
        total = 0.0
        for process in processes_of(self.process):
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
        return total


def processes_of(process: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    """Return a process with all that came from it."""
    top = psutil.Process(process.pid)
    return [top, *top.children(recursive=True)]


def free_port() -> int:
    """Return a free port outside 10002-19999, where Ray's workers listen."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if not 10_000 <= port < 20_000:
            return port


@contextmanager
def ours(
    export: Export, *, server: str = "ray", environment: dict[str, str] | None = None, **settings: Any
) -> Iterator[Endpoint]:
    """Run our endpoint: ``server`` is ``ray`` or ``uvicorn``, ``settings`` are overrides of the recipe by dotted path."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.peers.our_server", server, str(export.root), str(port)]
    command += [f"{key}={json.dumps(value)}" for key, value in settings.items()]
    with _running(f"ours on {server}", command, port, environment or {}) as (process, folder):
        endpoint = Endpoint(f"ours on {server}", port, "/v1/embeddings", MODEL, process, folder / _LOG)
        _wait(endpoint)
        if server == "ray":  # one replica answers before the others are up
            _wait_until((folder / _DEPLOYED).is_file, process)
        yield endpoint


@contextmanager
def peer(export: Export, name: str) -> Iterator[Endpoint]:
    """Run one of ``PEERS`` at its documented settings for a CPU."""
    setup, port = PEERS[name], free_port()
    python = _venv(setup)
    with _running(name, setup.command(python, export.folder, port), port, {}) as (process, folder):
        endpoint = Endpoint(setup.title, port, setup.path, setup.model or str(export.folder), process, folder / _LOG)
        _wait(endpoint)
        yield endpoint


@dataclass(frozen=True, slots=True)
class Peer:
    """How a peer is installed and run."""

    title: str
    venv: str
    packages: tuple[tuple[str, ...], ...]
    """Arguments of pip, one call each."""
    command: Callable[[Path, Path, int], list[str]]
    path: str = "/v1/embeddings"
    model: str | None = None


def _infinity(python: Path, folder: Path, port: int) -> list[str]:
    options = [
        "--engine",
        "torch",
        "--device",
        "cpu",
        "--dtype",
        "float32",
        "--no-bettertransformer",
        "--url-prefix",
        "/v1",
    ]
    options += ["--batch-size", "32", "--served-model-name", MODEL, "--port", str(port), "--host", "127.0.0.1"]
    return [str(python.with_name("infinity_emb")), "v2", "--model-id", str(folder), *options]


_ST = ("torch==2.13.0", "sentence-transformers==6.2.0", "transformers==5.23.0", "ray[serve]==2.60.0", "uvicorn==0.54.0")
# ray-embedding asks for Python 3.12; its code runs on 3.11 as it is.
_RAY_EMBEDDING = ("--ignore-requires-python", "--no-deps", "ray-embedding==0.17.5")
PEERS = {
    "infinity": Peer("infinity-emb 0.0.78", "infinity", (("infinity-emb[torch,server]==0.0.78",),), _infinity, model=MODEL),
    "fastapi": Peer(
        "FastAPI + sentence-transformers 6.2.0",
        "st",
        (_ST, _RAY_EMBEDDING, ("nvidia-ml-py", "pynvml", "asyncssh")),
        lambda python, folder, port: [str(python), str(ROOT / "benchmarks/peers/st_server.py"), str(folder), str(port)],
        model=MODEL,
    ),
    "ray-embedding": Peer(
        "ray-embedding 0.17.5",
        "st",
        (_ST, _RAY_EMBEDDING, ("nvidia-ml-py", "pynvml", "asyncssh")),
        lambda python, folder, port: [
            str(python), str(ROOT / "benchmarks/peers/ray_embedding_server.py"), str(folder), str(port)
        ],
        path="/api/v1/embeddings",
        model=MODEL,
    ),
}  # fmt: skip


def _venv(setup: Peer) -> Path:
    folder = ROOT / "build" / "peers" / setup.venv
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        for arguments in setup.packages:
            subprocess.run([str(python), "-m", "pip", "install", "--quiet", *arguments], check=True)
    return python


@contextmanager
def _running(
    name: str, command: list[str], port: int, environment: dict[str, str]
) -> Iterator[tuple["subprocess.Popen[bytes]", Path]]:
    """Yield the server's process, and the folder of its log and of the file that ours on Ray makes once every replica is up."""
    # Ray's sockets need a short path.
    folder = Path(tempfile.mkdtemp(prefix="cm-", dir="/tmp"))
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "PYTHONPATH"))}
    threads = {
        "OMP_NUM_THREADS": str(NUM_THREADS),
        "MKL_NUM_THREADS": str(NUM_THREADS),
        "TOKENIZERS_PARALLELISM": "false",
    }
    quiet = {
        "HF_HUB_OFFLINE": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",  # as the peers that are no Ray workers run
        "DO_NOT_TRACK": "1",
        "BENCH_RAY_FOLDER": str(folder),
        "BENCH_DEPLOYED_FILE": str(folder / _DEPLOYED),
    }
    own = {"PYTHONPATH": f"{ROOT}:{ROOT / 'platform'}"} if command[0] == sys.executable else {}
    with (folder / _LOG).open("wb") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**inherited, **threads, **quiet, **own, **environment}, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield process, folder
        if process.poll() is not None:
            raise RuntimeError(f"{name} ended with {process.returncode}:\n{_tail(folder)}")
    except TimeoutError as error:
        raise RuntimeError(f"{name} {error}:\n{_tail(folder)}") from None
    finally:
        end(process)
        shutil.rmtree(folder, ignore_errors=True)


def _tail(folder: Path) -> str:
    return (folder / _LOG).read_text(errors="replace")[-3000:]


def end(process: "subprocess.Popen[bytes]") -> None:
    """End a server with all that it started: politely first, since Ray cleans up after itself then."""
    if process.poll() is not None:
        return
    family = processes_of(process)
    process.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(15)
    for one in family:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(family[1:], timeout=10)
    process.wait()


def _wait(endpoint: Endpoint) -> None:
    def answers() -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=60)
        with suppress(OSError, http.client.HTTPException):
            return endpoint.ask(connection, "ready?")[0] == 200
        return False

    _wait_until(answers, endpoint.process)


def _wait_until(holds: Callable[[], bool], process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        if holds():
            return
        time.sleep(0.5)
    raise TimeoutError(f"was not ready within {_START_S} s")
