"""Give memory that a replica has freed back to the system.

A batch is freed in pieces of all sizes, from several threads. glibc keeps a piece unless it lies at the end of its thread's heap,
so a replica under a steady load grew in steps of 50 MB. Fewer heaps (``MALLOC_ARENA_MAX``) and a fixed limit for pieces that are
mapped on their own (``MALLOC_MMAP_THRESHOLD_``) did not change that.
What a replica uses still follows the size of its batches (docs/reliability.md, ``soak``).
"""

import ctypes
import threading

EVERY_S = 30.0


class FreeMemory:
    """A thread that gives free memory back every ``every_s`` seconds until ``close``; none where the C library cannot."""

    def __init__(self, every_s: float = EVERY_S) -> None:
        self._every_s, self._closed = every_s, threading.Event()
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it; musl and macOS do not
        if self._trim:
            threading.Thread(target=self._give_back, name="free-memory", daemon=True).start()

    def close(self) -> None:
        """End the thread."""
        self._closed.set()

    def _give_back(self) -> None:
        assert self._trim
        while not self._closed.wait(self._every_s):
            self._trim(0)  # without the GIL; 40 ms for 500 MB, less than 1 ms where nothing is free
