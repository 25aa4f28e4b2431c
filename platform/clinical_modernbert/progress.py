"""Follow work that other processes do: a thread that looks at it at intervals, and a progress bar on top of it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

from clinical_modernbert.outages import Outage

_POLL_S = 1.0


@contextmanager
def polling(look: Callable[[], None], *, every_s: float) -> Iterator[None]:
    """Call ``look`` in a thread every ``every_s`` seconds until the block ends, and once more after it.

    A look that raises is tried again later, with a line in the log: the store may be away while the work continues.
    """
    stop, outage = threading.Event(), Outage("looking at the progress")

    def try_look() -> float:
        try:
            look()
        except Exception as error:  # noqa: BLE001  # looking must not end the work
            return max(outage.failed(error), every_s)
        outage.ended()
        return every_s

    def follow() -> None:
        pause_s = every_s
        while not stop.wait(pause_s):
            pause_s = try_look()
        try_look()

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
