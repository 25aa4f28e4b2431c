"""A TCP proxy that breaks connections on request: what a network, a load balancer or a dying server does to a client.

A cut resets the connection, as a dead machine's does, or closes it, as a load balancer; connections that are only dropped are
closed.

Every fault is armed once and waits in the next connection until so many bytes have passed. Between faults the proxy only forwards
bytes.
"""

import queue
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Literal

Kind = Literal["cut_request", "cut_response", "stall", "unavailable", "slow"]
KINDS: tuple[Kind, ...] = ("cut_request", "cut_response", "stall", "unavailable", "slow")

_CHUNK_BYTES = 1 << 16
_RESETS = struct.pack("ii", 1, 0)
"""With it a socket sends RST when it is closed."""
_UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of one connection."""

    kind: Kind
    after_bytes: int = 0
    """Bytes that pass in the faulty direction before it strikes."""
    seconds: float = 0.0
    """Length of a stall, or of each pause of a slow answer."""
    is_closed: bool = False
    """Whether a cut closes the connection as after a whole answer, and does not reset it."""


class FaultProxy:
    """Forwards connections to ``target``; ``arm`` breaks the next one."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.struck: list[Fault] = []
        """Faults that a connection met, in order."""
        self.done: list[Fault] = []
        """Those of them that came to pass."""
        self.missed: list[Fault] = []
        """Those of them whose connection ended before so many bytes had passed."""
        self._armed: queue.SimpleQueue[Fault] = queue.SimpleQueue()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        """The port to connect to."""
        return int(self._listener.getsockname()[1])

    def arm(self, fault: Fault) -> None:
        """Break the next connection; open ones are dropped, so that the next request needs it."""
        self._armed.put(fault)
        self.drop_connections()

    def disarm(self) -> None:
        """Forget faults that no connection has met."""
        with suppress(queue.Empty):
            while True:
                self._armed.get_nowait()

    def drop_connections(self) -> None:
        """End every open connection."""
        for client in list(self._open):
            _end(client)

    def close(self) -> None:
        """Accept no more connections and end the open ones."""
        _end(self._listener)
        self.drop_connections()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self._open.add(client)
        fault: Fault | None = None
        done: list[Fault] = []
        try:
            first = client.recv(_CHUNK_BYTES)
            if not first:
                return
            fault = self._next_fault()
            if fault and fault.kind == "unavailable":
                self._note(fault, done)
                client.sendall(_UNAVAILABLE)
                return
            with socket.create_connection(self.target, timeout=10) as server:
                server.settimeout(None)
                strike = None if fault is None else (fault, lambda: self._note(fault, done))
                upward = strike if fault and fault.kind == "cut_request" else None
                downward = strike if fault and fault.kind != "cut_request" else None
                threading.Thread(target=_pump, args=(server, client, downward), daemon=True).start()
                _pump(client, server, upward, first=first)
        except OSError:
            pass
        finally:
            self._open.discard(client)
            _end(client)
            if fault and not done:
                self.missed.append(fault)

    def _note(self, fault: Fault, done: list[Fault]) -> None:
        done.append(fault)
        self.done.append(fault)

    def _next_fault(self) -> Fault | None:
        try:
            fault = self._armed.get_nowait()
        except queue.Empty:
            return None
        self.struck.append(fault)
        return fault


def _pump(
    source: socket.socket, target: socket.socket, strike: tuple[Fault, Callable[[], None]] | None, *, first: bytes = b""
) -> None:
    """Forward bytes until one side ends; with a fault, forward ``after_bytes`` of them, note it and let it come to pass."""
    passed, data = 0, first
    fault, note = strike or (None, None)
    with suppress(OSError):
        while data or (data := source.recv(_CHUNK_BYTES)):
            if fault and passed + len(data) > fault.after_bytes:
                if note:
                    note()
                    note = None
                target.sendall(data[: fault.after_bytes - passed])
                data = data[fault.after_bytes - passed :]
                if fault.kind.startswith("cut"):
                    for one in () if fault.is_closed else (source, target):
                        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESETS)
                    break
                time.sleep(fault.seconds)
                fault = None if fault.kind == "stall" else Fault("slow", _CHUNK_BYTES, fault.seconds)
                passed = -len(data)
            target.sendall(data)
            passed, data = passed + len(data), b""
    _end(source)
    _end(target)


def _end(one: socket.socket) -> None:
    with suppress(OSError):
        is_cut = one.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, len(_RESETS)) == _RESETS
        # Wakes the thread that reads from it, which a close alone does not; to shut down the other way would say a polite end.
        one.shutdown(socket.SHUT_RD if is_cut else socket.SHUT_RDWR)
    with suppress(OSError):
        one.close()


@contextmanager
def running_fault_proxy(host: str, port: int) -> Iterator[FaultProxy]:
    """A proxy to ``host:port`` for the length of the block."""
    proxy = FaultProxy((host, port))
    try:
        yield proxy
    finally:
        proxy.close()
