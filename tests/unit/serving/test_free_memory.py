"""Memory that a process has freed goes back to the system, although a piece in use lies above it."""

import ctypes
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from clinical_modernbert.serving.free_memory import FreeMemory

_PIECE, _PIECES = 64 << 10, 3200  # 200 MB; below the size from which glibc maps a piece on its own

libc: Any = ctypes.CDLL(None)
pytestmark = pytest.mark.skipif(not hasattr(libc, "malloc_trim"), reason="the C library has no malloc_trim")


def used() -> int:
    return int(psutil.Process().memory_info().rss)


def wait_until(is_so: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.02)
    return is_so()


def test_memory_below_a_piece_in_use_is_given_back() -> None:
    libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = (
        ctypes.c_void_p,
        [ctypes.c_size_t],
        [ctypes.c_void_p],
    )
    pieces = [libc.malloc(_PIECE) for _ in range(_PIECES)]
    for piece in pieces:
        ctypes.memset(piece, 1, _PIECE)
    full = used()
    for number, piece in enumerate(pieces):
        if number % 50:
            libc.free(piece)
    assert full - used() < 20 << 20, "freed memory went back by itself: the test shows nothing"

    keeper = FreeMemory(every_s=0.05)
    try:
        assert wait_until(lambda: full - used() > 150 << 20)
    finally:
        keeper.close()
        for piece in pieces[::50]:
            libc.free(piece)


def test_its_thread_ends() -> None:
    keeper = FreeMemory(every_s=0.01)
    assert "free-memory" in {thread.name for thread in threading.enumerate()}
    keeper.close()
    assert wait_until(lambda: "free-memory" not in {thread.name for thread in threading.enumerate()})
