"""Terms of published vocabularies: MeSH, the Disease Ontology and the Human Phenotype Ontology, from files that the user names.

Of MeSH, the names of the clinical branches. Of ontologies, names and exact synonyms. No file ships.
"""

import csv
import gzip
import re
import zlib
from collections.abc import Iterator

from clinical_modernbert.artifacts.remote_files import local_copy
from clinical_modernbert.errors import SourceError
from clinical_modernbert.mesh import FORMATS as MESH_FORMATS
from clinical_modernbert.mesh import is_clinical, is_mesh, read_descriptors

_GZIP_MAGIC = b"\x1f\x8b"
_FORMATS = (
    f"OBO (HPO, Disease Ontology), a tab-separated table with doid, name and type, or {MESH_FORMATS}; plain or gzip"
)
_HPO_TOP = "HP:0000118"  # phenotypic abnormality; the other branches are modes of inheritance, onsets and modifiers
_SYNONYM = re.compile(r'synonym: "((?:[^"\\]|\\.)*)" EXACT')
_ASIDE = re.compile(r"\s*[(\[][^)\]]*[)\]]")
_ABBREVIATION = re.compile(r"[A-Z][A-Z0-9]{1,6}")
_EPONYM = re.compile(r"([a-z]+[a-rt-z]) (disease|syndrome)")


def vocabulary_terms(path: str) -> set[str]:
    """Return the terms of a file in lower case, abbreviations as they stand; raises ``SourceError`` for another format."""
    terms = set()
    for name in _names(path):
        text = " ".join(_ASIDE.sub("", name).split())
        if _ABBREVIATION.fullmatch(text):
            terms.add(text)
            continue
        for form in _forms(text.lower()):
            terms.add(form)
    return terms


def _forms(text: str) -> Iterator[str]:
    """``arrhythmias, cardiac`` -> ``cardiac arrhythmias`` and ``cardiac arrhythmia``; eponyms with and without ``'s``."""
    head, *tail = text.split(", ")
    text = " ".join([*reversed(tail), head])
    yield text
    if text.endswith("ies") and len(text) > 6:
        yield f"{text[:-3]}y"
    elif text.endswith("s") and not text.endswith(("ss", "us", "is", "sses")):
        yield text[:-1]
    eponym = _EPONYM.fullmatch(text)
    if eponym:
        yield f"{eponym[1]}'s {eponym[2]}"
    if "'s " in text:
        yield text.replace("'s ", " ")


def _names(path: str) -> Iterator[str]:
    try:
        content = local_copy(path).read_bytes()
        if content.startswith(_GZIP_MAGIC):
            content = gzip.decompress(content)
        lines = content.decode("utf-8-sig").splitlines()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise SourceError(f"lexicon.vocabularies: {path!r} cannot be read ({type(error).__name__})") from None
    first = lines[0] if lines else ""
    header = first.split("\t")
    if first.startswith("format-version:"):
        yield from _obo_names(lines)
    elif {"doid", "name", "type"} <= set(header):
        rows = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        yield from (row["name"] for row in rows if row["type"] in ("name", "exact-synonym"))
    elif is_mesh("\n".join(lines[:10])):
        for descriptor in read_descriptors(local_copy(path), field="lexicon.vocabularies"):
            if any(map(is_clinical, descriptor.trees)):
                yield descriptor.name
    else:
        raise SourceError(f"lexicon.vocabularies: {path!r} has no known format; expected {_FORMATS}")


def _obo_names(lines: list[str]) -> Iterator[str]:
    names: dict[str, list[str]] = {}
    parents: dict[str, list[str]] = {}
    current, obsolete = "", set[str]()
    for line in lines:
        if line.startswith("["):
            current = ""
        elif line.startswith("id: "):
            current = line[4:].strip()
        elif line.startswith("name: "):
            names.setdefault(current, []).append(line[6:])
        elif line.startswith("is_obsolete: true"):
            obsolete.add(current)
        elif line.startswith("is_a: "):
            parents.setdefault(current, []).append(line[6:].split()[0])
        elif match := _SYNONYM.match(line):
            names.setdefault(current, []).append(match[1].replace('\\"', '"'))
    wanted = _below(_HPO_TOP, parents) if _HPO_TOP in names else set(names)
    for identifier in sorted(wanted - obsolete):
        yield from names.get(identifier, [])


def _below(top: str, parents: dict[str, list[str]]) -> set[str]:
    children: dict[str, list[str]] = {}
    for child, over in parents.items():
        for parent in over:
            children.setdefault(parent, []).append(child)
    found, waiting = set[str](), [top]
    while waiting:
        new = [child for child in children.get(waiting.pop(), []) if child not in found]
        found.update(new)
        waiting += new
    return found
