"""Times of prediction in MEDS events: what was recorded until then as text, and when an event follows.

As in MEDS labels, a text has events up to and including its time of prediction, and what is predicted comes after it. The newest
events are first, because a text is cut at its end. MEDS states no time of storing: values count from when they were taken.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from clinical_modernbert.recipe.tasks import TimeToEventTask
from clinical_modernbert.sources.evaluation_sets.meds_sets import group_of_subject, read_subjects
from clinical_modernbert.sources.event_texts import event_words
from clinical_modernbert.sources.notes.meds import Event

_BIRTH, _DEATH = "MEDS_BIRTH", "MEDS_DEATH"
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Prediction:
    """A time of prediction of a subject."""

    id: str
    group: str
    text: str
    end: Literal["event", "death", "record", "before"]
    """What ends the follow-up: the event, the subject's death or the last record. ``before``: the event, the death or the last
    record was not after the time of prediction, so there is nothing to predict."""
    days: float
    """From the time of prediction to ``end``; 0 for ``before``."""


def read_predictions(path: Path, task: TimeToEventTask) -> Iterator[Prediction]:
    """Yield the times of prediction of a MEDS data set, subject by subject; ``SourceError`` for what is not MEDS."""
    for subject, events in read_subjects(path):
        yield from _of_subject(subject, events, task)


def _of_subject(subject: int, events: list[Event], task: TimeToEventTask) -> Iterator[Prediction]:
    static = [event for event in events if event.time is None]
    timed = sorted((event for event in events if event.time is not None), key=lambda event: event.time)
    times = [event.time for event in timed]
    happens = [event.time for event in timed if event.code.startswith(task.event)]
    death = next((event.time for event in timed if event.code.startswith(_DEATH)), None)
    starts = dict.fromkeys(event.time for event in timed if event.code.startswith(task.predict_at))
    for number, start in enumerate(starts):
        at = start + timedelta(hours=task.delay_hours)
        end, days = _end(start, at, happens, death, times[-1], task)
        text = "" if end == "before" else _text(static, timed[: bisect_right(times, at)], at, task)
        yield Prediction(f"{subject}-{number}", group_of_subject(subject), text, end, days)


def _end(
    start: datetime,
    at: datetime,
    happens: list[datetime],
    death: datetime | None,
    last: datetime,
    task: TimeToEventTask,
) -> tuple[Literal["event", "death", "record", "before"], float]:
    event = next((time for time in happens if time > start), None)
    complete = task.follow_up == "complete"
    if (event and event <= at) or (death and death <= at) or (last <= at and not complete):
        return "before", 0.0
    # What is recorded after a death, such as a bill, does not happen to the subject.
    if event and not (death and death < event):
        return "event", (event - at) / _DAY
    if death:
        return "death", (death - at) / _DAY
    days = (last - at) / _DAY
    return "record", max(days, task.horizon_days) if complete else days


def _text(static: list[Event], before: list[Event], at: datetime, task: TimeToEventTask) -> str:
    birth = next((event.time for event in before if event.code.startswith(_BIRTH)), None)
    hidden = (_BIRTH, _DEATH, *task.leave_out)
    earliest = None if task.history_days is None else at - timedelta(days=task.history_days)
    lines: list[str] = [f"age {_age(birth, at)}"] if birth else []
    lines += [event_words(*event[1:]) for event in static if not event.code.startswith(hidden)]
    last, count = None, 0
    for event in reversed(before):
        if count == task.max_events or (earliest and event.time < earliest):
            break
        if event.code.startswith(hidden):
            continue
        count += 1
        words = event_words(*event[1:])
        if event.time == last:
            lines[-1] += f"; {words}"
        else:
            lines.append(f"{_ago(at - event.time)}: {words}")
            last = event.time
    return "\n".join(lines) or "no events"


def _age(birth: datetime, at: datetime) -> int:
    return at.year - birth.year - ((at.month, at.day) < (birth.month, birth.day))


def _ago(before: timedelta) -> str:
    """Return how long before: in minutes, from an hour on in hours, from two days on in days."""
    if before < timedelta(hours=1):
        return f"{before // timedelta(minutes=1)} min before"
    if before < timedelta(days=2):
        return f"{before // timedelta(hours=1)} h before"
    return f"{before.days} days before"
