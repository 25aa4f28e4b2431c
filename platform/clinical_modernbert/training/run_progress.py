"""The progress of a running job in the store: a small head, ``progress.json``, and the curve in segments of 500 points.

A long run has tens of thousands of points. Written whole after each of them they would be tens of gigabytes in all, so only the
segments that changed are written: the newest one, or, after a rollback, those from the point on to which the run returned. The
head is written last and says how many points count. With 3 points a segment, a rollback to the second of five points:

    before   progress-000000 [a b c]  progress-000001 [d e]   head: 5 points, version w-0
    after    progress-000000 [a b r]  progress-000001 [d e]   head: 3 points, version w-1    r: the rollback

A reader keeps full segments while the head's version stays. Loads no torch: the explorer reads runs too.
"""

import threading
import uuid
from dataclasses import dataclass

from clinical_modernbert.outages import Outage
from clinical_modernbert.training.records import PROGRESS_NAME, Records
from clinical_modernbert.training.state import History, JsonObject, history_from_json, history_to_json

SEGMENT_POINTS = 500


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a running job has come; no steps before its first record and after its end."""

    step: int = 0
    """Steps done."""
    num_steps: int = 0
    """Steps of the whole run."""
    history: History = ()


class ProgressReader:
    """Reads the progress of one run again and again; a full segment is fetched once."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._version = ""
        self._full: list[JsonObject] = []

    def read(self) -> Progress:
        """Return how far the run has come."""
        values = self.read_json()
        return Progress(values["step"], values["num_steps"], history_from_json(values["history"]))

    def read_json(self) -> JsonObject:
        """Return ``step``, ``num_steps`` and the points of ``history`` as plain objects."""
        head = self._records.read(PROGRESS_NAME)
        if head is None:
            return {"step": 0, "num_steps": 0, "history": []}
        if head["version"] != self._version:
            self._version, self._full = head["version"], []
        points = list(self._full)
        while len(points) < head["points"]:
            segment = self._records.read(_segment_name(len(points) // SEGMENT_POINTS))
            if segment is None:
                break
            points += segment["points"]
            if len(segment["points"]) < SEGMENT_POINTS:
                break
            self._full += segment["points"]
        return {"step": head["step"], "num_steps": head["num_steps"], "history": points[: head["points"]]}


class ProgressWriter:
    """Writes the progress of a run in a thread, so that no step waits for the store. ``close`` writes the newest.

    A write that fails is tried again with what is newest then.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._written: History = ()
        # Another process writes other points for the same steps: their speeds differ.
        self._writer, self._num_rewrites = uuid.uuid4().hex[:8], 0
        self._newest: Progress | None = None
        self._changed, self._closed = threading.Condition(), False
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def write(self, progress: Progress) -> None:
        """Set how far the run has come; the store has it soon after."""
        with self._changed:
            self._newest = progress
            self._changed.notify()

    def close(self) -> None:
        """Try once more to write the newest progress, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _follow(self) -> None:
        outage, pause_s = Outage("writing the progress"), 0.0
        while True:
            with self._changed:
                if pause_s:
                    self._changed.wait_for(lambda: self._closed, timeout=pause_s)
                else:
                    self._changed.wait_for(lambda: self._closed or self._newest is not None)
                progress, self._newest = self._newest, None
                last = self._closed
            pause_s = 0.0
            if progress is not None:
                pause_s = self._try_write(progress, outage)
            if last:
                return

    def _try_write(self, progress: Progress, outage: Outage) -> float:
        """Write; return the seconds to wait before the next try, 0 after a success."""
        try:
            self._write(progress)
        except Exception as error:  # noqa: BLE001  # the curve is also in each checkpoint, and the next write has it whole
            with self._changed:
                self._newest = self._newest or progress
            return outage.failed(error)
        outage.ended()
        return 0.0

    def _write(self, progress: Progress) -> None:
        # 1. A curve only grows, except after a rollback: then its points from there on are other objects.
        history, pairs = progress.history, enumerate(zip(self._written, progress.history, strict=False))
        num_shared = next(
            (n for n, (ours, theirs) in pairs if ours is not theirs), min(len(self._written), len(history))
        )
        first = num_shared // SEGMENT_POINTS
        if first < len(self._written) // SEGMENT_POINTS:
            self._num_rewrites += 1  # a segment that was full changes
        # 2. Write the segments from the first change on, then the head, which makes them count.
        for number in range(first, -(-len(history) // SEGMENT_POINTS)):
            points = history[number * SEGMENT_POINTS : (number + 1) * SEGMENT_POINTS]
            self._records.write(_segment_name(number), {"points": history_to_json(points)})
        head = {
            "step": progress.step,
            "num_steps": progress.num_steps,
            "points": len(history),
            "version": f"{self._writer}-{self._num_rewrites}",
        }
        self._records.write(PROGRESS_NAME, head)
        self._written = history


def _segment_name(number: int) -> str:
    return f"progress-{number:06d}.json"
