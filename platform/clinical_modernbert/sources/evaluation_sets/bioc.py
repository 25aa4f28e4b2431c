"""BioC XML (BioRED, PubTator Central): documents of passages with annotations and relations, all counted over the document."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clinical_modernbert.sources.evaluation_sets.lines import Stated, num_not_as_stated, read_text, refuse
from clinical_modernbert.sources.evaluation_sets.ner import AnnotatedText, Relation, Span, concepts

# Keys of a relation's kind and of its two concepts.
_RELATIONS = (("type", "entity1", "entity2"), ("relation", "Chemical", "Disease"))


def read_bioc(path: Path) -> Iterator[AnnotatedText]:
    """Yield the documents; the text has each passage at its offset, with spaces between them.

    Concepts of a mention are its ``identifier``, else the first of ``MESH``, ``NCBI Gene`` and the like. An annotation in several
    pieces gives a span for each. A relation is BioRED's (``type``, ``entity1``, ``entity2``) or BC5CDR's (``relation``,
    ``Chemical``, ``Disease``). Annotations whose text is not as stated are counted; a document where most are at another place is
    refused.
    """
    root = _root(path)
    for document in root.iter("document"):
        name = (document.findtext("id") or "").strip()
        if not name:
            refuse(path, document.sourceline, "a document without an id")
        text = _text(path, document)
        spans: list[Span] = []
        names: list[tuple[str, ...]] = []
        stated: list[Stated] = []
        num_in_pieces = 0
        for annotation in document.iter("annotation"):
            infons = _infons(annotation)
            pieces = [
                _span(path, location, infons.get("type", "entity"), text) for location in annotation.iter("location")
            ]
            if pieces:
                actual = " ".join(text[piece.start : piece.end] for piece in pieces)
                ends = (pieces[0].start, pieces[-1].end)
                stated.append(Stated(annotation.sourceline, *ends, actual, annotation.findtext("text") or ""))
            spans += pieces
            names += [_concepts(infons)] * len(pieces)
            num_in_pieces += len(pieces) > 1
        relations = tuple(
            Relation(of[kind], of[first], of[second])
            for of in map(_infons, document.iter("relation"))
            for kind, first, second in _RELATIONS
            if {kind, first, second} <= of.keys()
        )
        yield AnnotatedText(
            name,
            text,
            tuple(spans),
            num_not_as_stated(path, stated),
            num_in_pieces=num_in_pieces,
            names=tuple(names),
            relations=relations,
        )


def _root(path: Path) -> Any:
    from lxml import etree

    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True, huge_tree=True
    )
    try:
        root = etree.fromstring(read_text(path).encode(), parser)
    except etree.XMLSyntaxError as error:
        refuse(path, error.lineno or 1, f"broken XML ({etree.ErrorTypes._getName(error.code, 'error')})")
    if root.tag != "collection":
        refuse(path, 1, f"root element {root.tag!r}, expected 'collection'")
    return root


def _text(path: Path, document: Any) -> str:
    text = ""
    for passage in document.iter("passage"):
        offset, content = passage.findtext("offset") or "", passage.findtext("text") or ""
        if not offset.strip().isdecimal() or int(offset) < len(text):
            refuse(path, passage.sourceline, "expected passages in the order of their offsets")
        text = text.ljust(int(offset)) + content
    return text


def _span(path: Path, location: Any, kind: str, text: str) -> Span:
    start, length = location.get("offset", ""), location.get("length", "")
    if not (start.isdecimal() and length.isdecimal()) or int(start) + int(length) > len(text):
        refuse(path, location.sourceline, "expected a location inside of the document")
    return Span(int(start), int(start) + int(length), kind)


def _infons(element: Any) -> dict[str, str]:
    return {infon.get("key", ""): (infon.text or "").strip() for infon in element.findall("infon")}


def _concepts(infons: dict[str, str]) -> tuple[str, ...]:
    if "identifier" in infons:
        return concepts(infons["identifier"])
    return next((concepts(value) for key, value in infons.items() if key.isupper() or key.startswith("NCBI")), ())
