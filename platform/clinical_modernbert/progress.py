"""Progress bars for long steps that run in other processes: a thread polls their progress."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

_POLL_S = 1.0


@contextmanager
def watch(description: str, *, total: int, unit: str, done: Callable[[], int]) -> Iterator[None]:
    """Show a bar that follows ``done()`` until the block ends."""
    stop = threading.Event()

    def follow() -> None:
        with tqdm(
            total=total, desc=description, unit=unit, mininterval=_POLL_S, dynamic_ncols=True, disable=None
        ) as bar:
            while not stop.wait(_POLL_S):
                bar.update(max(done() - bar.n, 0))
            bar.update(max(done() - bar.n, 0))

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
