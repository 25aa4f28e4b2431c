"""Notes of a FHIR R4 bulk export: DocumentReference and DiagnosticReport in NDJSON, one document a resource, grouped by patient.

A resource offers its text in one or more forms, and the best of them is read: plain text, HTML, RTF. The form is inline, in a
Binary resource of the export, or in a file below it. ``superseded`` is no reason to drop: some exporters mark every note so. A
resource that was exported twice counts once, by its ``meta.lastUpdated``; one that another ``replaces`` is deleted. Addenda stay.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from clinical_modernbert.artifacts.remote_files import fetched, local_copy
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
from clinical_modernbert.sources.files import Progress, file_units, find_files, is_folder, path_field, read_chunks
from clinical_modernbert.sources.json_values import read_values
from clinical_modernbert.sources.notes.attachments import AttachmentError, attachment_text, preference
from clinical_modernbert.sources.notes.table import version_number

_TYPES = ("DocumentReference", "DiagnosticReport")
_PATTERNS = tuple(f"*{kind}*.{ending}" for kind in _TYPES for ending in ("ndjson", "ndjson.gz", "json"))
_BINARIES = ("*Binary*.ndjson",)
_WITHDRAWN = ("entered-in-error", "cancelled")
_MOST_BYTES = 1 << 26

Resource = dict[str, Any]
"""A FHIR resource as JSON has it."""


class _NoTextError(Exception):
    """A resource's text cannot be had; the message says why, without any of it."""


def units(source: FhirSource) -> list[Unit]:
    """Return the files with notes."""
    return file_units(source.name, find_files(source.path, field=path_field(source.name), patterns=_PATTERNS))


def read(source: FhirSource, unit: Unit, progress: Progress) -> Iterator[Record]:
    """Yield one value for each resource, and one for each resource that it replaces."""
    top = source.path.rstrip("/") if is_folder(source.path) else source.path.rpartition("/")[0] or "."
    for item in read_values(read_chunks(Path(unit.location), progress), file=unit.name):
        if isinstance(item, Quarantined):
            yield item
        elif not isinstance(item.value, dict) or item.value.get("resourceType") not in _TYPES:
            reason = f"expected a resource of type {' or '.join(_TYPES)}"
            yield Quarantined(unit.name, item.position, reason, sha256=item.sha256)
        else:
            try:
                yield from _records(item.value, source, top)
            except (_NoTextError, AttributeError, TypeError) as error:
                reason = str(error) if isinstance(error, _NoTextError) else "not of FHIR R4's structure"
                name = item.value.get("id")
                yield Quarantined(
                    unit.name, item.position, reason, name if isinstance(name, str) else None, item.sha256
                )


def licence(source: FhirSource) -> None:
    """Return None: the notes are the user's own."""


def _records(resource: Resource, source: FhirSource, top: str) -> Iterator[Record]:
    identifier, kind = resource.get("id"), resource["resourceType"]
    patient = _last_part((resource.get("subject") or {}).get("reference"))
    if not isinstance(identifier, str) or not patient:
        raise _NoTextError("no subject" if isinstance(identifier, str) else "no id")
    name = f"{kind}/{identifier}"
    targets = [
        _last_part((relation.get("target") or {}).get("reference"))
        for relation in resource.get("relatesTo") or ()
        if relation.get("code") == "replaces"
    ]
    updated = (resource.get("meta") or {}).get("lastUpdated")
    version = (version_number(updated) if updated else None) or 1
    if resource.get("status") in _WITHDRAWN or resource.get("docStatus") in _WITHDRAWN:
        yield Dropped("withdrawn", name, version)
        return
    text = _text(resource, top)
    if text is None:
        yield Dropped("no_text_form", name, version)
    elif not text.strip():
        yield Dropped("empty", name, version)
    else:
        yield Document(name, source.name, group_of(PATIENT, patient), text, version, record=name)
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
        raise _NoTextError(f"the attachment is {error}") from None


def _content(form: Resource, top: str) -> bytes:
    data, url = form.get("data"), form.get("url")
    if isinstance(data, str):
        return _decoded(data)
    if not isinstance(url, str):
        raise _NoTextError("the attachment has neither data nor url")
    if re.search(r"(?:^|/)Binary/[^/]+$", url):
        return _binary(_last_part(url), top)
    name = url.removeprefix("file://")
    if "://" in name or name.startswith("/") or ".." in name.split("/"):
        raise _NoTextError("the attachment's url is no file below the export")
    with ExitStack() as opened:
        try:
            path = opened.enter_context(fetched(f"{top}/{name}"))
            if path.stat().st_size > _MOST_BYTES:
                raise _NoTextError(f"the attachment has more than {_MOST_BYTES} bytes")
            return path.read_bytes()
        except (OSError, KeyError, ValueError):  # ValueError: a null character
            raise _NoTextError("the attachment's url is no file below the export") from None


def _binary(identifier: str, top: str) -> bytes:
    place = _binaries(top).get(identifier)
    if place is None:
        raise _NoTextError("the attachment's Binary is not in the export")
    path, offset = place
    with path.open("rb") as stream:
        stream.seek(offset)
        data = json.loads(stream.readline()).get("data")
    return _decoded(data) if isinstance(data, str) else b""


@lru_cache(maxsize=1)
def _binaries(top: str) -> dict[str, tuple[Path, int]]:
    """Return where each Binary of an export is; one pass over its files in a process, about 200 bytes a resource."""
    places = {}
    try:
        files = find_files(top, field="path", patterns=_BINARIES)
    except SourceError:  # there are none
        return {}
    for _, location in files:
        path, offset = local_copy(location), 0
        with path.open("rb") as stream:
            # A longer line comes in parts, which are not JSON. The note of a broken one is quarantined: its Binary is not found.
            while line := stream.readline(_MOST_BYTES):
                with suppress(ValueError, KeyError, TypeError, RecursionError):
                    places[str(json.loads(line)["id"])] = (path, offset)
                offset += len(line)
    return places


def _decoded(data: str) -> bytes:
    try:
        return base64.b64decode("".join(data.split()), validate=True)
    except (binascii.Error, ValueError):
        raise _NoTextError("the attachment is no base64") from None


def _last_part(reference: object) -> str:
    """``Patient/7``, ``https://host/fhir/Patient/7/_history/2`` and ``urn:uuid:7`` -> ``7``."""
    text = reference.partition("/_history/")[0] if isinstance(reference, str) else ""
    return re.split(r"[/:]", text)[-1]
