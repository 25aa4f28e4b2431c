"""Pairs of ICD descriptions: the tabular list of ICD-10-CM, and the crosswalk from ICD-9-CM."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clinical_modernbert.errors import SourceError
from clinical_modernbert.recipe.terms import CrosswalkTerms, TabularTerms
from clinical_modernbert.sources.codes.diagnoses import code_group, code_table, table_location
from clinical_modernbert.sources.codes.relations import (
    gem_location,
    read_gem,
    read_hierarchy,
    read_tabular,
    tabular_location,
)
from clinical_modernbert.sources.document import Dropped
from clinical_modernbert.sources.terms.term import Follows, Term, TermPair, TermRecord, code_term, one_line

_NOTES = ("inclusionTerm", "includes")


def tabular_files(source: TabularTerms) -> list[Path]:
    """Return the tabular list, and the code list for the relation that reads it."""
    codes = [table_location("icd10cm", source.codes_path)] if source.relation == "parent" else []
    return [tabular_location(source.path), *codes]


def read_tabular_pairs(source: TabularTerms) -> Iterator[TermRecord]:
    """Yield the pairs of the source's relation."""
    location = tabular_location(source.path)
    if source.relation == "parent":
        yield from _parents(source, location)
    else:
        yield from _chapters(location) if source.relation == "chapter" else _inclusions(location)


def _chapters(location: Path) -> Iterator[TermRecord]:
    """Yield each category with the titles of its block and of its chapter. A block or chapter is a concept of its own."""
    for code, place in read_hierarchy(location).items():
        if place.parent is not None:
            continue
        names = tuple(f"icd10cm:{name}" for name in (code, place.block_id, place.chapter_id))
        category, block, chapter = (
            Term(text, names[level:], is_held_out_alone=True)
            for level, text in enumerate((place.description, place.block, place.chapter))
        )
        yield TermPair("parent", category, block)
        yield TermPair("parent", category, chapter)


def _parents(source: TabularTerms, location: Path) -> Iterator[TermRecord]:
    places = read_hierarchy(location)
    texts = {code: place.description for code, place in places.items()}
    for entry in code_table("icd10cm", source.codes_path):
        texts.setdefault(entry.code, entry.description)
    for code, text in texts.items():
        parent = _above(code, places)
        if parent is not None:
            yield TermPair("parent", code_term(text, "icd10cm", code), code_term(texts[parent], "icd10cm", parent))


def _above(code: str, places: dict[str, Any]) -> str | None:
    """Return the nearest code above ``code`` in the tabular list; None for a category and for a category it does not have."""
    while "." in code:
        code = code[:-1].removesuffix(".")
        if code in places:
            return code
    return None


def _inclusions(location: Path) -> Iterator[TermRecord]:
    for diag in read_tabular(location).iter("diag"):
        code, description = diag.findtext("name", "").strip(), one_line(diag.findtext("desc", ""))
        positive = code_term(description, "icd10cm", code)
        for tag in _NOTES:
            for note in (note for group in diag.iterchildren(tag) for note in group.iterchildren("note")):
                text = one_line("".join(note.itertext()))
                yield TermPair("inclusion", code_term(text, "icd10cm", code), positive)


def crosswalk_files(source: CrosswalkTerms) -> list[Path]:
    """Return the crosswalk and both code lists."""
    tables = table_location("icd9cm", source.icd9_path), table_location("icd10cm", source.icd10_path)
    return [_crosswalk(source), *tables]


def read_crosswalk_pairs(source: CrosswalkTerms) -> Iterator[TermRecord]:
    """Yield a pair for each mapping; the ICD-10-CM category is held out with every ICD-9-CM category that leads to it."""
    icd9 = {entry.code: entry.description for entry in code_table("icd9cm", source.icd9_path)}
    icd10 = {entry.code: entry.description for entry in code_table("icd10cm", source.icd10_path)}
    for mapping in read_gem(_crosswalk(source)):
        yield Follows(code_group("icd10cm", mapping.icd10), code_group("icd9cm", mapping.icd9))
        if mapping.icd9 not in icd9 or mapping.icd10 not in icd10:
            yield Dropped("no_description")
            continue
        anchor = code_term(icd9[mapping.icd9], "icd9cm", mapping.icd9)
        yield TermPair("crosswalk", anchor, code_term(icd10[mapping.icd10], "icd10cm", mapping.icd10))


def _crosswalk(source: CrosswalkTerms) -> Path:
    if source.path is None:
        return gem_location()
    if not Path(source.path).is_file():
        raise SourceError(f"sources[{source.name}].path: {source.path!r} is not a file; expected a GEM file")
    return Path(source.path)
