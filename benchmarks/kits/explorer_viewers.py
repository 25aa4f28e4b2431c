"""Viewers of the explorer without a browser: sessions over Streamlit's WebSocket that open page after page."""

import random
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from benchmarks.kits.endpoints import end, free_port
from benchmarks.kits.tests import REPOSITORY

PAGES = ("", "compare", "embeddings", "try", "evaluation", "corpus", "lineage")
_START_S, _PAGE_S = 180, 180
_MOST_BYTES = 1 << 28


@dataclass(slots=True)
class Viewers:
    """What the viewers have seen."""

    url: str
    pages: int = 0
    errors: list[str] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def view(self, seed: int) -> None:
        """Open sessions until stopped; each opens up to ten pages."""
        rng = random.Random(seed)
        while not self.stopped.is_set():
            try:
                self._session(rng)
            except (OSError, WebSocketException) as error:
                self.errors.append(type(error).__name__)

    def _session(self, rng: random.Random) -> None:
        with _connected(self.url) as session:
            for _ in range(rng.randint(1, 10)):
                if self.stopped.wait(rng.uniform(0.5, 3)):
                    return
                self.errors += _open(session, rng.choice(PAGES)).errors
                self.pages += 1


@dataclass(frozen=True, slots=True)
class Opened:
    """What a page has sent until its script ended."""

    size_bytes: int
    errors: list[str]


def visit(url: str, page: str = "") -> Opened:
    """Open one page in a session of its own, and leave."""
    with _connected(url) as session:
        return _open(session, page)


def _connected(url: str) -> ClientConnection:
    return connect(f"ws{url.removeprefix('http')}/_stcore/stream", max_size=_MOST_BYTES, open_timeout=_PAGE_S)


def _open(session: ClientConnection, page: str) -> Opened:
    message = BackMsg()
    message.rerun_script.page_name = page
    session.send(message.SerializeToString())
    size, errors, deadline = 0, list[str](), time.monotonic() + _PAGE_S
    while True:
        content = session.recv(timeout=max(0.1, deadline - time.monotonic()))
        size += len(content)
        answer = ForwardMsg()
        answer.ParseFromString(content)
        if answer.delta.new_element.HasField("exception"):
            errors.append(f"{page}: {answer.delta.new_element.exception.type}")
        if answer.WhichOneof("type") == "script_finished":
            return Opened(size, errors)


@contextmanager
def running_explorer(store: str, log: Path) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """Start the explorer of ``store`` by the documented command; return its address and its process."""
    port = free_port()
    command = [sys.executable, "-m", "streamlit", "run", "dashboards/explorer.py", f"--server.port={port}"]
    command += ["--server.address=127.0.0.1", "--server.headless=true", "--server.fileWatcherType=none"]
    with log.open("wb") as out:
        process = subprocess.Popen([*command, "--", "--root", store], cwd=REPOSITORY, stdout=out, stderr=out)
    url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + _START_S
    try:
        while True:
            with suppress(OSError, urllib.error.URLError), urllib.request.urlopen(f"{url}/_stcore/health", timeout=5):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the explorer did not start:\n{log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.2)
        yield url, process
    finally:
        end(process)
