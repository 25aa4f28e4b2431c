"""Request a run to stop: a key in the store that any process can write and the first worker looks for between steps.

A signal would not reach workers on other machines, or a worker that trains in a thread.
"""

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from clinical_modernbert.artifacts import Store, join_key
from clinical_modernbert.artifacts.layout import work_prefix
from clinical_modernbert.errors import StoreError
from clinical_modernbert.outages import Outage, patiently

POLL_S = 1.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_logger = logging.getLogger(__name__)


def stop_key(run_id: str) -> str:
    """Return the key whose presence requests the run to keep its state and end."""
    return join_key(work_prefix("model", run_id), "stop")


class StopRequest:
    """Whether the run was requested to stop; a thread looks it up once a second.

    A store that is away does not end the training: the look-up is tried again.
    """

    def __init__(self, store: Store, run_id: str) -> None:
        self._store, self._key = store, stop_key(run_id)
        self._seen, self._closed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        outage, pause_s = Outage("looking for a request to stop"), 0.0
        while not self._closed.wait(pause_s):
            try:
                self._store.read_bytes(self._key)
            except KeyError:
                outage.ended()
                pause_s = POLL_S
            except Exception as error:  # noqa: BLE001  # a look-up must not end the training
                pause_s = outage.failed(error)
            else:
                self._seen.set()
                return

    def __bool__(self) -> bool:
        return self._seen.is_set()

    def close(self) -> None:
        """End the look-ups."""
        self._closed.set()
        self._thread.join()


@contextmanager
def stop_on_signal(store: Store, run_id: str) -> Iterator[None]:
    """Turn this process's first SIGTERM or SIGINT (Ctrl-C) into a stop request; the former handlers take a second one.

    Python delivers signals to the main thread only. In another thread (a trial of a sweep) this changes nothing.
    """
    store.delete(stop_key(run_id))
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = {number: signal.getsignal(number) for number in _SIGNALS}

    def restore() -> None:
        for number, handler in former.items():
            signal.signal(number, handler)

    def write_request() -> None:
        patiently(lambda: store.write_bytes(stop_key(run_id), b""), work="writing the request to stop")

    def request_stop(number: int, frame: FrameType | None) -> None:
        restore()
        _logger.warning(
            "%s: %s keeps its state after the current step and ends; a second one ends it at once",
            signal.Signals(number).name,
            run_id,
        )
        # Not in the handler itself: this thread may be inside a call of the store's client.
        threading.Thread(target=write_request, daemon=True).start()

    for number in _SIGNALS:
        signal.signal(number, request_stop)
    try:
        yield
    finally:
        restore()
        try:
            store.delete(stop_key(run_id))
        except StoreError as error:
            # The next launch deletes it too. Raised here, it would hide why the run ended.
            _logger.warning("the request to stop was not deleted: %s", error)
