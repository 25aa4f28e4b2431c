"""Events of OMOP's CDM 5.x as text, with the names of CONCEPT: one document a person, in time order, in the form of MEDS events.

A row without a concept, or whose concept CONCEPT does not name, has its source value. All tables are one unit, because each holds
the rows of all persons. CONCEPT is read last, for the concepts that occur: the whole vocabulary does not fit small machines.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from clinical_modernbert.artifacts.remote_files import local_copy
from clinical_modernbert.errors import SourceError
from clinical_modernbert.recipe.sources import OmopEventsSource
from clinical_modernbert.sources.document import (
    PATIENT,
    Document,
    Dropped,
    Quarantined,
    Record,
    Unit,
    group_of,
    whole_number,
)
from clinical_modernbert.sources.event_texts import Entry, decimal_text, event_text, event_words, moment
from clinical_modernbert.sources.files import Progress, joint_unit, path_field
from clinical_modernbert.sources.grouped_rows import GroupedRows, Value, grouped_rows
from clinical_modernbert.sources.left_out import LeftOut
from clinical_modernbert.sources.notes.concepts import Concepts
from clinical_modernbert.sources.notes.omop_tables import (
    duckdb_tables,
    holds,
    is_duckdb,
    is_tabbed,
    table_files,
    table_rows,
)

CONCEPT = "concept"


class _Table(NamedTuple):
    """Which columns of a table make an event; a column of ``optional`` may be absent."""

    code: str
    concept: str
    date: str
    source_value: str
    end: tuple[str, ...] = ()
    """Dates and concepts of a second event, the end: the first that has a value counts."""


# Values of measurements and observations; other tables have none of these columns.
_VALUES = (
    "value_as_number", "value_as_string", "value_as_concept_id", "value_source_value",
    "unit_concept_id", "unit_source_value", "operator_concept_id",
)  # fmt: skip
_VISIT_END = ("visit_end_datetime", "visit_end_date", "discharged_to_concept_id", "discharge_to_concept_id")
_TABLES = {
    "visit_occurrence": _Table("VISIT", "visit_concept_id", "visit_start_date", "visit_source_value", _VISIT_END),
    "condition_occurrence": _Table(
        "CONDITION", "condition_concept_id", "condition_start_date", "condition_source_value"
    ),
    "drug_exposure": _Table("DRUG", "drug_concept_id", "drug_exposure_start_date", "drug_source_value"),
    "procedure_occurrence": _Table("PROCEDURE", "procedure_concept_id", "procedure_date", "procedure_source_value"),
    "device_exposure": _Table("DEVICE", "device_concept_id", "device_exposure_start_date", "device_source_value"),
    "measurement": _Table("MEASUREMENT", "measurement_concept_id", "measurement_date", "measurement_source_value"),
    "observation": _Table("OBSERVATION", "observation_concept_id", "observation_date", "observation_source_value"),
    "death": _Table("MEDS_DEATH", "cause_concept_id", "death_date", "cause_source_value"),
}
# Events that say what they are without a concept.
_NAMELESS = frozenset({"VISIT_END", "MEDS_BIRTH", "MEDS_DEATH"})
_NO_CONCEPT = ("", "0")
_WHOLE = ("_id", "_of_birth")
_TYPED = (*_WHOLE, "_date", "_datetime", "_number")
# What R, Python, SQL Server and Postgres write for a missing value. NA may be sodium in a column of texts.
_MISSING = frozenset({"NA", "NaN", "nan", "None", "null", "NULL", "\\N"})
_MISSING_TEXTS = frozenset({"NULL", "\\N"})
_PERSON = (
    "birth_datetime", "year_of_birth", "month_of_birth", "day_of_birth", "gender_concept_id", "gender_source_value",
    "race_concept_id", "race_source_value", "ethnicity_concept_id", "ethnicity_source_value",
)  # fmt: skip


class _Event(NamedTuple):
    """One event as it waits on disk for the names of its concepts."""

    code: str
    at: int | None
    shown: str
    concept: str
    source_value: str
    value: str = ""
    value_concept: str = ""
    unit_concept: str = ""
    unit: str = ""
    operator_concept: str = ""


_NOTHING = _Event("", None, "", "", "")


def units(source: OmopEventsSource) -> list[Unit]:
    """Return the tables as one unit; raises ``SourceError`` where there is no CONCEPT, or no table with events."""
    field = path_field(source.name)
    if is_duckdb(source.path):
        tables = set(duckdb_tables(source.path, field=field))
        files = [(source.path.rpartition("/")[2], str(local_copy(source.path)))]
    else:
        found = {table: table_files(source.path, table, field=field) for table in (CONCEPT, "person", *_TABLES)}
        tables = {table for table, there in found.items() if there}
        files = sorted({file for there in found.values() for file in there})
    if CONCEPT not in tables or not tables & {*_TABLES}:
        raise SourceError(
            f"{field}: {source.path!r} needs CONCEPT and one of {', '.join(sorted(_TABLES))}; it has {sorted(tables)}"
        )
    unit = joint_unit(source.name, "events", files)
    for table in (CONCEPT, "person", *_TABLES):
        columns, optional = _columns(table)
        for _ in _rows_of(table, columns, optional, source, unit, LeftOut(), Progress()):
            break  # the header has all columns
    return [unit]


def licence(source: OmopEventsSource) -> None:
    """Return None: the events are the user's own."""


def read(source: OmopEventsSource, unit: Unit, progress: Progress) -> Iterator[Record]:
    """Yield one value for each person, and one for the rows of a table that cannot be used for one reason."""
    if is_duckdb(source.path):  # located again: on another machine its copy may be elsewhere
        unit = replace(unit, files=((unit.files[0][0], str(local_copy(source.path))),))
    left_out, num_persons = LeftOut(), 0
    concepts = Concepts()
    with grouped_rows(num_values=len(_Event._fields)) as rows:
        for table in ("person", *_TABLES):
            _read_table(table, source, unit, rows, concepts, left_out, progress)
        concepts.read_names(
            values for *_, values in _rows_of(CONCEPT, *_columns(CONCEPT), source, unit, left_out, progress)
        )
        for person, found in rows.groups():
            num_persons += 1
            entries = list(_entries(found, source, concepts, left_out))
            yield (
                Document(person, source.name, group_of(PATIENT, person), event_text(entries))
                if entries
                else Dropped("empty")
            )
    yield from left_out.quarantined(num_persons)


def _columns(table: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the columns that a table must have, and those that it may have."""
    if table == CONCEPT:
        return Concepts.COLUMNS, ()
    if table == "person":
        return ("person_id",), _PERSON
    form = _TABLES[table]
    # ``condition_start_datetime`` next to ``condition_start_date``.
    return ("person_id", form.concept, form.date), (form.source_value, f"{form.date}time", *_VALUES, *form.end)


def _read_table(
    table: str,
    source: OmopEventsSource,
    unit: Unit,
    rows: GroupedRows,
    concepts: Concepts,
    left_out: LeftOut,
    progress: Progress,
) -> None:
    columns, optional = _columns(table)
    for file, position, values in _rows_of(table, columns, optional, source, unit, left_out, progress):
        left_out.num_rows += 1
        named = _named(zip((*columns, *optional), values, strict=True))
        person = named["person_id"]
        try:
            if not person:
                raise _UnusableError("no person_id")
            events = [*(_person_events(named) if table == "person" else _events(_TABLES[table], named))]
            for event in events or [_NOTHING]:  # a person without events is counted, too
                concepts.use(event.concept, event.value_concept, event.unit_concept, event.operator_concept)
                rows.add(person, event)
        except _UnusableError as error:
            left_out.add(Quarantined(file, position, str(error)))


def _named(values: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return a row by column, with empty strings for what its writer has for a missing value, and one spelling of numbers."""
    stated = dict(values)
    # A row that writes NA for a missing number writes it for a missing text, too.
    missing = {value for column, value in stated.items() if column.endswith(_TYPED) and value in _MISSING}
    missing |= _MISSING_TEXTS
    return {
        # A nullable number is 8507.0 in files that pandas wrote.
        column: "" if value in missing else whole_number(value) if column.endswith(_WHOLE) else value
        for column, value in stated.items()
    }


class _UnusableError(Exception):
    """A row that makes no event; the message says why, without any of it."""


def _rows_of(
    table: str,
    columns: tuple[str, ...],
    optional: tuple[str, ...],
    source: OmopEventsSource,
    unit: Unit,
    left_out: LeftOut,
    progress: Progress,
) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield (file, position, values) of each row of a table; damage goes to ``left_out``."""
    for name, location in _files_of(table, source, unit):
        part = Progress()
        quoted = source.quoted and not (table == CONCEPT and is_tabbed(location))
        for row in table_rows(
            location, file=name, table=table, columns=columns, optional=optional, quoted=quoted, progress=part
        ):
            if isinstance(row, Quarantined):
                left_out.num_rows += 1
                left_out.add_damage(row, part)
            else:
                yield name, *row
        progress.add_file(part)


def _files_of(table: str, source: OmopEventsSource, unit: Unit) -> list[tuple[str, str]]:
    (name, location), *others = unit.files
    if not others and is_duckdb(location):
        return [(name, location)] if table in duckdb_tables(location, field=path_field(source.name)) else []
    return [file for file in unit.files if holds(file[0], table)]


def _events(form: _Table, row: Mapping[str, str]) -> Iterator[_Event]:
    at, shown = _moment(row[f"{form.date}time"] or row[form.date])
    number = row["value_as_number"]
    value = decimal_text(number) if number else None
    if number and value is None:
        raise _UnusableError("value_as_number is no number")
    yield _Event(
        form.code,
        at,
        shown,
        row[form.concept],
        row[form.source_value],
        value or row["value_as_string"] or row["value_source_value"],  # where the value has no concept with a name
        "" if value else row["value_as_concept_id"],
        row["unit_concept_id"],
        row["unit_source_value"],
        row["operator_concept_id"] if value else "",
    )
    if form.end:
        end, to = (next((row[name] for name in names if row[name]), "") for names in (form.end[:2], form.end[2:]))
        if end:
            yield _Event(f"{form.code}_END", *_moment(end), to, "")


def _person_events(row: Mapping[str, str]) -> Iterator[_Event]:
    for kind in ("gender", "race", "ethnicity"):
        concept, stated = row[f"{kind}_concept_id"], row[f"{kind}_source_value"]
        if concept not in _NO_CONCEPT or stated:
            yield _Event(kind.upper(), None, "", concept, stated)
    day = [row[name] for name in ("year_of_birth", "month_of_birth", "day_of_birth") if row[name]]
    born = row["birth_datetime"] or "-".join(part.zfill(2) for part in day)
    if born:
        yield _Event("MEDS_BIRTH", *_moment(born), "", "")


def _moment(stated: str) -> tuple[int, str]:
    at = moment(stated)
    if at is None:
        raise _UnusableError("no date, or one that is not of the form YYYY-MM-DD")
    return at


def _entries(
    found: list[tuple[Value, ...]], source: OmopEventsSource, concepts: Concepts, left_out: LeftOut
) -> Iterator[Entry]:
    for values in found:
        event = _Event(*values)  # type: ignore[arg-type]  # as they were added
        if event == _NOTHING:
            continue
        name = concepts.name(event.concept) or event.source_value
        operator = concepts.operator(event.operator_concept)
        if (not name and event.code not in _NAMELESS) or operator is None:
            reason = (
                "a concept without a name in CONCEPT, and no source value"
                if operator is not None
                else "an unknown operator"
            )
            left_out.add(Quarantined(CONCEPT, f"concept {event.concept or 0}", reason))
            continue
        unit = concepts.name(event.unit_concept) or event.unit
        code = "//".join(part.replace("//", " ") for part in (event.code, name, unit) if part)
        if not code.startswith(source.leave_out):
            value = concepts.name(event.value_concept) or event.value
            yield Entry(event.at, event.shown, event_words(code, None, f"{operator}{value}" if value else ""))
