"""The client: it loads no model library, and waits as a refusal says."""

import base64
import contextlib
import json
import random
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
from clinical_modernbert.serving.client import Client, EndpointError


def test_the_client_loads_neither_torch_nor_ray_nor_a_server() -> None:
    code = (
        "import sys, clinical_modernbert.serving.client; "
        "print([m for m in ('torch', 'ray', 'transformers', 'fastapi') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_endpoint_s_own_time_limit_is_not_tried_again() -> None:
    class Slow(BaseHTTPRequestHandler):
        num = 0

        def do_GET(self) -> None:
            Slow.num += 1
            body = b'{"error": {"code": "request_timeout", "message": "not answered"}}'
            self.send_response(504)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Slow) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(EndpointError, match="not answered") as refused:
            Client(f"http://127.0.0.1:{server.server_address[1]}").info()
        server.shutdown()
    assert (Slow.num, refused.value.code) == (1, "request_timeout")


def test_a_connection_that_is_not_accepted_ends_before_the_time_of_an_answer() -> None:
    with socket.socket() as server, contextlib.ExitStack() as others:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(2):  # they fill the queue: the system drops what comes next
            other = others.enter_context(socket.socket())
            other.setblocking(False)
            other.connect_ex(server.getsockname())
        client = Client(f"http://127.0.0.1:{server.getsockname()[1]}", connect_timeout_s=0.2, max_attempts=1)
        began = time.monotonic()
        with pytest.raises(EndpointError, match="TimeoutError while connecting"):
            client.info()
    assert time.monotonic() - began < 5
    assert client.attempts.first_failures == {"TimeoutError while connecting": 1}


def test_an_answer_whose_headers_were_cut_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    whole = b'HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{"model": "one"}'
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            for content in (whole[:15], whole[:-1], whole):
                one, _ = server.accept()
                with one:
                    one.recv(1 << 16)
                    one.sendall(content)

        threading.Thread(target=answer, daemon=True).start()
        client = Client(f"http://127.0.0.1:{server.getsockname()[1]}")
        assert client.info() == {"model": "one"}
    assert client.attempts.first_failures == {"IncompleteRead while waiting for an answer": 1}


def test_it_outlasts_the_start_of_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """``make drill ROW=proxy-kill``: no connection is accepted for half a minute."""
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    with pytest.raises(EndpointError, match="ConnectionRefusedError while connecting"):
        Client("http://127.0.0.1:9").info()
    assert 80 < sum(waits) < 150
    assert max(waits) <= 12  # it tries often enough to meet an endpoint that is back for half a minute


def test_it_waits_as_long_as_a_refusal_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)

    class Refusing(BaseHTTPRequestHandler):
        num = 0

        def do_GET(self) -> None:
            Refusing.num += 1
            self.send_response(429 if Refusing.num == 1 else 200)
            self.send_header("retry-after", "2")  # in lower case, as the endpoint sends it
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *args: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert Client(f"http://127.0.0.1:{server.server_address[1]}").info() == {}
        server.shutdown()
    assert len(waits) == 1
    assert 2 <= waits[0] <= 3


@pytest.mark.parametrize(
    ("output_dtype", "dtype"), [("float16", "<f2"), ("int8", "i1"), ("binary", "u1"), (None, "<f4")]
)
def test_vectors_have_the_type_that_was_asked_for(output_dtype: str | None, dtype: str) -> None:
    expected = np.arange(8).reshape(2, 4).astype(dtype)

    class Answering(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            assert (asked["output_dtype"], asked["encoding_format"]) == (output_dtype, "base64")
            items = [{"embedding": base64.b64encode(row.tobytes()).decode()} for row in expected]
            body = json.dumps({"data": items}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        client = Client(f"http://127.0.0.1:{server.server_address[1]}")
        vectors = client.embed(["a", "b"], model="one", output_dtype=output_dtype)
        server.shutdown()
    assert vectors.dtype == expected.dtype
    assert vectors.tolist() == expected.tolist()


def test_what_has_no_array_of_vectors_is_refused_before_a_request() -> None:
    client = Client("http://127.0.0.1:9")
    with pytest.raises(ValueError, match="texts must be a list of texts"):
        client.embed("chest pain", model="one")
    with pytest.raises(ValueError, match="leave empty texts out"):
        client.embed(["chest pain", ""], model="one", empty="null")
    assert client.attempts.num_requests == 0


def test_clients_that_wait_for_the_longest_pause_do_not_come_back_together(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    monkeypatch.setattr(Client, "_send", lambda *_: (429, "30", b"{}"))
    random.seed(1)
    with pytest.raises(EndpointError):
        Client("http://127.0.0.1:9", max_attempts=5).info()
    assert len(set(waits)) == 4 and min(waits) >= 30 and max(waits) <= 45
