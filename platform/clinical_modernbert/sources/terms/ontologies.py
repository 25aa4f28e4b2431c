"""Pairs of ontologies: Disease Ontology as tables, any ontology in OBO 1.2 (the Human Phenotype Ontology), SNOMED CT in RF2.

MeSH is in ``headings``.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from clinical_modernbert.errors import SourceError
from clinical_modernbert.recipe.terms import DiseaseOntologyTerms, OboTerms, SnomedTerms
from clinical_modernbert.sources.codes.diagnoses import code_table, table_location
from clinical_modernbert.sources.document import Dropped, Quarantined
from clinical_modernbert.sources.terms.rows import existing, read_rows, whole_lines
from clinical_modernbert.sources.terms.term import Follows, IsA, Term, TermPair, TermRecord, code_term, one_line

# Resource of a cross reference -> system of its concepts. A prefix of ours is never an id of theirs.
_CODES = {"ICD9": "icd9cm", "ICD9CM": "icd9cm", "ICD10": "icd10cm", "ICD-10": "icd10cm", "ICD10CM": "icd10cm"}
_CONCEPTS = {
    "MSH": "mesh",
    "MESH": "mesh",
    "UMLS": "umls",
    "UMLS_CUI": "umls",
    "SNOMEDCT": "snomed",
    "SNOMEDCT_US": "snomed",
    "SCTID": "snomed",
}
# The Disease Ontology names SNOMED CT's release: SNOMEDCT_US_2023_03_01.
_RELEASE = re.compile(r"_\d{4}_\d{2}_\d{2}$")
# ``synonym: "text" SCOPE type [xrefs] {qualifiers} ! comment``, in OBO 1.0 ``exact_synonym: "text" [xrefs]``.
_SYNONYM = re.compile(
    r'(?:(exact|related|narrow|broad)_)?synonym:\s*"((?:[^"\\]|\\.)*)"'
    r"(?:\s+(exact|related|narrow|broad)\b(?:\s+([^\[{!]+?))?)?\s*(?:[\[{!].*)?$",
    re.IGNORECASE,
)
_SYNONYM_TAG = re.compile(r"(?:\w+_)?synonym:")
_ESCAPE = re.compile(r"\\(.)")
_TAG = re.compile(r"\s*\([^()]*\)$")
_FULLY_SPECIFIED, _RF2_SYNONYM = "900000000000003001", "900000000000013009"


def disease_ontology_files(source: DiseaseOntologyTerms) -> list[Path]:
    """Return the tables of names and cross references, and the ICD-9-CM list."""
    tables = existing(source.path, source, "path"), existing(source.references_path, source, "references_path")
    return [*tables, table_location("icd9cm", source.icd9_path)]


def read_disease_ontology(source: DiseaseOntologyTerms) -> Iterator[TermRecord]:
    """Yield synonym and name of each term, its names and the ICD-9-CM description that it refers to, or the descriptions below
    the code that it refers to and its name, which is more general.

    A term is held out with the ICD categories that it refers to; what it shares with other vocabularies is held out with it.
    """
    names: dict[str, str] = {}
    synonyms: list[tuple[str, str]] = []
    for row in read_rows(existing(source.path, source, "path"), ("doid", "name", "type"), quoted=False):
        if isinstance(row, Quarantined):
            yield row
        elif row[2] == "name":
            names[row[0]] = one_line(row[1])
        else:
            synonyms.append((row[0], one_line(row[1])))
    for doid, text in synonyms:
        if doid in names:
            concept = (doid.lower(),)
            yield TermPair("synonym", Term(text, concept), Term(names[doid], concept))
        else:
            yield Dropped("no_name")
    terms = {doid: [Term(text, (doid.lower(),))] for doid, text in names.items()}
    for doid, text in synonyms:
        if doid in terms:
            terms[doid].append(Term(text, (doid.lower(),)))
    yield from _references(source, terms)


def _references(source: DiseaseOntologyTerms, terms: dict[str, list[Term]]) -> Iterator[TermRecord]:
    """Yield the pairs of the cross references; ``terms`` has the name of each term, then its synonyms."""
    icd9 = {
        entry.code: code_term(entry.description, "icd9cm", entry.code)
        for entry in code_table("icd9cm", source.icd9_path)
    }
    below: dict[str, list[Term]] = defaultdict(list)
    for code in icd9.values():
        for above in code.lineage[1:]:
            below[above].append(code)
    columns = ("doid_code", "resource", "resource_id")
    for row in read_rows(existing(source.references_path, source, "references_path"), columns, quoted=False):
        if isinstance(row, Quarantined):
            yield row
            continue
        doid, resource, target = row
        yield from _links(doid.lower(), resource, target)
        if _CODES.get(resource) != "icd9cm":
            continue
        found = terms.get(doid, [])
        if found and target in icd9:
            yield from (TermPair("cross_reference", term, icd9[target]) for term in found)
        elif found and f"icd9cm:{target}" in below:
            yield from (TermPair("parent", code, found[0]) for code in below[f"icd9cm:{target}"])
        else:
            yield Dropped("no_description")


def _links(concept: str, resource: str, target: str) -> Iterator[Follows]:
    """Yield that a concept goes with the ICD category it refers to, and that other vocabularies go with the concept."""
    resource = _RELEASE.sub("", resource)
    if table := _CODES.get(resource):
        yield Follows(concept, f"{table}:{target.partition('.')[0]}")
    elif system := _CONCEPTS.get(resource):
        yield Follows(f"{system}:{target}", concept)


def obo_files(source: OboTerms) -> list[Path]:
    """Return the ontology."""
    return [existing(source.path, source, "path")]


def read_obo(source: OboTerms) -> Iterator[TermRecord]:
    """Yield synonym and name of each term that is not obsolete, and the terms above it."""
    location = existing(source.path, source, "path")
    stanza: list[str] = []
    first = num_terms = 0
    for number, line in whole_lines(location):
        if line.startswith("["):
            num_terms += stanza[:1] == ["[Term]"]
            yield from _stanza(stanza, source, first_line=first)
            stanza, first = [], number
        stanza.append(line.strip())
    num_terms += stanza[:1] == ["[Term]"]
    yield from _stanza(stanza, source, first_line=first)
    if not num_terms:
        raise SourceError(
            f"sources[{source.name}].path: {location.name} has no [Term]; expected an ontology in OBO 1.2"
        )


def _stanza(lines: list[str], source: OboTerms, *, first_line: int) -> Iterator[TermRecord]:
    if lines[:1] != ["[Term]"]:
        return
    values = {tag: value for tag, _, value in (line.partition(": ") for line in lines[1:]) if tag in ("id", "name")}
    if "is_obsolete: true" in lines or values.keys() != {"id", "name"}:
        yield Dropped("obsolete" if "is_obsolete: true" in lines else "no_name")
        return
    concept = values["id"].lower()
    name = Term(one_line(values["name"]), (concept,))
    for number, line in enumerate(lines, start=first_line):
        if line.startswith("xref: "):
            stated, _, target = line.removeprefix("xref: ").split(" ")[0].partition(":")
            resource = _RELEASE.sub("", stated)
            if table := _CODES.get(resource):
                yield Follows(concept, f"{table}:{target.partition('.')[0]}")
            elif system := _CONCEPTS.get(resource):
                yield Follows(concept, f"{system}:{target}")
        elif line.startswith("is_a: "):
            yield IsA(concept, line.removeprefix("is_a: ").split(" ")[0].lower())
        elif _SYNONYM_TAG.match(line):
            yield _synonym(line, name, source, position=f"line {number}")


def _synonym(line: str, name: Term, source: OboTerms, *, position: str) -> TermRecord:
    match = _SYNONYM.match(line)
    if match is None:
        reason = 'no synonym of OBO 1.2; expected synonym: "text" EXACT (or RELATED, NARROW, BROAD) []'
        return Quarantined(Path(source.path).name, position, reason)
    scope, kind = (match[3] or match[1] or "RELATED").upper(), match[4] or "synonym"
    if scope not in source.scopes or "obsolete" in kind:
        return Dropped("scope" if scope not in source.scopes else "obsolete")
    relation = kind if kind.replace("_", "").isalpha() else "synonym"
    return TermPair(relation, Term(one_line(_ESCAPE.sub(r"\1", match[2])), name.lineage), name)


def snomed_files(source: SnomedTerms) -> list[Path]:
    """Return the snapshot of descriptions."""
    return [existing(source.path, source, "path")]


def read_snomed(source: SnomedTerms) -> Iterator[TermRecord]:
    """Yield each active synonym with the fully specified name, whose tag (``(disorder)``) is left out."""
    location = existing(source.path, source, "path")
    names: dict[str, str] = {}
    synonyms: list[tuple[str, str]] = []
    for row in read_rows(location, ("active", "conceptId", "typeId", "term"), quoted=False):
        if isinstance(row, Quarantined):
            yield row
        elif row[0] != "1" or row[2] not in (_FULLY_SPECIFIED, _RF2_SYNONYM):
            yield Dropped("inactive" if row[0] != "1" else "definition")
        elif row[2] == _FULLY_SPECIFIED:
            names[row[1]] = _TAG.sub("", one_line(row[3]))
        else:
            synonyms.append((row[1], one_line(row[3])))
    for concept, text in synonyms:
        if concept in names:
            lineage = (f"snomed:{concept}",)
            yield TermPair("synonym", Term(text, lineage), Term(names[concept], lineage))
        else:
            yield Dropped("no_name")
