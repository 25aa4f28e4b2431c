"""MIMIC-IV-ED tables -> one pseudo-note a stay, with the fields that carry the label apart.

What is said follows MEME (Lee et al.): arrival, triage, home medications, vital signs, drugs given; the wording is
ours. Disposition, departure time, hospital admission and the diagnosis codes, which are assigned at or after the end of
the visit, are in ``EdOutcome`` and never in the text. Tables are read side by side by stay, so that memory is that of
the tables without their texts: some 400,000 stays.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from clinical_modernbert.errors import SourceError
from clinical_modernbert.sources.csv_rows import read_rows
from clinical_modernbert.sources.document import Quarantined
from clinical_modernbert.sources.files import read_chunks

_UNKNOWN = "not recorded"
_COLUMNS = {
    "edstays": (
        "subject_id",
        "stay_id",
        "hadm_id",
        "intime",
        "outtime",
        "gender",
        "race",
        "arrival_transport",
        "disposition",
    ),
    "triage": (
        "stay_id",
        "temperature",
        "heartrate",
        "resprate",
        "o2sat",
        "sbp",
        "dbp",
        "pain",
        "acuity",
        "chiefcomplaint",
    ),
    "vitalsign": (
        "stay_id",
        "charttime",
        "temperature",
        "heartrate",
        "resprate",
        "o2sat",
        "sbp",
        "dbp",
        "rhythm",
        "pain",
    ),
    "medrecon": ("stay_id", "charttime", "name", "etcdescription"),
    "pyxis": ("stay_id", "charttime", "name"),
    "diagnosis": ("stay_id", "seq_num", "icd_code", "icd_version", "icd_title"),
}
_MEASURES = ("temperature", "pulse", "respirations", "oxygen saturation", "systolic pressure", "diastolic pressure")


@dataclass(frozen=True, slots=True)
class EdOutcome:
    """What a task predicts; a text must not state it."""

    disposition: str
    """``ADMITTED``, ``HOME``, ``EXPIRED`` and so on, as the table has it."""
    hadm_id: str | None
    outtime: str
    diagnoses: tuple[tuple[str, str, str], ...]
    """(ICD version, code, title) in the order of the table's numbers."""


@dataclass(frozen=True, slots=True)
class EdStay:
    """One stay: the text that was known during it, and its outcome apart."""

    stay_id: str
    group: str
    """``subject_id:<id>``."""
    text: str
    outcome: EdOutcome


def read_stays(folder: Path, *, minutes: int | None = None) -> Iterator[EdStay]:
    """Yield the stays of a folder with ``edstays``, ``triage``, ``vitalsign``, ``medrecon``, ``pyxis``, ``diagnosis``
    (CSV, or gzip).

    With ``minutes`` only what was charted from arrival until so long after it is said; a row without a time is not.
    Raises ``SourceError`` where a table is missing, lacks a column, or has a row that cannot be read.
    """
    triage: dict[str, tuple[str, ...]] = {}
    for place, row in placed_rows(folder, "triage", _COLUMNS["triage"]):
        if row[0] in triage:
            raise SourceError(f"{place}: the stay_id is there twice; expected one row a stay")
        triage[row[0]] = row[1:]
    rest = {name: _by_stay(folder, name) for name in ("vitalsign", "medrecon", "pyxis", "diagnosis")}
    seen: set[str] = set()
    for place, row in placed_rows(folder, "edstays", _COLUMNS["edstays"]):
        subject, stay, admission, intime, outtime, gender, race, transport, disposition = row
        if not subject or not stay or stay in seen:
            raise SourceError(f"{place}: expected a subject_id and a stay_id that no other row has")
        seen.add(stay)
        if minutes is not None:
            check_arrival(place, intime)
        sections = [
            _arrival(intime, gender, race, transport),
            _triage(triage.get(stay)),
            _home_drugs(_within(rest["medrecon"][stay], intime, minutes)),
            _vitals(_within(rest["vitalsign"][stay], intime, minutes)),
            _given(_within(rest["pyxis"][stay], intime, minutes)),
        ]
        codes = sorted(rest["diagnosis"][stay], key=lambda row: int(row[0]) if row[0].isdecimal() else 0)
        outcome = EdOutcome(disposition, admission or None, outtime, tuple((v, c, t) for _, c, v, t in codes))
        yield EdStay(stay, f"subject_id:{subject}", "\n".join(filter(None, sections)), outcome)


def check_arrival(place: str, intime: str) -> None:
    """Raise ``SourceError`` where a stay's arrival is not a time: nothing could be placed after it."""
    try:
        datetime.fromisoformat(intime)
    except ValueError:
        raise SourceError(f"{place}: intime is not a time; expected YYYY-MM-DD HH:MM:SS") from None


def check_time(place: str, column: str, time: str) -> None:
    """Raise ``SourceError`` for a time that is none; one that is missing may be."""
    try:
        datetime.fromisoformat(time or "2000-01-01")
    except ValueError:
        raise SourceError(f"{place}: {column} is not a time; expected YYYY-MM-DD HH:MM:SS, or nothing") from None


def in_window(time: str, arrival: str, minutes: int) -> bool:
    """Whether ``time`` is from ``arrival`` until ``minutes`` after it; False where one of the two is missing or not a time."""
    try:
        passed = datetime.fromisoformat(time) - datetime.fromisoformat(arrival)
    except ValueError:
        return False
    return timedelta(0) <= passed <= timedelta(minutes=minutes)


def _within(rows: list[tuple[str, ...]], arrival: str, minutes: int | None) -> list[tuple[str, ...]]:
    return rows if minutes is None else [row for row in rows if in_window(row[0], arrival, minutes)]


def _arrival(intime: str, gender: str, race: str, transport: str) -> str:
    sex = {"M": "man", "F": "woman"}.get(gender, "person")
    return (
        f"A {sex} (race: {_known(race)}) came to the emergency department at {_known(intime)}; "
        f"way of arrival: {_known(transport)}."
    )


def _triage(row: tuple[str, ...] | None) -> str:
    if row is None:
        return f"Triage: {_UNKNOWN}."
    *measures, pain, acuity, complaint = row
    return (
        f"Chief complaint: {_known(complaint)}. Triage: {_measured(measures)}, pain {_known(pain)}; "
        f"acuity level {_known(acuity)}."
    )


def _home_drugs(rows: list[tuple[str, ...]]) -> str:
    if not rows:
        return "Medications before the visit: none recorded."
    drugs = dict.fromkeys(f"{name} ({kind})" if kind else name for _, name, kind in rows if name)
    return f"Medications before the visit: {', '.join(drugs)}."


def _vitals(rows: list[tuple[str, ...]]) -> str:
    parts = []
    for time, *measures, rhythm, pain in sorted(rows):
        beat = f", rhythm {rhythm}" if rhythm else ""
        parts.append(f"at {time} {_measured(measures)}{beat}, pain {_known(pain)}")
    return f"Vital signs: {'; '.join(parts)}." if parts else ""


def _given(rows: list[tuple[str, ...]]) -> str:
    by_time: dict[str, list[str]] = defaultdict(list)
    for time, name in sorted(rows):
        if name and name not in by_time[time]:
            by_time[time].append(name)
    parts = [f"at {time} {', '.join(names)}" for time, names in by_time.items() if names]
    return f"Given in the department: {'; '.join(parts)}." if parts else "Given in the department: nothing recorded."


def _measured(values: list[str]) -> str:
    return ", ".join(f"{name} {_known(value)}" for name, value in zip(_MEASURES, values, strict=True))


def _known(value: str) -> str:
    return value or _UNKNOWN


def _by_stay(folder: Path, table: str) -> defaultdict[str, list[tuple[str, ...]]]:
    rows_of: defaultdict[str, list[tuple[str, ...]]] = defaultdict(list)
    timed = "charttime" in _COLUMNS[table]
    for place, row in placed_rows(folder, table, _COLUMNS[table]):
        if timed:
            check_time(place, "charttime", row[1])
        rows_of[row[0]].append(row[1:])
    return rows_of


def table_rows(folder: Path, table: str, columns: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield the named columns of ``<table>.csv`` or ``.csv.gz``; ``SourceError`` where it is absent or has a broken row."""
    for _, values in placed_rows(folder, table, columns):
        yield values


def placed_rows(folder: Path, table: str, columns: tuple[str, ...]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the same with each row's place, ``<file>, line <n>``, for errors."""
    path = next((p for p in (folder / f"{table}.csv.gz", folder / f"{table}.csv") if p.is_file()), None)
    if path is None:
        raise SourceError(f"{folder} has no {table}.csv or {table}.csv.gz")
    for row in read_rows(read_chunks(path), file=path.name, columns=columns):
        if isinstance(row, Quarantined):
            raise SourceError(f"{row.file}, {row.position}: {row.reason}")
        yield f"{path.name}, line {row.line}", tuple(value.strip() for value in row.values)
