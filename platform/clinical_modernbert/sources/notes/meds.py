"""MEDS events in Parquet (schema of ``meds`` 0.4: subject_id, time, code, numeric_value, text_value): one text a subject.

Events come in time order, static ones (time null) first; events of the same time share a line, which begins with the time.
Files of a MEDS data set hold whole subjects, sorted by subject, so that one subject at a time is in memory. A file
whose subjects are not grouped is sorted in memory; with more than ``_MOST_UNSORTED`` rows it is quarantined: shard
it by subject first.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from clinical_modernbert.recipe.sources import MedsSource
from clinical_modernbert.sources.arrow_values import UNREADABLE, check_inflation, parquet_file, readable
from clinical_modernbert.sources.document import PATIENT, Document, Dropped, Quarantined, Record, Unit, group_of
from clinical_modernbert.sources.event_texts import Entry, event_text, event_words
from clinical_modernbert.sources.files import Progress, file_units, find_files, is_folder, path_field
from clinical_modernbert.sources.inflate import DamagedFileError
from clinical_modernbert.sources.left_out import LeftOut

_PATTERNS = ("*.parquet",)

_BATCH_ROWS = 65_536
_MOST_UNSORTED = 20_000_000
_VALUES = ("numeric_value", "value")


def units(source: MedsSource) -> list[Unit]:
    """Return the Parquet files of a data set: those below ``data/`` where there is such a folder, next to its metadata."""
    shards = f"{source.path.rstrip('/')}/data"
    where = shards if is_folder(shards) else source.path
    files = find_files(where, field=path_field(source.name), patterns=_PATTERNS)
    return file_units(source.name, [file for file in files if not file[0].startswith("metadata/")])


def read(source: MedsSource, unit: Unit, progress: Progress) -> Iterator[Record]:
    """Yield one value for each subject."""
    return read_subjects(unit.location, file=unit.name, source=source, progress=progress)


def licence(source: MedsSource) -> None:
    """Return None: the files are the user's own."""


class Event(NamedTuple):
    """One row; ``time`` is None for a static one. A value that Python cannot hold is ``UNREADABLE``."""

    time: Any
    code: str
    """Empty where it is null, against the standard."""
    number: float | None
    text: str | None


class BrokenEventsError(Exception):
    """A file, or what follows one of its rows, cannot be read."""

    def __init__(self, position: str, reason: str) -> None:
        super().__init__(f"{position}: {reason}")
        self.position = position
        self.reason = reason


def read_subjects(
    location: str | Path, *, file: str, source: MedsSource, progress: Progress | None = None
) -> Iterator[Document | Dropped | Quarantined]:
    """Yield one value for each subject; the id is the subject's, the group ``patient:<id>`` as in MIMIC's notes.

    Codes of ``source.leave_out`` (prefixes) are left out; a subject without any other event is dropped as ``empty``.
    """
    left_out, number = LeftOut(), 0
    try:
        for number, (subject, events) in enumerate(subject_events(location, whole=False, progress=progress), start=1):
            left_out.num_rows += len(events)
            if not all(event.code for event in events):
                missing = sum(not event.code for event in events)
                reason = "events without a code are left out"
                left_out.add(Quarantined(file, f"subject {number}", reason, num_lost=missing - 1))
            if any(map(_is_unreadable, events)):
                reason = "an event whose time is beyond the years 1 to 9999, or whose text is not UTF-8"
                yield Quarantined(file, f"subject {number}", reason, record_id=str(subject))
            else:
                yield _subject(subject, events, source)
        yield from left_out.quarantined(number)
    except BrokenEventsError as error:
        yield Quarantined(file, error.position, error.reason)


def subject_events(
    location: str | Path, *, whole: bool, progress: Progress | None = None
) -> Iterator[tuple[int, list[Event]]]:
    """Yield each subject of a file with its rows in the file's order; raises ``BrokenEventsError``.

    ``whole`` refuses a file without numbers and a row without a code; a corpus reads the file and leaves the event out.
    """
    import pyarrow as pa

    progress = progress or Progress()
    try:
        with parquet_file(str(location), progress) as parquet:
            yield from _grouped(parquet, whole=whole, progress=progress)
    except DamagedFileError as error:
        raise BrokenEventsError(error.position, error.reason) from None
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise BrokenEventsError("the whole file", f"no readable Parquet ({type(error).__name__})") from None


def _grouped(parquet: Any, *, whole: bool, progress: Progress) -> Iterator[tuple[int, list[Event]]]:
    check_inflation(parquet)
    columns = _columns(parquet.schema_arrow, numbers=whole)
    grouped = _is_grouped(parquet)
    if grouped:
        batches = parquet.iter_batches(batch_size=_BATCH_ROWS, columns=[name for name in columns if name])
    elif parquet.metadata.num_rows > _MOST_UNSORTED:
        raise BrokenEventsError("schema", "a subject's events lie apart; shard the data set by subject first")
    else:
        table = parquet.read(columns=[name for name in columns if name]).sort_by([("subject_id", "ascending")])
        batches = table.to_batches(max_chunksize=_BATCH_ROWS)
    subject, events, row = None, [], 0  # type: int | None, list[Event], int
    for batch in batches:
        values = {name: _values(batch.column(name)) for name in batch.schema.names}
        empty = [None] * batch.num_rows
        for number, *event in zip(*(values[name] if name else empty for name in columns), strict=True):
            row += 1
            if number is None or (event[1] is None and whole):
                if subject is not None:
                    yield subject, events
                missing = "subject_id" if number is None else "code"
                progress.count_rows(row, parquet.metadata.num_rows)
                place = f"row {row}" if grouped else f"row {row} by subject"
                raise BrokenEventsError(place, f"{missing} is null; MEDS states it for each event")
            if whole and any(value is UNREADABLE for value in event):
                raise BrokenEventsError(f"row {row}", "a time beyond the years 1 to 9999, or a text that is not UTF-8")
            if number != subject:
                if subject is not None:
                    yield subject, events
                subject, events = number, []
            events.append(Event(event[0], event[1] or "", *event[2:]))
        progress.count_rows(row, parquet.metadata.num_rows)
    progress.is_whole = True
    if subject is not None:
        yield subject, events


def _values(column: Any) -> list[Any]:
    """Return the values of a column, with ``UNREADABLE`` for each that Python cannot hold."""
    try:
        return list(column.to_pylist())
    except (ValueError, OverflowError):  # not UTF-8, or a year beyond those of datetime
        return [readable(value) for value in column]


def _is_unreadable(event: Event) -> bool:
    return any(value is UNREADABLE for value in event)


def _columns(schema: Any, *, numbers: bool) -> tuple[str, str, str, str | None, str | None]:
    """Return the names of subject, time, code, number and text; the last two may be absent."""
    import pyarrow.types as types

    missing = [name for name in ("subject_id", "time", "code") if name not in schema.names]
    if missing:
        raise BrokenEventsError("schema", f"no column {', '.join(missing)}; MEDS has subject_id, time and code")
    value = next((name for name in _VALUES if name in schema.names), None)
    if numbers and value is None:
        raise BrokenEventsError("schema", "no column numeric_value; MEDS has the events' numbers there")
    text = "text_value" if "text_value" in schema.names else None
    for name, fits, wanted in (
        ("subject_id", types.is_integer, "whole numbers"),
        ("time", lambda kind: types.is_timestamp(kind) or types.is_null(kind), "timestamps"),
        ("code", _is_text, "text"),
        *(((value, _is_number, "numbers"),) if value else ()),
        *(((text, lambda kind: _is_text(kind) or types.is_null(kind), "text"),) if text else ()),
    ):
        if not fits(schema.field(name).type):
            raise BrokenEventsError("schema", f"{name} is {schema.field(name).type}; MEDS has {wanted} there")
    return "subject_id", "time", "code", value, text


def _is_number(kind: Any) -> bool:
    import pyarrow.types as types

    return bool(types.is_floating(kind) or types.is_integer(kind) or types.is_null(kind))


def _is_text(kind: Any) -> bool:
    import pyarrow.types as types

    return bool(
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_string_view(kind)
        or (types.is_dictionary(kind) and _is_text(kind.value_type))
    )


def _is_grouped(parquet: Any) -> bool:
    """Whether the rows of each subject are consecutive, by a pass over that column alone."""
    seen: set[int] = set()
    last = None
    for batch in parquet.iter_batches(batch_size=_BATCH_ROWS, columns=["subject_id"]):
        column = batch.column(0)
        for run in column.to_numpy(zero_copy_only=False).tolist():
            if run != last:
                if run in seen:
                    return False
                seen.add(run)
                last = run
    return True


def _subject(subject: int, events: list[Event], source: MedsSource) -> Document | Dropped:
    kept = [event for event in events if event.code and not event.code.startswith(source.leave_out)]
    if not kept:
        return Dropped("empty")
    entries = [Entry(e.time, f"{e.time:%Y-%m-%d %H:%M}" if e.time else "", event_words(*e[1:])) for e in kept]
    return Document(str(subject), source.name, group_of(PATIENT, str(subject)), event_text(entries))
