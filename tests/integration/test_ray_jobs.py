"""Following a job of a Ray cluster whose head ends: the answers are those of a small server, so no Ray starts."""

import asyncio
import threading
from collections.abc import Iterator

import pytest
from aiohttp import web
from clinical_modernbert.cluster.command import main


@pytest.fixture
def address() -> Iterator[str]:
    """A head that shows a line of the log and then loses all connections."""

    async def version(request: web.Request) -> web.Response:
        return web.json_response({"version": "4", "ray_version": "2.60.0", "ray_commit": "", "session_name": ""})

    async def tail(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str("step 1\n")
        assert request.transport is not None
        request.transport.abort()
        return socket

    application = web.Application()
    application.add_routes([web.get("/api/version", version), web.get("/api/jobs/{id}/logs/tail", tail)])
    runner, loop, ports = web.AppRunner(application), asyncio.new_event_loop(), []

    async def start() -> None:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        ports.append(runner.addresses[0][1])

    loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield f"http://127.0.0.1:{ports[0]}"
    asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


def test_a_head_that_is_lost_is_one_message_and_exit_code_3(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["follow", "raysubmit_1", "--address", address])
    shown = capsys.readouterr()
    assert ended.value.code == 3 and shown.out == "step 1\n"
    assert f"error: following raysubmit_1: the connection to {address} was lost" in shown.err
    assert "Traceback" not in shown.err


def test_a_cluster_that_does_not_answer_is_one_message_and_exit_code_3(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["follow", "raysubmit_1", "--address", "http://127.0.0.1:9"])
    assert ended.value.code == 3 and "does not answer" in capsys.readouterr().err
