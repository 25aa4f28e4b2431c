"""Place of codes in their classification, for their cards: the headings above, and counterparts in the other ICD version.

ICD-10-CM has its whole tabular list (blocks and headings); ICD-9-CM's table has codes alone: chapter and category.
"""

from collections.abc import Sequence

from clinical_modernbert.sources import CodeEntry
from clinical_modernbert.sources.codes import Table
from clinical_modernbert.sources.codes.relations import (
    Mapping,
    Place,
    gem_location,
    read_gem,
    read_hierarchy,
    tabular_location,
)


def code_paths(table: Table, codes: Sequence[CodeEntry]) -> list[list[str]]:
    """Return for each code the headings above it, outermost first: ``["E00-E89 Endocrine ...", "E08-E13 ...", "E11 ..."]``."""
    if table == "icd9cm":
        return [
            [f"{entry.chapter_id} {entry.chapter}", f"{entry.code.partition('.')[0]} (category)"] for entry in codes
        ]
    places = read_hierarchy(tabular_location(None))
    return [_path(entry, places) for entry in codes]


def counterparts(table: Table, codes: Sequence[CodeEntry]) -> list[list[str]]:
    """Return for each code its counterparts in the other version, as CMS's General Equivalence Mappings have them.

    Approximate counterparts are marked; those that need several codes together are left out.
    """
    by_code: dict[str, list[str]] = {}
    for mapping in read_gem(gem_location()):
        if not mapping.combination:
            code, other = _sides(table, mapping)
            by_code.setdefault(code, []).append(f"{other} (approximately)" if mapping.approximate else other)
    return [by_code.get(entry.code, []) for entry in codes]


def _path(entry: CodeEntry, places: dict[str, Place]) -> list[str]:
    steps: list[str] = []
    # The tabular list has no codes with a seventh character: take the place of the longest code above them.
    above = entry.code
    while above and above not in places:
        above = above[:-1].rstrip(".")
    place = places.get(above)
    if place is None:
        return [f"{entry.chapter_id} {entry.chapter}"]
    code: str | None = above if above != entry.code else place.parent
    while code is not None:
        steps.append(f"{code} {places[code].description}")
        code = places[code].parent
    return [f"{entry.chapter_id} {entry.chapter}", f"{place.block_id} {place.block}", *reversed(steps)]


def _sides(table: Table, mapping: Mapping) -> tuple[str, str]:
    return (mapping.icd9, mapping.icd10) if table == "icd9cm" else (mapping.icd10, mapping.icd9)
