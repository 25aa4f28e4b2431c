"""One thread that runs jobs in their order of arrival, and knows for how long its current job has run.

A thread cannot be cancelled. Work is therefore given to it in short jobs: a request that is over gives no further job, and jobs
of other requests run in between.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class Worker:
    """The thread."""

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._started: float | None = None

    async def run(self, job: Callable[[], T]) -> T:
        """Return what ``job`` returns in the thread."""

        def timed() -> T:
            self._started = time.monotonic()
            try:
                return job()
            finally:
                self._started = None

        return await asyncio.get_running_loop().run_in_executor(self._executor, timed)

    @property
    def seconds_in_job(self) -> float:
        """How long the current job has run; 0 if the thread is idle."""
        started = self._started
        return 0.0 if started is None else time.monotonic() - started

    def close(self) -> None:
        """Stop the thread after its current job."""
        self._executor.shutdown(wait=False, cancel_futures=True)
