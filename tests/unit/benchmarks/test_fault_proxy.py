"""The proxy before the store counts a fault once it has come to pass."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from benchmarks.kits.fault_proxy import Fault, FaultProxy, Kind, running_fault_proxy


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    """A proxy before a server that sends back what it gets."""

    def answer(one: socket.socket) -> None:
        with one, suppress(ConnectionResetError):
            while data := one.recv(1 << 16):
                one.sendall(data)

    def serve() -> None:
        while True:
            try:
                threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        with running_fault_proxy(*listener.getsockname()) as proxy:
            yield proxy


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def sent(proxy: FaultProxy, number: int) -> bytes:
    """Return what comes back of ``number`` bytes until the connection is closed."""
    found = b""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as one:
        one.sendall(b"x" * number)
        while len(found) < number and (data := one.recv(1 << 16)):
            found += data
    return found


def test_a_fault_counts_once_so_many_bytes_have_passed(proxy: FaultProxy) -> None:
    fault = Fault("cut_response", after_bytes=100)
    proxy.arm(fault)
    assert len(sent(proxy, 50)) == 50
    until(lambda: proxy.missed == [fault])
    assert proxy.done == []

    proxy.arm(fault)
    with pytest.raises(ConnectionResetError):
        sent(proxy, 150)
    assert proxy.done == [fault] and proxy.struck == [fault, fault]


@pytest.mark.parametrize("kind", ["cut_request", "cut_response"])
def test_a_cut_resets_the_connection_after_so_many_bytes(proxy: FaultProxy, kind: Kind) -> None:
    proxy.arm(Fault(kind, after_bytes=100))
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as one:
        one.sendall(b"x" * 150)
        found = 0
        with pytest.raises(ConnectionResetError):
            while data := one.recv(1 << 16):
                found += len(data)
    assert found == 100 if kind == "cut_response" else found <= 100


def test_a_dropped_connection_ends_politely(proxy: FaultProxy) -> None:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as one:
        one.sendall(b"x" * 50)
        assert one.recv(1 << 16)
        proxy.drop_connections()
        assert one.recv(1 << 16) == b""


def test_a_fault_that_no_connection_met_can_be_taken_back(proxy: FaultProxy) -> None:
    proxy.arm(Fault("unavailable"))
    proxy.disarm()
    assert len(sent(proxy, 50)) == 50
    assert proxy.struck == proxy.done == []
