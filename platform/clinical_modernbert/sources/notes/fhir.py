"""Notes of a FHIR R4 bulk export: DocumentReference and DiagnosticReport in NDJSON, one document a resource, grouped by patient.

A resource offers its text in one or more forms, and the best of them is read: plain text, HTML, RTF. The form is inline, in a
Binary resource of the export, or in a file below it; different texts in one form are its pages. ``superseded`` is no reason to
drop: some exporters mark every note so. A resource that was exported twice counts once, by its ``meta.lastUpdated``; one that
another ``replaces`` is deleted. Addenda stay.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

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
from clinical_modernbert.sources.files import (
    Progress,
    all_files,
    file_units,
    find_files,
    is_folder,
    named,
    path_field,
    read_chunks,
)
from clinical_modernbert.sources.inflate import DamagedFileError
from clinical_modernbert.sources.notes.attachments import AttachmentError, attachment_text, decoded, preference
from clinical_modernbert.sources.notes.fhir_binaries import BINARY_FILES, binary_data
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
_WITHDRAWN = ("entered-in-error", "cancelled")
_MOST_BYTES = 1 << 26


@dataclass(frozen=True, slots=True)
class _Export:
    """What the resources of a file refer to."""

    top: str
    """Its folder."""
    patients: Patients
    progress: Progress
    """Of the file that is read."""


def units(source: FhirSource) -> list[Unit]:
    """Return the files with notes; the digest of each covers the files that its notes refer to."""
    found = file_units(source.name, find_files(source.path, field=path_field(source.name), patterns=_PATTERNS))
    others = file_units(source.name, _referred(source))
    if not others:
        return found
    digests = "\n".join(f"{unit.name} {unit.digest}" for unit in others)
    return [replace(u, digest=hashlib.sha256(f"{u.digest}\n{digests}".encode()).hexdigest()) for u in found]


def read(source: FhirSource, unit: Unit, progress: Progress) -> Iterator[Record]:
    """Yield one value for each resource, and one for each resource that it replaces."""
    top = top_folder(source.path)
    export = _Export(top, patients_of(top, source.patient_identifier), progress)
    for item in read_resources(unit.location, file=unit.name, kinds=_TYPES, progress=progress):
        if isinstance(item, Quarantined):
            yield item
            continue
        place, resource = item
        try:
            yield from _records(resource, source, export)
        except (UnusableError, AttributeError, TypeError) as error:
            reason = str(error) if isinstance(error, UnusableError) else "not of FHIR R4's structure"
            name = resource.get("id")
            yield Quarantined(unit.name, place.position, reason, name if isinstance(name, str) else None, place.sha256)


def licence(source: FhirSource) -> None:
    """Return None: the notes are the user's own."""


def _records(resource: Resource, source: FhirSource, export: _Export) -> Iterator[Record]:
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
    number, version = export.patients.number(patient), updated(resource)
    if resource.get("status") in _WITHDRAWN or resource.get("docStatus") in _WITHDRAWN:
        yield Dropped("withdrawn", name, version)
        return
    text = _text(resource, export)
    if text is None:
        yield Dropped("no_text_form", name, version)
    elif not text.strip():
        yield Dropped("empty", name, version)
    else:
        yield Document(name, source.name, group_of(PATIENT, number), text, version, record=name)
    for target in filter(None, targets):
        yield Deleted(f"{kind}/{target}")


def _text(resource: Resource, export: _Export) -> str | None:
    """Return the text of the best form; None where no form has text."""
    forms = resource.get("presentedForm") or [content.get("attachment") for content in resource.get("content") or ()]
    ranked: dict[int, list[Resource]] = {}
    for form in forms:
        if (rank := preference(form.get("contentType") or "")) is not None:
            ranked.setdefault(rank, []).append(form)
    if not ranked:
        conclusion = resource.get("conclusion")
        return conclusion if isinstance(conclusion, str) else None
    # A form may be stated without its content: as a title, or where an exporter did not fetch it.
    with_content = {rank: found for rank, items in ranked.items() if (found := [*filter(_has_content, items)])}
    best = with_content[min(with_content)] if with_content else ranked[min(ranked)]
    try:
        texts = [attachment_text(_content(form, export), form["contentType"]) for form in best]
    except AttachmentError as error:
        raise UnusableError(f"the attachment is {error}") from None
    return "\n\n".join(dict.fromkeys(filter(str.strip, texts)))


def _has_content(form: Resource) -> bool:
    return isinstance(form.get("data"), str) or isinstance(form.get("url"), str)


def _content(form: Resource, export: _Export) -> bytes:
    data, url = form.get("data"), form.get("url")
    if isinstance(data, str):
        return decoded(data)
    if not isinstance(url, str):
        raise UnusableError("the attachment has neither data nor url")
    if re.search(r"(?:^|/)Binary/[^/]+(?:/_history/[^/]+)?$", url):
        data = binary_data(last_part(url), export.top, export.progress)
        if data is None:
            raise UnusableError("the attachment's Binary is not in the export")
        return decoded(data)
    name = url.removeprefix("file://")
    if "://" in name or name.startswith("/") or ".." in name.split("/"):
        raise UnusableError("the attachment's url is no file below the export")
    try:
        content = bytearray()
        for chunk in read_chunks(f"{export.top}/{name}"):
            content += chunk
            if len(content) > _MOST_BYTES:
                raise UnusableError(f"the attachment has more than {_MOST_BYTES} bytes")
        return bytes(content)
    except DamagedFileError as error:
        raise UnusableError(f"the attachment's file is damaged ({error.reason})") from None
    except (OSError, ValueError):  # ValueError: a null character
        raise UnusableError("the attachment's url is no file below the export") from None


def _referred(source: FhirSource) -> list[tuple[str, str]]:
    """Return the files that notes may refer to: Binary and Patient resources, and in a folder what is not FHIR."""
    path = source.path
    files = find_files(
        top_folder(path), field=path_field(source.name), patterns=(*BINARY_FILES, *PATIENT_FILES), required=False
    )
    if is_folder(path):
        files += [file for file in all_files(path) if not named(file[0], patterns(""))]
    return files
