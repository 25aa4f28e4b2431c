"""Emergency stays from MIMIC-IV's hosp tables, or from a MEDS data set: arrival, age, sex, and the events of the first minutes.

Events are joined on subject and time, never on hadm_id: a stay that led to no admission has none. Left out is what only an
admission writes, since its mere presence is the label: prescriptions (hospital orders), ED_REGISTRATION and ED_OUT (times of
the admissions table), transfers, admissions, diagnoses, billing. A laboratory value is said only when it was stored in time;
before, only that the test was taken.
"""

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from clinical_modernbert.errors import SourceError
from clinical_modernbert.sources.evaluation_sets.ed import (
    EdOutcome,
    EdStay,
    check_arrival,
    check_time,
    in_window,
    placed_rows,
    table_rows,
)
from clinical_modernbert.sources.evaluation_sets.meds_sets import group_of_subject, read_subjects
from clinical_modernbert.sources.notes.meds import Event

MEDS_ARRIVAL = "TRANSFER_TO//ED"
_MEDS_ADMISSION = "HOSPITAL_ADMISSION"
_MEDS_SEEN = ("LAB//", "MEDICATION//", "Blood Pressure", "Weight", "Height", "BMI")
# The longest wait for a bed in the emergency department that still counts as one visit.
_MOST_HOURS = 48


def read_hosp_stays(folder: Path, *, minutes: int) -> Iterator[EdStay]:
    """Yield the stays of ``transfers`` (eventtype ED) with sex and age, laboratory tests and drugs given.

    ``folder`` is MIMIC-IV's ``hosp``. Disposition: ADMITTED where the transfer has a hadm_id, else HOME.
    """
    patients = {
        row[0]: (place, *row[1:])
        for place, row in placed_rows(folder, "patients", ("subject_id", "gender", "anchor_age", "anchor_year"))
    }
    labels = {row[0]: row[1] for row in table_rows(folder, "d_labitems", ("itemid", "label"))}
    columns = ("subject_id", "hadm_id", "transfer_id", "eventtype", "intime", "outtime")
    stays = [(place, row) for place, row in placed_rows(folder, "transfers", columns) if row[3] == "ED"]
    arrivals: dict[str, list[str]] = defaultdict(list)
    seen: set[str] = set()
    for place, row in stays:
        check_arrival(place, row[4])
        if row[2] in seen:
            raise SourceError(f"{place}: the transfer_id is there twice; expected one row a transfer")
        seen.add(row[2])
        arrivals[row[0]].append(row[4])
    labs = _in_first_minutes(
        folder, "labevents", ("storetime", "itemid", "value", "valueuom", "flag"), arrivals, minutes=minutes
    )
    drugs = _in_first_minutes(folder, "emar", ("medication", "event_txt"), arrivals, minutes=minutes)
    for _, (subject, admission, stay, _, intime, outtime) in stays:
        known, gender, anchor_age, anchor_year = patients.get(subject, ("", "", "", ""))
        if not all(not value or value.isdecimal() for value in (anchor_age, anchor_year)):
            raise SourceError(f"{known}: anchor_age and anchor_year must be whole numbers or empty")
        age = f"{int(anchor_age) + int(intime[:4]) - int(anchor_year)}" if anchor_age and anchor_year else ""
        text = "\n".join(
            [
                _arrival(gender, age, intime),
                _tests([row for row in labs[subject] if in_window(row[0], intime, minutes)], labels, intime, minutes),
                _given([row for row in drugs[subject] if in_window(row[0], intime, minutes)]),
            ]
        )
        outcome = EdOutcome("ADMITTED" if admission else "HOME", admission or None, outtime, ())
        yield EdStay(stay, f"subject_id:{subject}", text, outcome)


def _in_first_minutes(
    folder: Path, table: str, columns: tuple[str, ...], arrivals: dict[str, list[str]], *, minutes: int
) -> dict[str, list[tuple[str, ...]]]:
    """Return subject -> (charttime, ``columns``) of the rows in the first minutes of any of its stays.

    The hospital's tables hold years of rows for each stay's hour: other rows are not kept in memory.
    """
    found: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    for place, (subject, time, *rest) in placed_rows(folder, table, ("subject_id", "charttime", *columns)):
        if subject in arrivals:
            check_time(place, "charttime", time)
            if any(in_window(time, arrival, minutes) for arrival in arrivals[subject]):
                found[subject].append((time, *rest))
    return found


def read_meds_stays(path: Path, *, minutes: int) -> Iterator[EdStay]:
    """Yield the stays of a MEDS data set, a file or a folder of shards: each ``TRANSFER_TO//ED`` event begins one.

    Disposition: ADMITTED where the subject's next hospital admission begins within 48 hours and before the next arrival.
    MEDS states no time of storing: values count from when they were taken.
    """
    for subject, events in read_subjects(path):
        yield from _subject_stays(subject, events, minutes=minutes)


def _subject_stays(subject: int, events: list[Event], *, minutes: int) -> Iterator[EdStay]:
    static = [event.code for event in events if event.time is None]
    timed = sorted((event for event in events if event.time is not None), key=lambda event: event.time)
    codes = static + [event.code for event in timed]
    yield from _meds_stays(subject, codes, [(e.time, e.code, e.number) for e in timed], minutes=minutes)


def _meds_stays(subject: int, codes: list[str], timed: list[tuple[Any, str, Any]], *, minutes: int) -> Iterator[EdStay]:
    gender = next((code.partition("//")[2] for code in codes if code.startswith("GENDER//")), "")
    birth = next((time for time, code, _ in timed if code == "MEDS_BIRTH"), None)
    arrivals = [time for time, code, _ in timed if code.startswith(MEDS_ARRIVAL)]
    admissions = [time for time, code, _ in timed if code.startswith(_MEDS_ADMISSION)]
    for number, arrival in enumerate(arrivals):
        latest = arrival + timedelta(hours=_MOST_HOURS)
        if number + 1 < len(arrivals):
            latest = min(latest, arrivals[number + 1])
        admitted = any(arrival <= time < latest for time in admissions)
        end = arrival + timedelta(minutes=minutes)
        seen = [
            (f"{time:%H:%M}", _event(code, number_value))
            for time, code, number_value in timed
            if arrival <= time <= end and code.startswith(_MEDS_SEEN)
        ]
        age = f"{(arrival - birth).days // 365}" if birth else ""
        text = "\n".join(
            [_arrival(gender, age, arrival.isoformat(sep=" ")), f"Recorded: {_timed(seen) or 'nothing yet'}."]
        )
        outcome = EdOutcome("ADMITTED" if admitted else "HOME", None, "", ())
        yield EdStay(f"{subject}-{number}", group_of_subject(subject), text, outcome)


def _arrival(gender: str, age: str, intime: str) -> str:
    sex = {"M": "man", "F": "woman"}.get(gender, "person")
    hour = datetime.fromisoformat(intime).strftime("%H:%M")
    return f"A {sex} of {age or 'unknown'} years came to the emergency department at {hour}."


def _tests(rows: list[tuple[str, ...]], labels: dict[str, str], arrival: str, minutes: int) -> str:
    parts = []
    for taken, stored, item, value, unit, flag in sorted(rows):
        name = labels.get(item, item)
        known = in_window(stored, arrival, minutes) and value
        result = f" {value} {unit}".rstrip() + (f" ({flag})" if flag else "") if known else " (result pending)"
        parts.append((taken[11:16], f"{name}{result}"))
    return f"Laboratory tests: {_timed(parts) or 'none yet'}."


def _given(rows: list[tuple[str, ...]]) -> str:
    parts = [(time[11:16], f"{drug} ({event.lower()})") for time, drug, event in sorted(rows) if drug]
    return f"Drugs: {_timed(parts) or 'none yet'}."


def _timed(parts: list[tuple[str, str]]) -> str:
    by_time: dict[str, list[str]] = defaultdict(list)
    for time, words in parts:
        by_time[time].append(words)
    return "; ".join(f"at {time} {', '.join(words)}" for time, words in by_time.items())


def _event(code: str, value: Any) -> str:
    parts = [part for part in code.split("//") if part and part != "UNK"]
    return " ".join([*parts, f"{value:.6g}"] if value is not None and value == value else parts)
