"""Events of a FHIR R4 bulk export as text: one document a patient, in time order, in the form of MEDS events.

Conditions, orders of medications, procedures, observations and encounters, with gender, birth and death of the Patient. A
resource counts once, by its ``meta.lastUpdated``. What was withdrawn, refuted, cancelled or not done is dropped: a text of events
has no form for it. All files of an export are one unit, because each holds one type of the resources of all patients.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from clinical_modernbert.recipe.sources import FhirEventsSource
from clinical_modernbert.sources.document import (
    PATIENT,
    Document,
    Dropped,
    Quarantined,
    Record,
    Unit,
    group_of,
    is_unicode,
)
from clinical_modernbert.sources.event_texts import Entry, event_text, event_words, moment
from clinical_modernbert.sources.files import Progress, find_files, joint_unit, path_field
from clinical_modernbert.sources.grouped_rows import GroupedRows, grouped_rows
from clinical_modernbert.sources.left_out import LeftOut
from clinical_modernbert.sources.notes.fhir_resources import (
    Patients,
    Resource,
    UnusableError,
    concept_name,
    last_part,
    patient_of,
    patients_of,
    patterns,
    read_resources,
    top_folder,
    updated,
)
from clinical_modernbert.sources.notes.fhir_values import observed

# Type of resource -> fields of its time, the first that is there; a period counts from its start.
_TIMES = {
    "Condition": ("onsetDateTime", "onsetPeriod", "recordedDate"),
    "MedicationRequest": ("authoredOn",),
    "Procedure": ("performedDateTime", "performedPeriod"),
    "Observation": ("effectiveDateTime", "effectivePeriod", "effectiveInstant", "effectiveTiming", "issued"),
    "Encounter": ("period",),
    "Patient": (),
}
_KINDS = tuple(_TIMES)
_MEDICATION = "Medication"
# Files of other types whose names begin so; those of Medication may have any name, as ``MimicMedicationMix.ndjson``.
_OTHER_MEDICATIONS = tuple(
    f"*{_MEDICATION}{part}*" for part in ("Administration", "Dispense", "Knowledge", "Request", "Statement", "Usage")
)
_WITHDRAWN = frozenset(
    {"entered-in-error", "cancelled", "draft", "not-done", "preparation", "planned", "registered", "refuted"}
)

_MOST_MIXTURES = 3  # of mixtures; a medication of itself would have no end
_ADVICE = ("proposal", "option")  # advice, not an order; ``plan`` is a medication that a patient reports


class _Event(NamedTuple):
    """One event, with the place of its resource."""

    code: str
    time: str
    """As FHIR has it; empty where it has none."""
    value: str = ""


def units(source: FhirEventsSource) -> list[Unit]:
    """Return the export as one unit."""
    files = find_files(source.path, field=path_field(source.name), patterns=patterns(*_KINDS))
    return [joint_unit(source.name, "events", sorted({*files, *_medication_files(source.path)}))]


def licence(source: FhirEventsSource) -> None:
    """Return None: the events are the user's own."""


def read(source: FhirEventsSource, unit: Unit, progress: Progress) -> Iterator[Record]:
    """Yield one value for each patient, one for each dropped resource, and one for the unusable ones of a file and reason."""
    top = top_folder(source.path)
    patients = patients_of(top, source.patient_identifier)
    left_out, num_records = LeftOut(), 0
    with grouped_rows(num_values=6) as rows:
        for name, location in unit.files:
            if _is_lookup(name):
                continue
            for dropped in _read_file(name, location, source, patients, rows, left_out, progress):
                num_records += 1
                yield dropped
        for patient, found in rows.groups():
            events, num_superseded = _latest(found)
            for _ in range(num_superseded):
                yield Dropped("superseded")
            num_records += num_superseded + 1
            entries = [Entry(at, shown, words) for _, _, _, at, shown, words in events if words]
            yield (
                Document(patient, source.name, group_of(PATIENT, patient), event_text(entries))
                if entries
                else Dropped("empty")
            )
    yield from left_out.quarantined(num_records)


def _is_lookup(name: str) -> bool:
    """Whether a file holds Medication resources, to which orders refer."""
    return not any(kind in name.rpartition("/")[2] for kind in _KINDS)


def _read_file(
    name: str,
    location: str,
    source: FhirEventsSource,
    patients: Patients,
    rows: GroupedRows,
    left_out: LeftOut,
    progress: Progress,
) -> Iterator[Dropped]:
    part = Progress()
    top = top_folder(source.path)
    for item in read_resources(location, file=name, kinds=_KINDS, progress=part):
        left_out.num_rows += 1
        if isinstance(item, Quarantined):
            left_out.add_damage(item, part)
            continue
        place, resource = item
        try:
            dropped = _add(resource, left_out.num_rows, source, top, patients, rows)
        except (UnusableError, AttributeError, TypeError, OverflowError) as error:
            reason = str(error) if isinstance(error, UnusableError) else "not of FHIR R4's structure"
            left_out.add(Quarantined(name, place.position, reason))
        else:
            if dropped:
                yield Dropped(dropped)
    if not part.size_bytes:
        left_out.add(Quarantined(name, "the whole file", "the file is empty"))
    progress.add_file(part)


def _add(
    resource: Resource, number: int, source: FhirEventsSource, top: str, patients: Patients, rows: GroupedRows
) -> str | None:
    """Add the events of a resource; return the reason where a rule drops it."""
    kind, name = resource["resourceType"], resource.get("id")
    patient = str(name or "") if kind == "Patient" else patient_of(resource)
    if not patient:
        raise UnusableError("no subject that is a patient")
    group = patients.number(patient)
    if _is_withdrawn(resource):
        return "withdrawn"
    found = list(_events(kind, resource, top))
    kept = [event for event in found if not event.code.startswith(source.leave_out)]
    values = [(_moment(event.time), event_words(event.code, None, event.value)) for event in kept]
    if not is_unicode(group) or not is_unicode(str(name)) or not all(is_unicode(words) for _, words in values):
        raise UnusableError("a text that is not Unicode")
    key = f"{kind}/{name}" if name else f"{kind}, resource {number}"  # without an id it replaces no other resource
    # A resource without events takes its place, too: it replaces an earlier version that had some.
    for (at, shown), words in values or [((None, ""), "")]:
        rows.add(group, (key, updated(resource), number, at, shown, words))
    return None


def _latest(rows: list[tuple[Any, ...]]) -> tuple[list[tuple[Any, ...]], int]:
    """Return the rows of each resource's latest version, of equal ones the later, and the number of the other versions."""
    versions: dict[str, set[tuple[int, int]]] = {}
    for key, version, number, *_ in rows:
        versions.setdefault(key, set()).add((version, number))
    last = {key: max(found) for key, found in versions.items()}
    kept = [row for row in rows if last[row[0]] == (row[1], row[2])]
    return kept, sum(len(found) - 1 for found in versions.values())


def _is_withdrawn(resource: Resource) -> bool:
    verification = (resource.get("verificationStatus") or {}).get("coding") or ()
    stated = {resource.get("status"), *(coding.get("code") for coding in verification)}
    return bool(resource.get("doNotPerform")) or not (
        _WITHDRAWN.isdisjoint(stated) and resource.get("intent") not in _ADVICE
    )


def _moment(stated: str) -> tuple[int | None, str]:
    if not stated:
        return None, ""
    at = moment(stated)
    if at is None:
        raise UnusableError("a time that is not of FHIR's form")
    return at


def _events(kind: str, resource: Resource, top: str) -> Iterator[_Event]:
    time = _time(resource, _TIMES[kind])
    if kind == "Patient":
        if resource.get("gender"):
            yield _Event(_code("GENDER", str(resource["gender"])), "")
        for field, code in (("birthDate", "MEDS_BIRTH"), ("deceasedDateTime", "MEDS_DEATH")):
            if resource.get(field):
                yield _Event(code, str(resource[field]))
    elif kind == "Encounter":
        kinds = [concept_name(resource.get("class")), concept_name(resource.get("type"))]
        reasons = filter(None, map(concept_name, resource.get("reasonCode") or ()))
        yield _Event(_code("ENCOUNTER", *kinds), time, ", ".join(reasons))
        if end := (resource.get("period") or {}).get("end"):
            left = concept_name((resource.get("hospitalization") or {}).get("dischargeDisposition"))
            yield _Event(_code("ENCOUNTER_END", left), end)
    elif kind == "Observation":
        for names, value in observed(resource):
            yield _Event(_code("OBSERVATION", *names), time, value)
    elif kind == "MedicationRequest":
        doses = [
            dose.get("text") for dose in resource.get("dosageInstruction") or () if isinstance(dose.get("text"), str)
        ]
        yield _Event(_code("MEDICATION", _named(_medication(resource, top))), time, ", ".join(doses))
    else:
        yield _Event(_code(kind.upper(), _named(concept_name(resource.get("code")))), time)


def _time(resource: Resource, fields: tuple[str, ...]) -> str:
    for field in fields:
        value = resource.get(field)
        if isinstance(value, dict):  # a period, or the moments of a Timing
            value = value.get("start") or next(iter(value.get("event") or ()), None)
        if value:
            return str(value)
    return ""


def _code(*parts: str) -> str:
    return "//".join(part.replace("//", " ") for part in parts if part)


def _named(name: str) -> str:
    if not name:
        raise UnusableError("neither a text nor a display nor a code")
    return name


def _medication(resource: Resource, top: str) -> str:
    """Return the name of an order's medication: stated, of the reference, contained, or of a Medication of the export."""
    reference = resource.get("medicationReference") or {}
    named = concept_name(resource.get("medicationCodeableConcept")) or concept_name({"text": reference.get("display")})
    if named or not reference:
        return named
    target = reference.get("reference")
    contained = {f"#{part.get('id')}": _name_or_ingredients(part) for part in resource.get("contained") or ()}
    return _name_of(target, contained, top)


def _name_of(target: object, contained: Mapping[str, str | list[Any]], top: str, *, depth: int = 0) -> str:
    """Return the name of a medication; a mixture without one has those of its ingredients."""
    is_contained = isinstance(target, str) and target.startswith("#")
    found = contained.get(str(target)) if is_contained else _medications(top).get(last_part(target))
    if not isinstance(found, list):
        return found or ""
    names = []
    for ingredient in found if depth < _MOST_MIXTURES else ():
        reference = ingredient.get("itemReference") or {}
        stated = concept_name(ingredient.get("itemCodeableConcept")) or concept_name({"text": reference.get("display")})
        names.append(stated or _name_of(reference.get("reference"), contained, top, depth=depth + 1))
    return " + ".join(names) if all(names) else ""


def _name_or_ingredients(medication: Resource) -> str | list[Any]:
    return concept_name(medication.get("code")) or medication.get("ingredient") or ""


@lru_cache(maxsize=1)
def _medications(top: str) -> dict[str, str | list[Any]]:
    """Return the names of the Medication resources of an export by their id, or the ingredients of one without a name."""
    names = {}
    for file, location in _medication_files(top):
        for item in read_resources(location, file=file, kinds=(_MEDICATION,), progress=Progress()):
            if not isinstance(item, Quarantined):
                names[str(item[1].get("id"))] = _name_or_ingredients(item[1])
    return names


def _medication_files(path: str) -> list[tuple[str, str]]:
    where = top_folder(path)
    return find_files(where, field="path", patterns=patterns(_MEDICATION), exclude=_OTHER_MEDICATIONS, required=False)
