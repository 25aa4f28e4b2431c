"""What the readers of FHIR R4 share: resources of a file, references, names of concepts, and the patients of an export."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from clinical_modernbert.errors import SourceError
from clinical_modernbert.sources.document import Quarantined
from clinical_modernbert.sources.files import Progress, find_files, is_folder, read_chunks
from clinical_modernbert.sources.json_values import Value, read_values
from clinical_modernbert.sources.notes.table import version_number

Resource = dict[str, Any]
"""A FHIR resource as JSON has it."""
ENDINGS = ("ndjson", "ndjson.gz", "json")
PATIENT_FILES = tuple(f"*Patient*.{ending}" for ending in ENDINGS)


class UnusableError(Exception):
    """A resource that no text can be made of; the message says why, without any of it."""


def patterns(*kinds: str) -> tuple[str, ...]:
    """Return the patterns of the files with resources of ``kinds``: ``1.Condition.000.ndjson``, ``MimicCondition.ndjson.gz``."""
    return tuple(f"*{kind}*.{ending}" for kind in kinds for ending in ENDINGS)


def top_folder(path: str) -> str:
    """Return the folder of an export of which ``path`` is the folder or one file."""
    return path.rstrip("/") if is_folder(path) else path.rpartition("/")[0] or "."


def read_resources(
    location: str, *, file: str, kinds: tuple[str, ...], progress: Progress
) -> Iterator[tuple[Value, Resource] | Quarantined]:
    """Yield each resource of a file with its place; one of another type is quarantined."""
    for item in read_values(read_chunks(location, progress), file=file):
        if isinstance(item, Quarantined):
            yield item
        elif not isinstance(item.value, dict) or item.value.get("resourceType") not in kinds:
            names = ", ".join(kinds[:-1]) + f" or {kinds[-1]}" if len(kinds) > 1 else kinds[0]
            yield Quarantined(file, item.position, f"expected a resource of type {names}", sha256=item.sha256)
        else:
            yield item, item.value


def last_part(reference: object) -> str:
    """``Patient/7``, ``https://host/fhir/Patient/7/_history/2`` and ``urn:uuid:7`` -> ``7``."""
    text = reference.partition("/_history/")[0] if isinstance(reference, str) else ""
    return re.split(r"[/:]", text)[-1]


def patient_of(resource: Resource) -> str:
    """Return the id of a resource's patient; empty where its subject is none, is contained, or is only searched for."""
    reference = (resource.get("subject") or {}).get("reference")
    if not isinstance(reference, str) or reference.startswith("#") or "?" in reference:
        return ""
    kind = re.search(r"(?:^|/)([A-Z][A-Za-z]+)/[^/]+(?:/_history/.*)?$", reference)
    return last_part(reference) if kind is None or kind[1] == "Patient" else ""


def updated(resource: Resource) -> int:
    """Return the version of a resource by the time of its last update; 1 where it states none."""
    stated = (resource.get("meta") or {}).get("lastUpdated")
    return (version_number(stated) if stated else None) or 1


def concept_name(concept: object) -> str:
    """Return a CodeableConcept in words: its text, else the display of a coding, else a code."""
    if isinstance(concept, list):  # R5, and exporters that write a list where R4 has one
        concept = concept[0] if concept else None
    if not isinstance(concept, dict):
        return ""
    codings = [concept, *(coding for coding in concept.get("coding") or () if isinstance(coding, dict))]
    found = [*(coding.get(field) for field in ("text", "display", "code") for coding in codings)]
    return next((" ".join(name.split()) for name in found if isinstance(name, str) and name.strip()), "")


@dataclass(frozen=True, slots=True)
class Patients:
    """The patients of an export, as its Patient resources state them."""

    numbers: Mapping[str, str]
    """Id of a resource -> number, where it is not the id itself; empty where there is none."""
    are_identified: bool
    """Whether numbers are identifiers, so that a patient without one has no number."""

    def number(self, name: str) -> str:
        """Return the number by which a patient is held out; raises ``UnusableError`` where it has none."""
        number = self.numbers.get(name, "" if self.are_identified else name)
        if not number:
            raise UnusableError("the patient has no identifier of patient_identifier")
        return number


@lru_cache(maxsize=1)
def patients_of(top: str, identifier: str | None) -> Patients:
    """Return the patients of the export in ``top``; one that another replaces (``link``) has the number of that one.

    ``identifier`` is the system, or the code of the type, of the identifier that is the number. Raises ``SourceError`` for a
    Patient resource that cannot be read: patients would be in two groups.
    """
    numbers: dict[str, str] = {}
    replaced: dict[str, str] = {}
    for place, resource in _patients(top):
        try:
            name = str(resource["id"])
            if identifier is not None:
                numbers[name] = _identifier(resource, identifier)
            for link in resource.get("link") or ():
                other = last_part((link.get("other") or {}).get("reference"))
                if other and link.get("type") in ("replaced-by", "replaces"):
                    old, new = (name, other) if link["type"] == "replaced-by" else (other, name)
                    replaced[old] = new
        except (AttributeError, KeyError, TypeError):
            raise SourceError(f"{place}: the patient is not of FHIR R4's structure; repair or remove it") from None
    for name in replaced:
        final, seen = name, set[str]()
        while final in replaced and final not in seen:
            seen.add(final)
            final = replaced[final]
        numbers[name] = numbers.get(final, "" if identifier is not None else final)
    return Patients(numbers, identifier is not None)


def _patients(top: str) -> Iterator[tuple[str, Resource]]:
    for name, location in find_files(top, field="path", patterns=PATIENT_FILES, required=False):
        for item in read_resources(location, file=name, kinds=("Patient",), progress=Progress()):
            if isinstance(item, Quarantined):
                raise SourceError(f"{name}, {item.position}: {item.reason}; it decides the groups: repair or remove it")
            yield f"{name}, {item[0].position}", item[1]


def _identifier(patient: Resource, wanted: str) -> str:
    for identifier in patient.get("identifier") or ():
        codes = [coding.get("code") for coding in (identifier.get("type") or {}).get("coding") or ()]
        if wanted in (identifier.get("system"), *codes) and identifier.get("use") != "old":
            return str(identifier.get("value") or "").strip()
    return ""
