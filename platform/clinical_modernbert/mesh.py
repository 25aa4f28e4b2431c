"""MeSH's descriptors from NLM's files: names, entry terms, places in the trees, and which branches are clinical.

The lexicon takes names from it, pair sets take synonyms and the hierarchy. A published file is whole: damage is a ``SourceError``
with the position, never a row that is left out. Supplementary concepts are not covered.
"""

import gzip
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from clinical_modernbert.errors import SourceError

FORMATS = "MeSH's desc<year>.xml, mtrees<year>.bin (name;tree number), or a table with mesh_id, mesh_name and mesh_tree_number"
# Diseases, mental disorders, chemicals (no enzymes, other proteins and nucleic acids, because clinicians do not prescribe them);
# of E: imaging, biopsies and endoscopies; biological, radiation and renal replacement therapy; surgery.
_CLINICAL = re.compile(r"C|F03|D(?!05|08|12|13|20|23|26|27)|E01\.370\.3(?:50|88)|E02\.(?:095|186|815|870)|E04")
_MTREES = re.compile(r"[^;\t]+;[A-Z]\d\d(?:\.\d{3})*\s*")
_COLUMNS = ("mesh_id", "mesh_name", "mesh_tree_number")
_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A heading, or one of its places in the trees: tables have a line for each place."""

    id: str
    """``D001145``; empty in ``mtrees``, which has no ids."""
    name: str
    trees: tuple[str, ...]
    """Tree numbers: ``C14.280.067``."""
    entry_terms: tuple[str, ...] = ()
    """Other names of it; empty in tables and ``mtrees``."""


def is_clinical(tree: str) -> bool:
    """Return whether a tree number is in a branch whose names clinicians write."""
    return _CLINICAL.match(tree) is not None


def is_mesh(head: str) -> bool:
    """Return whether a file that begins with ``head`` is in one of ``FORMATS``."""
    first = head.removeprefix("\ufeff").split("\n", 1)[0].rstrip("\r")
    return (
        "<DescriptorRecordSet" in head or set(_COLUMNS[1:]) <= set(first.split("\t")) or bool(_MTREES.fullmatch(first))
    )


def read_descriptors(path: Path, *, field: str) -> Iterator[Descriptor]:
    """Yield the descriptors of a file, plain or gzip, one by one; ``field`` is named in errors."""
    try:
        with path.open("rb") as raw:
            is_packed = raw.read(2) == _GZIP_MAGIC
        with gzip.open(path) if is_packed else path.open("rb") as stream:
            head = stream.read(4096).decode("utf-8", errors="replace")
            if not is_mesh(head):
                raise SourceError(f"{field}: {path.name} has no known format; expected {FORMATS}")
            stream.seek(0)
            if "<DescriptorRecordSet" in head:
                yield from _xml(cast(BinaryIO, stream), path, field)
            else:
                yield from _lines(stream, path, field)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise SourceError(f"{field}: {path.name} cannot be read ({type(error).__name__})") from None


def _lines(stream: Iterable[bytes], path: Path, field: str) -> Iterator[Descriptor]:
    columns: list[str] = []
    for number, raw in enumerate(stream, start=1):
        line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        if number == 1 and _COLUMNS[1] in line.split("\t"):
            columns = line.split("\t")
        elif columns:
            fields = line.split("\t")
            if len(fields) != len(columns):
                raise SourceError(
                    f"{field}: {path.name}, line {number}: {len(fields)} fields, the header has {len(columns)}"
                )
            values = dict(zip(columns, fields, strict=True))
            tree = values[_COLUMNS[2]].strip()
            yield Descriptor(values.get(_COLUMNS[0], "").strip(), values[_COLUMNS[1]].strip(), (tree,) if tree else ())
        elif _MTREES.fullmatch(line):
            name, _, tree = line.partition(";")
            yield Descriptor("", name, (tree.strip(),))
        elif line.strip():
            raise SourceError(f"{field}: {path.name}, line {number}: expected name;tree number")


def _xml(stream: BinaryIO, path: Path, field: str) -> Iterator[Descriptor]:
    from lxml import etree

    records = etree.iterparse(stream, tag="DescriptorRecord", resolve_entities=False, no_network=True)
    try:
        for _, record in records:
            yield _descriptor(record)
            # Free the record and what is before it, or a release of 300 MB stays in memory.
            record.clear()
            while record.getprevious() is not None:
                del record.getparent()[0]
    except etree.XMLSyntaxError as error:
        raise SourceError(f"{field}: {path.name} is not XML after line {error.lineno}") from None


def _descriptor(record: Any) -> Descriptor:
    name = record.findtext("DescriptorName/String", "").strip()
    terms = (term.text or "" for term in record.iterfind("ConceptList/Concept/TermList/Term/String"))
    trees = (number.text or "" for number in record.iterfind("TreeNumberList/TreeNumber"))
    return Descriptor(
        record.findtext("DescriptorUI", "").strip(),
        name,
        tuple(tree.strip() for tree in trees),
        tuple(dict.fromkeys(text for term in terms if (text := term.strip()) and text != name)),
    )
