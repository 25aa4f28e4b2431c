"""Follow work that other processes do: a thread that looks at it at intervals, and a progress bar on top of it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

_POLL_S = 1.0


@contextmanager
def polling(look: Callable[[], None], *, every_s: float) -> Iterator[None]:
    """Call ``look`` in a thread every ``every_s`` seconds until the block ends, and once more after it."""
    stop = threading.Event()

    def follow() -> None:
        while not stop.wait(every_s):
            look()
        look()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def watch(description: str, *, total: int, unit: str, done: Callable[[], int]) -> Iterator[None]:
    """Show a bar that follows ``done()`` until the block ends."""
    bar = tqdm(total=total, desc=description, unit=unit, mininterval=_POLL_S, dynamic_ncols=True, disable=None)

    def look() -> None:
        bar.update(max(done() - bar.n, 0))

    with bar, polling(look, every_s=_POLL_S):
        yield
