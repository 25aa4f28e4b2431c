"""Notes of a FHIR R4 bulk export: DocumentReference and DiagnosticReport in NDJSON, one document a resource, grouped by patient.

A resource offers its text in one or more forms, and the best of them is read: plain text, HTML, RTF. The form is inline, in a
Binary resource of the export, or in a file below it. ``superseded`` is no reason to drop: some exporters mark every note so. A
resource that was exported twice counts once, by its ``meta.lastUpdated``; one that another ``replaces`` is deleted. Addenda stay.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from typing import IO

from clinical_modernbert.artifacts.remote_files import open_location
from clinical_modernbert.errors import SourceError
from clinical_modernbert.recipe.sources import FhirSource
from clinical_modernbert.sources.document import (
    PATIENT,
    Deleted,
    Document,
    Dropped,
    Quarantined,
    Record,
    Unit,
    group_of,
)
from clinical_modernbert.sources.files import Progress, file_units, find_files, is_folder, path_field, size_of
from clinical_modernbert.sources.notes.attachments import AttachmentError, attachment_text, decoded, preference
from clinical_modernbert.sources.notes.fhir_resources import (
    PATIENT_FILES,
    Patients,
    Resource,
    UnusableError,
    last_part,
    patient_of,
    patients_of,
    patterns,
    read_resources,
    top_folder,
    updated,
)

_TYPES = ("DocumentReference", "DiagnosticReport")
_PATTERNS = patterns(*_TYPES)
_BINARIES = ("*Binary*.ndjson",)
_WITHDRAWN = ("entered-in-error", "cancelled")
_MOST_BYTES = 1 << 26


def units(source: FhirSource) -> list[Unit]:
    """Return the files with notes; the digest of each covers the files that its notes refer to."""
    found = file_units(source.name, find_files(source.path, field=path_field(source.name), patterns=_PATTERNS))
    others = file_units(source.name, _referred(source.path))
    if not others:
        return found
    digests = "\n".join(f"{unit.name} {unit.digest}" for unit in others)
    return [replace(u, digest=hashlib.sha256(f"{u.digest}\n{digests}".encode()).hexdigest()) for u in found]


def read(source: FhirSource, unit: Unit, progress: Progress) -> Iterator[Record]:
    """Yield one value for each resource, and one for each resource that it replaces."""
    top = top_folder(source.path)
    patients = patients_of(top, source.patient_identifier)
    for item in read_resources(unit.location, file=unit.name, kinds=_TYPES, progress=progress):
        if isinstance(item, Quarantined):
            yield item
            continue
        place, resource = item
        try:
            yield from _records(resource, source, top, patients)
        except (UnusableError, AttributeError, TypeError) as error:
            reason = str(error) if isinstance(error, UnusableError) else "not of FHIR R4's structure"
            name = resource.get("id")
            yield Quarantined(unit.name, place.position, reason, name if isinstance(name, str) else None, place.sha256)


def licence(source: FhirSource) -> None:
    """Return None: the notes are the user's own."""


def _records(resource: Resource, source: FhirSource, top: str, patients: Patients) -> Iterator[Record]:
    identifier, kind = resource.get("id"), resource["resourceType"]
    patient = patient_of(resource)
    if not isinstance(identifier, str) or not patient:
        raise UnusableError("no subject that is a patient" if isinstance(identifier, str) else "no id")
    name = f"{kind}/{identifier}"
    targets = [
        last_part((relation.get("target") or {}).get("reference"))
        for relation in resource.get("relatesTo") or ()
        if relation.get("code") == "replaces"
    ]
    number, version = patients.number(patient), updated(resource)
    if resource.get("status") in _WITHDRAWN or resource.get("docStatus") in _WITHDRAWN:
        yield Dropped("withdrawn", name, version)
        return
    text = _text(resource, top)
    if text is None:
        yield Dropped("no_text_form", name, version)
    elif not text.strip():
        yield Dropped("empty", name, version)
    else:
        yield Document(name, source.name, group_of(PATIENT, number), text, version, record=name)
    for target in filter(None, targets):
        yield Deleted(f"{kind}/{target}")


def _text(resource: Resource, top: str) -> str | None:
    """Return the text of the best form; None where no form has text."""
    forms = resource.get("presentedForm") or [content.get("attachment") for content in resource.get("content") or ()]
    ranked = [
        (rank, n) for n, form in enumerate(forms) if (rank := preference(form.get("contentType") or "")) is not None
    ]
    if not ranked:
        conclusion = resource.get("conclusion")
        return conclusion if isinstance(conclusion, str) else None
    form = forms[min(ranked)[1]]
    try:
        return attachment_text(_content(form, top), form["contentType"])
    except AttachmentError as error:
        raise UnusableError(f"the attachment is {error}") from None


def _content(form: Resource, top: str) -> bytes:
    data, url = form.get("data"), form.get("url")
    if isinstance(data, str):
        return decoded(data)
    if not isinstance(url, str):
        raise UnusableError("the attachment has neither data nor url")
    if re.search(r"(?:^|/)Binary/[^/]+$", url):
        return _binary(last_part(url), top)
    name = url.removeprefix("file://")
    if "://" in name or name.startswith("/") or ".." in name.split("/"):
        raise UnusableError("the attachment's url is no file below the export")
    try:
        with open_location(f"{top}/{name}") as stream:
            if size_of(stream) > _MOST_BYTES:
                raise UnusableError(f"the attachment has more than {_MOST_BYTES} bytes")
            return stream.read()
    except (OSError, ValueError):  # ValueError: a null character
        raise UnusableError("the attachment's url is no file below the export") from None


def _binary(identifier: str, top: str) -> bytes:
    place = _binaries(top).get(identifier)
    if place is None:
        raise UnusableError("the attachment's Binary is not in the export")
    location, offset, size = place
    stream = _binary_file(location)
    stream.seek(offset)
    data = json.loads(stream.read(size)).get("data")
    return decoded(data) if isinstance(data, str) else b""


@lru_cache(maxsize=4)
def _binary_file(location: str) -> IO[bytes]:
    # Stays open: in S3 the notes of an export that is in the order of its resources then share ranges.
    return open_location(location)


@lru_cache(maxsize=1)
def _binaries(top: str) -> dict[str, tuple[str, int, int]]:
    """Return where each Binary of an export is; one pass over its files in a process, about 200 bytes a resource."""
    places = {}
    try:
        files = find_files(top, field="path", patterns=_BINARIES)
    except SourceError:  # there are none
        return {}
    for _, location in files:
        offset = 0
        with open_location(location) as stream:
            # A longer line comes in parts, which are not JSON. The note of a broken one is quarantined: its Binary is not found.
            while line := stream.readline(_MOST_BYTES):
                with suppress(ValueError, KeyError, TypeError, RecursionError):
                    places[str(json.loads(line)["id"])] = (location, offset, len(line))
                offset += len(line)
    return places


def _referred(path: str) -> list[tuple[str, str]]:
    """Return the files that notes may refer to: Binary and Patient resources, and in a folder what is not FHIR."""
    known = (*_BINARIES, *PATIENT_FILES)
    files = []
    with suppress(SourceError):  # there are none
        files = find_files(top_folder(path), field="path", patterns=known)
    if is_folder(path):
        with suppress(SourceError):
            files += find_files(path, field="path", patterns=("*",), exclude=patterns(""))
    return files
