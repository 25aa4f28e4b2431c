"""A job as a researcher submits it: a real cluster started by ``ray start --head`` under token auth, followed to its end."""

import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from clinical_modernbert.artifacts import open_store, resolve

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SMALL = [
    "sources=[{type: synthetic_notes, name: notes, num_documents: 40}]",
    "tokenizer={base: train, vocabulary_size: 512}",
    "lexicon.code_tables=false",
]


@dataclass(frozen=True)
class TokenCluster:
    """A one-node cluster that refuses requests without its token."""

    address: str
    environment: dict[str, str]
    repository: Path

    def submit(self, *entrypoint: str) -> subprocess.CompletedProcess[str]:
        """Run ``ray job submit`` from the checkout and follow the job to its end."""
        command = ["ray", "job", "submit", "--address", self.address, "--working-dir", ".", "--", *entrypoint]
        return subprocess.run(
            command, cwd=self.repository, env=self.environment, capture_output=True, text=True, check=False, timeout=300
        )


def free_port() -> int:
    """Return a free port outside 10002-19999, where Ray's workers listen."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        if not 10_000 <= port < 20_000:
            return port


@pytest.fixture(scope="module")
def cluster(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenCluster]:
    folder = tmp_path_factory.mktemp("c")
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
    port = free_port()
    command = ["ray", "start", "--head", "--block", "--num-cpus", "2", "--object-store-memory", "500000000"]
    command += ["--port", str(free_port()), "--dashboard-port", str(port), "--ray-client-server-port", str(free_port())]
    command += ["--dashboard-agent-listen-port", str(free_port()), "--temp-dir", f"/tmp/cm-ray-{os.getpid()}"]
    with (folder / "start.log").open("w") as log:
        head = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 90
        while status_of(address + "/api/version") != 401:
            assert head.poll() is None and time.monotonic() < deadline, (folder / "start.log").read_text()
            time.sleep(0.5)
        yield TokenCluster(address=address, environment=environment, repository=repository)
    finally:
        # --block keeps every process of the cluster in one session; `ray stop` would end every other Ray of the machine.
        head.send_signal(signal.SIGTERM)
        try:
            head.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(head.pid, signal.SIGKILL)


def status_of(url: str) -> int | None:
    """Return the HTTP status of an anonymous request, or None while nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except (urllib.error.URLError, OSError):
        return None


def test_a_submitted_build_succeeds_and_leaves_its_artifact(cluster: TokenCluster, tmp_path: Path) -> None:
    overrides = [part for override in SMALL for part in ("--set", override)]
    done = cluster.submit("python", "jobs/build_corpus.py", "corpus/demo", *overrides, "--root", f"file://{tmp_path}")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert re.search(r"Job 'raysubmit_\w+' succeeded", done.stdout + done.stderr)
    corpus = resolve(open_store(str(tmp_path)), "corpus", "demo")
    assert corpus.summary["sources"]["notes"]["records"] == 40
    assert corpus.folder("tokenizer").is_dir()


def test_nothing_is_accepted_without_the_token(cluster: TokenCluster) -> None:
    assert status_of(f"{cluster.address}/api/jobs/") == 401
    assert status_of(f"{cluster.address}/nodes?view=summary") == 401


def test_a_relative_root_is_refused_since_the_job_would_take_it_along(cluster: TokenCluster) -> None:
    done = cluster.submit("python", "jobs/build_corpus.py", "corpus/demo")
    assert done.returncode != 0
    assert "a submitted job's working directory does not outlive it" in done.stdout + done.stderr


def test_an_unknown_key_ends_the_job_with_one_clear_message(cluster: TokenCluster, tmp_path: Path) -> None:
    done = cluster.submit(
        "python", "jobs/pretrain.py", "pretrain/demo", "--set", "optimizer.learning_rat=1", "--root", str(tmp_path)
    )
    output = done.stdout + done.stderr
    assert done.returncode != 0 and "exit code 2" in output
    assert "did you mean 'optimizer.learning_rate'?" in output
    assert "Traceback" not in output
