"""C-CDA documents (HL7 CDA R2): the narrative of their sections, one document a file, grouped by patient.

A section is its title and its text; one with a ``nullFlavor`` has none, and what a revision deleted is left out. The entries,
which code the same facts for machines, are not read. Of a document set the highest version counts, and a document that another
replaces is deleted; addenda stay. No entity is expanded, and a document type declaration is refused: CDA has none.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from clinical_modernbert.recipe.sources import CcdaSource
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
from clinical_modernbert.sources.files import Progress, file_units, find_files, path_field, read_chunks
from clinical_modernbert.sources.inflate import DamagedFileError
from clinical_modernbert.sources.notes.attachments import (
    AttachmentError,
    attachment_text,
    decoded,
    element_text,
    preference,
)
from clinical_modernbert.sources.xml_document import local_name, read_root

_PATTERNS = tuple(f"*.{ending}{packed}" for ending in ("xml", "XML", "ccda", "cda") for packed in ("", ".gz"))
_SSN_ROOT = "2.16.840.1.113883.4.1"
_LOINC = "2.16.840.1.113883.6.1"
# LOINC's names of the sections that C-CDA's templates require, for a section without title.
_TITLES = {
    "10154-3": "Chief complaint",
    "10157-6": "Family history",
    "10160-0": "Medications",
    "10164-2": "History of present illness",
    "10183-2": "Discharge medications",
    "10187-3": "Review of systems",
    "11348-0": "Past medical history",
    "11369-6": "Immunizations",
    "11450-4": "Problems",
    "11535-2": "Discharge diagnosis",
    "18776-5": "Plan of treatment",
    "29545-1": "Physical findings",
    "29762-2": "Social history",
    "30954-2": "Results",
    "46240-8": "Encounters",
    "47519-4": "Procedures",
    "48765-2": "Allergies",
    "51848-0": "Assessment",
    "8648-8": "Hospital course",
    "8716-3": "Vital signs",
}


def units(source: CcdaSource) -> list[Unit]:
    """Return the documents' files."""
    return file_units(source.name, find_files(source.path, field=path_field(source.name), patterns=_PATTERNS))


def read(source: CcdaSource, unit: Unit, progress: Progress) -> Iterator[Record]:
    """Yield one value for the document, and one for each document that it replaces."""
    return read_document(read_chunks(unit.location, progress), file=unit.name, source=source)


def licence(source: CcdaSource) -> None:
    """Return None: the documents are the user's own."""


def read_document(chunks: Iterable[bytes], *, file: str, source: CcdaSource) -> Iterator[Record]:
    """Yield the document of a file; without text it is dropped as ``no_text_form`` (a scan) or ``empty``."""
    try:
        root = read_root(chunks)
    except DamagedFileError as error:
        yield Quarantined(file, error.position, error.reason)
        return
    if root.getroottree().docinfo.internalDTD is not None:
        yield Quarantined(file, "line 1", "a document type declaration, which CDA does not have")
    elif local_name(root) != "ClinicalDocument":
        yield Quarantined(file, "line 1", "the root element is not ClinicalDocument")
    else:
        yield from _records(root, file, source)


def _records(root: Any, file: str, source: CcdaSource) -> Iterator[Record]:
    name, patient = _document_name(root), _patient(root, source)
    if not name or not patient:
        yield Quarantined(file, "line 1", "no id of the patient" if name else "no id", name or None)
        return
    number = root.find("{*}versionNumber")
    stated = "" if number is None else number.get("value", "")
    version = int(stated) if stated.isascii() and stated.isdigit() and len(stated) < 10 else 1
    try:
        text = _text(root, source)
    except AttachmentError as error:
        yield Quarantined(file, "line 1", f"the body is {error}", name)
        return
    if text is None:
        yield Dropped("no_text_form", name, version)
    elif not text:
        yield Dropped("empty", name, version)
    else:
        yield Document(name, source.name, group_of(PATIENT, patient), text, version, record=name)
    for related in root.iterfind("{*}relatedDocument"):
        for parent in related.iterfind("{*}parentDocument"):
            replaced = _document_name(parent)
            if related.get("typeCode") == "RPLC" and replaced not in ("", name):
                yield Deleted(replaced)


def _document_name(element: Any) -> str:
    """Return the set that a document is a version of, or its own id: ``root/extension``, or one of them."""
    for place in ("{*}setId", "{*}id"):
        found = element.find(place)
        if found is not None and (parts := [found.get(part) for part in ("root", "extension") if found.get(part)]):
            return "/".join(parts)
    return ""


def _patient(root: Any, source: CcdaSource) -> str:
    """Return the patient's number: of the root that the source names, else of the first id that is no social security number."""
    ids = [
        element
        for element in root.iterfind("{*}recordTarget/{*}patientRole/{*}id")
        if element.get("nullFlavor") is None and (element.get("extension") or element.get("root"))
    ]
    if source.patient_root is not None:
        ids = [element for element in ids if element.get("root") == source.patient_root]
    ids.sort(key=lambda element: element.get("root") == _SSN_ROOT)
    return (ids[0].get("extension") or ids[0].get("root")) if ids else ""


def _text(root: Any, source: CcdaSource) -> str | None:
    """Return the narrative; None where the body is a picture or a PDF."""
    body = root.find("{*}component/{*}nonXMLBody/{*}text")
    if body is not None and source.sections is None:
        return _unstructured(body)
    parts: list[str] = []
    for component in root.iterfind("{*}component/{*}structuredBody/{*}component"):
        parts += _section_texts(component.find("{*}section"), source.sections)
    return "\n\n".join(parts)


def _section_texts(section: Any, wanted: tuple[str, ...] | None) -> Iterator[str]:
    """Yield the text of a section and of those in it; below a wanted section all are wanted."""
    if section is None or section.get("nullFlavor") is not None:
        return
    code = section.find("{*}code")
    loinc = "" if code is None or code.get("codeSystem", _LOINC) != _LOINC else code.get("code", "")
    below = None if wanted is None or loinc in wanted else wanted
    if below is None:
        text = section.find("{*}text")
        narrative = "" if text is None or text.get("nullFlavor") is not None else element_text(_without_deleted(text))
        if narrative:
            title = section.find("{*}title")
            head = "" if title is None else " ".join("".join(title.itertext()).split())
            head = head or ("" if code is None else code.get("displayName", "")) or _TITLES.get(loinc, "")
            yield f"{head}\n{narrative}" if head else narrative
    for component in section.iterfind("{*}component"):
        yield from _section_texts(component.find("{*}section"), below)


def _without_deleted(text: Any) -> Any:
    """Take out what a revision deleted, and keep what follows it."""
    for element in list(text.iter("{*}content")):
        if element.get("revised") == "delete" and (parent := element.getparent()) is not None:
            before = element.getprevious()
            if before is None:
                parent.text = (parent.text or "") + (element.tail or "")
            else:
                before.tail = (before.tail or "") + (element.tail or "")
            parent.remove(element)
    return text


def _unstructured(body: Any) -> str | None:
    kind = body.get("mediaType", "text/plain")
    if preference(kind) is None:
        return None
    stated = "".join(body.itertext())
    if body.get("representation") != "B64":
        return attachment_text(stated.encode("utf-8", "replace"), kind.partition(";")[0]).strip()
    return attachment_text(decoded(stated), kind).strip()
