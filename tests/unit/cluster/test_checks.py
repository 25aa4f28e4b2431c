"""What `helm test` checks, against small HTTP servers with right and wrong answers; integration tests use a real token."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from clinical_modernbert.artifacts import open_store
from clinical_modernbert.cluster.checks import check_endpoint, check_explorer, check_model, check_store, check_token
from clinical_modernbert.errors import ClusterError

from tests.helpers.artifacts import publish_artifact

Answers = dict[str, tuple[int, object]]


@pytest.fixture
def serve() -> Iterator[Callable[[Answers], str]]:
    """Serve fixed answers by path; a path with `+token` answers requests that carry one."""
    servers = []

    def start(answers: Answers) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                known = self.path + ("+token" if "Authorization" in self.headers else "")
                code, body = answers.get(known, (404, {}))
                payload = json.dumps(body).encode()
                self.send_response(code)
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.do_GET()

            def log_message(self, *arguments: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_store_is_written_read_and_left_as_it_was(tmp_path: Path) -> None:
    assert "written, read, listed, deleted" in check_store(open_store(str(tmp_path)))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_cluster_that_needs_no_token_fails(serve: Callable[[Answers], str]) -> None:
    good = serve({"/api/jobs/": (401, {}), "/api/jobs/+token": (200, [])})

    assert "accepts them with it" in check_token(good, "token")
    assert "RAY_AUTH_TOKEN is not set" in check_token(good, None)
    with pytest.raises(ClusterError, match="answers 200 without a token"):
        check_token(serve({"/api/jobs/": (200, [])}), None)
    with pytest.raises(ClusterError, match="the Secret belongs to another cluster"):
        check_token(serve({"/api/jobs/": (401, {}), "/api/jobs/+token": (401, {})}), "token")


def test_endpoint_must_give_unit_vectors(serve: Callable[[Answers], str]) -> None:
    def endpoint(vector: list[float]) -> str:
        models = {"data": [{"id": "demo"}]}
        return serve(
            {
                "/health": (200, {}),
                "/v1/models": (200, models),
                "/v1/embeddings": (200, {"data": [{"embedding": vector}]}),
            }
        )

    assert "2 numbers of unit length" in check_endpoint(endpoint([0.6, 0.8]))
    assert "2 numbers of unit length" in check_endpoint(endpoint([0.6, 0.8]), model="demo")
    with pytest.raises(ClusterError, match="serves demo, and the values name 'later'"):
        check_endpoint(endpoint([0.6, 0.8]), model="later")
    with pytest.raises(ClusterError, match=r"length 5\.0000"):
        check_endpoint(endpoint([3, 4]))
    with pytest.raises(ClusterError, match="no replica is ready"):
        check_endpoint(serve({"/health": (503, {})}))


def test_an_endpoint_with_keys_is_asked_for_its_model_with_a_key(serve: Callable[[Answers], str]) -> None:
    closed: Answers = {"/health": (200, {}), "/v1/models": (401, {})}
    keyed: Answers = {
        "/v1/models+token": (200, {"data": [{"id": "demo"}]}),
        "/v1/embeddings+token": (200, {"data": [{"embedding": [0.6, 0.8]}]}),
    }

    assert "needs an API key" in check_endpoint(serve(closed), model="later")
    assert "2 numbers of unit length" in check_endpoint(serve(closed | keyed), model="demo", key="key")
    with pytest.raises(ClusterError, match="serves demo, and the values name 'later'"):
        check_endpoint(serve(closed | keyed), model="later", key="key")
    with pytest.raises(ClusterError, match=r"the key of explorer\.endpointKey is not one of"):
        check_endpoint(serve(closed | {"/v1/models+token": (401, {})}), key="key")
    with pytest.raises(ClusterError, match="v1/models answers 404"):
        check_endpoint(serve(closed), key="key")


def test_what_does_not_answer_is_named(serve: Callable[[Answers], str]) -> None:
    assert "ready" in check_explorer(serve({"/_stcore/health": (200, "ok")}))
    with pytest.raises(ClusterError, match=r"http://127\.0\.0\.1:9/_stcore/health does not answer"):
        check_explorer("http://127.0.0.1:9")


def test_an_endpoint_that_waits_for_its_model_says_which(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    with pytest.raises(ClusterError, match="the endpoint waits, and starts when its model is there: no model 'demo'"):
        check_model(store, "demo")
    publish_artifact(store, "model", "demo-1", tmp_path)

    assert "model/demo-1: finished" in check_model(store, "demo")


def test_the_check_goes_on_after_a_failure(repository: Path, tmp_path: Path) -> None:
    command = [sys.executable, "jobs/check_install.py", "--root", str(tmp_path), "--model", "demo"]
    done = subprocess.run(
        [*command, "--explorer", "http://127.0.0.1:9"],
        cwd=repository,
        env={"PYTHONPATH": str(repository / "platform")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["store file", "error", "error"]
