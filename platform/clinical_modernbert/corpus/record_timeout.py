"""A time-out for records: if one hangs a reader or a rule, the build ends and names its place.

The signal of a timer is handled between two steps of Python's main thread, in which Ray runs tasks. So a record that hangs within
one call of a C library is not ended.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from clinical_modernbert.errors import SourceError
from clinical_modernbert.sources.document import Unit
from clinical_modernbert.sources.files import Progress

TIMEOUT_S = 300.0
"""A record ends the build after one to two times as long: the largest that a corpus takes are read in seconds."""


@dataclass(slots=True)
class RecordCount:
    """What the reading loop has seen so far; the loop sets it."""

    number: int = 0
    """Of records."""
    has_document: bool = False


@contextmanager
def record_timeout(
    unit: Unit, progress: Progress, *, reads_ahead: bool, seconds: float = TIMEOUT_S
) -> Iterator[RecordCount]:
    """Raise ``SourceError`` in the block where for ``seconds`` no record is counted and the reader takes no bytes.

    ``reads_ahead`` is for sources that fetch or sort whole tables before the first document: the time before it has no limit.
    Records that a rule drops say nothing: events of FHIR are dropped while the tables are read, hours before they are sorted.
    """
    count, seen = RecordCount(), (-1, 0)

    def look(signal_number: int, frame: FrameType | None) -> None:
        nonlocal seen
        before, seen = seen, (count.number, progress.given_bytes + progress.other_bytes)
        if seen != before or (reads_ahead and not count.has_document):
            return
        place = f" ({Path(frame.f_code.co_filename).name}, line {frame.f_lineno})" if frame else ""
        raise SourceError(
            f"{unit.source}/{unit.name}: the record after record {count.number} was not read within {seconds:g} s{place}; "
            "leave the file out and report it"
        )

    earlier = signal.signal(signal.SIGALRM, look)
    # A process has one such timer; the one of pytest-timeout, for example, continues afterwards.
    earlier_timer = signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
    try:
        yield count
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier)
        signal.setitimer(signal.ITIMER_REAL, *earlier_timer)
