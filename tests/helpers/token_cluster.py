"""A one-node Ray cluster with token authentication, started by ``ray start --head``."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest


@dataclass(frozen=True)
class TokenCluster:
    """A one-node cluster that refuses requests without its token."""

    address: str
    environment: dict[str, str]
    repository: Path
    folder: Path
    """Ray's folder of this cluster."""

    def submit(self, *entrypoint: str) -> subprocess.CompletedProcess[str]:
        """Run ``ray job submit`` from the checkout and follow the job to its end."""
        command = ["ray", "job", "submit", "--address", self.address, "--working-dir", ".", "--", *entrypoint]
        return subprocess.run(
            command, cwd=self.repository, env=self.environment, capture_output=True, text=True, check=False, timeout=300
        )


@pytest.fixture(scope="module")
def cluster(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenCluster]:
    """A running cluster for the tests of one module."""
    with running_token_cluster(repository, tmp_path_factory.mktemp("c")) as cluster:
        yield cluster


@contextmanager
def running_token_cluster(repository: Path, folder: Path) -> Iterator[TokenCluster]:
    """Start a cluster that keeps its token and its log in ``folder``, for the length of the block."""
    ray_folder = Path(f"/tmp/cm-ray-{os.getpid()}")  # short: the paths of Ray's sockets must fit 107 characters
    token = folder / "token"
    token.write_text(secrets.token_hex(32))
    environment = {
        **{n: value for n, value in os.environ.items() if not n.startswith("RAY_") and n != "ARTIFACT_ROOT"},
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "HF_HUB_OFFLINE": "1",
    }
    port = _free_port()
    command = ["ray", "start", "--head", "--block", "--num-cpus", "2", "--object-store-memory", "500000000"]
    command += [
        "--port",
        str(_free_port()),
        "--dashboard-port",
        str(port),
        "--ray-client-server-port",
        str(_free_port()),
    ]
    command += ["--dashboard-agent-listen-port", str(_free_port()), "--temp-dir", str(ray_folder)]
    with (folder / "start.log").open("w") as log:
        head = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 90
        while status_of(address + "/api/version") != 401:
            assert head.poll() is None and time.monotonic() < deadline, (folder / "start.log").read_text()
            time.sleep(0.5)
        yield TokenCluster(address=address, environment=environment, repository=repository, folder=ray_folder)
    finally:
        # Killed, because a normal shutdown takes half a minute and `ray stop` would end every other Ray of the machine.
        processes = [head, *psutil.Process(head.pid).children(recursive=True)] if head.poll() is None else []
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes[1:], timeout=10)
        head.wait()
        shutil.rmtree(ray_folder, ignore_errors=True)


def status_of(url: str) -> int | None:
    """Return the HTTP status of an anonymous request, or None if there is no answer."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except (urllib.error.URLError, OSError):
        return None


def _free_port() -> int:
    """Return a free port outside 10002-19999, where Ray's workers listen."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        if not 10_000 <= port < 20_000:
            return port
