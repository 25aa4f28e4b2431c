"""Short-lived keys of a workload's identity, from a small server that is both STS and S3."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from clinical_modernbert.artifacts import open_store

ANSWER = """<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>short</AccessKeyId><SecretAccessKey>secret</SecretAccessKey>
<SessionToken>session</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>
</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"""


@dataclass
class Seen:
    """What the server was sent."""

    exchanged: list[dict[str, list[str]]] = field(default_factory=list)
    signed: list[tuple[str, str]] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[tuple[str, Seen]]:
    seen = Seen()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            seen.exchanged.append(parse_qs(urlsplit(self.path).query or body))
            self._answer(ANSWER.encode())

        def do_HEAD(self) -> None:
            key = self.headers["Authorization"].partition("Credential=")[2].partition("/")[0]
            seen.signed.append((key, self.headers["x-amz-security-token"]))
            self._answer(b"")

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}", seen
    running.shutdown()
    running.server_close()


def test_a_token_of_the_pod_is_exchanged_for_keys(
    server: tuple[str, Seen], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, seen = server
    (tmp_path / "token").write_text("header.payload.signature")
    for name in (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    ):
        monkeypatch.delenv(name, raising=False)
    variables = {
        "S3_ENDPOINT_URL": url,
        "AWS_ENDPOINT_URL_STS": url,
        "AWS_ROLE_ARN": "arn:aws:iam::1:role/trainer",
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token"),
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    open_store("s3://bucket/prefix")

    assert seen.signed == [("short", "session")]
    assert seen.exchanged[0]["WebIdentityToken"] == ["header.payload.signature"]
    assert seen.exchanged[0]["RoleArn"] == ["arn:aws:iam::1:role/trainer"]

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "static")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    open_store("s3://bucket/prefix")
    assert seen.signed[1] == ("static", None), "keys of the environment take precedence"
