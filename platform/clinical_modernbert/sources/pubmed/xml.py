"""One PubMed citation as a value, and its two readers: an lxml element, and the bytes of a record.

The second reader makes a whole baseline affordable: it parses PMID, title, abstract, languages and other abstracts only, not the
four fifths of a record that are authors, references and index terms. It relies on the order of NLM's DTD and returns None for
a record in another order, which the caller gives to the first reader. Both give the same citation.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from clinical_modernbert.sources.superscripts import END, NOT_SHOWN, SUB, SUPER, around, write_scripts
from clinical_modernbert.sources.xml_document import local_name

# lxml ships no types; its elements stay inside the PubMed modules.
Element = Any
Sections = tuple[tuple[str, str], ...]

_MATH = "{http://www.w3.org/1998/Math/MathML}math"
# The declared external subset is never fetched; with it, a reference to an unknown entity stays text.
_WRAP = (b'<!DOCTYPE r SYSTEM "none"><r>', b"</r>")

_ATTRIBUTES = rb"""((?:\s+[\w:.-]+\s*=\s*(?:"[^"]*"|'[^']*'))*)\s*"""
_ALL_ATTRIBUTES = re.compile(_ATTRIBUTES)
_HEAD = re.compile(
    rb"(?:<PubmedArticle>\s*)?<MedlineCitation" + _ATTRIBUTES + rb">\s*<PMID" + _ATTRIBUTES + rb">([^<&]*)</PMID>"
)
_ARTICLE = re.compile(rb"<Article[\s>]")
_LANGUAGE = re.compile(rb"<Language>([^<&]*)</Language>")
_SECTION = re.compile(rb"<AbstractText" + _ATTRIBUTES + rb"(?:/>|>(.*?)</AbstractText\s*>)", re.DOTALL)
_OTHER = re.compile(rb"<OtherAbstract" + _ATTRIBUTES + rb">(.*?)</OtherAbstract>", re.DOTALL)
_INLINE = re.compile(rb"</?(?:i|b|u|sup|sub)>")
_SCRIPTS = {b"<sup>": SUPER.encode(), b"<sub>": SUB.encode(), b"</sup>": END.encode(), b"</sub>": END.encode()}
_SCRIPT = re.compile(rb"</?su[pb]>")
_ADJACENT = b"</b><b>"  # two headings or labels without a blank between them
_REFERENCE = re.compile(r"&(?:#(\d+)|#x([0-9a-fA-F]+)|(amp|lt|gt|quot|apos));")
_NAMED = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}


@dataclass(frozen=True, slots=True)
class OtherAbstract:
    """A further abstract: in another language, or for other readers."""

    language: str
    """Three letters as NLM writes them: ``spa``."""
    kind: str
    """``Publisher``, ``plain-language-summary`` and so on."""
    sections: Sections


@dataclass(frozen=True, slots=True)
class Citation:
    """The fields of a citation that a corpus needs; texts are flat, with runs of blanks as one space."""

    pmid: str
    version: int
    title: str
    vernacular_title: str
    sections: Sections
    """(label, text) of the main abstract, which is English whatever language the article has."""
    languages: tuple[str, ...]
    """Languages of the article."""
    others: tuple[OtherAbstract, ...]


def element_citation(element: Element) -> Citation | None:
    """Return the citation of a ``PubmedArticle``, ``MedlineCitation`` or ``PubmedBookArticle`` element; None without PMID."""
    citation = element if element.tag == "MedlineCitation" else element.find("MedlineCitation")
    if element.tag == "PubmedBookArticle":
        citation = element.find("BookDocument")
    number: Element = None if citation is None else citation.find("PMID")
    pmid = "" if number is None else (number.text or "").strip()
    if not pmid:
        return None
    article = citation if citation.tag == "BookDocument" else citation.find("Article")
    title = vernacular = ""
    sections: Sections = ()
    languages: tuple[str, ...] = ()
    if article is not None:
        # A book article has a title of its own, or that of its book.
        title = _child_text(article, "ArticleTitle") or _child_text(article, "Book/BookTitle")
        vernacular = _child_text(article, "VernacularTitle")
        abstract = article.find("Abstract")
        sections = () if abstract is None else _element_sections(abstract)
        languages = tuple((e.text or "").strip() for e in article.iterchildren("Language"))
    others = tuple(
        OtherAbstract(e.get("Language", "").strip(), e.get("Type", "").strip(), _element_sections(e))
        for e in citation.iterchildren("OtherAbstract")
    )
    version = version_of(number.get("Version", ""))
    return Citation(pmid, version, title, vernacular, sections, languages, others)


def version_of(attribute: str, *, absent: int = 1) -> int:
    """Return a ``Version`` attribute as a number; NLM numbers versions from 1."""
    version = attribute.strip()
    # Python refuses numbers of thousands of digits; 20 are too many for a corpus, too.
    return int(version[:20]) if version.isdecimal() else absent


class BlockError(Exception):
    """A record that is beyond libxml2's limits; the message says so, without any of it."""


def block_element(block: bytes) -> Element:
    """Return the lxml element of a record's bytes, which are well-formed; raises ``BlockError``."""
    from lxml import etree

    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True, remove_pis=True
    )
    try:
        return etree.fromstring(_WRAP[0] + block + _WRAP[1], parser)[0]
    except etree.XMLSyntaxError as error:
        # Only the kind of the error: libxml2's message may quote the text.
        raise BlockError(f"beyond XML's limits ({etree.ErrorTypes._getName(error.code, 'error')})") from None


def block_citation(block: bytes) -> Citation | None:
    """Return the citation of a ``PubmedArticle`` or ``MedlineCitation``, or None where its order is not that of NLM's DTD.

    The block is well-formed UTF-8 without comments, CDATA sections and processing instructions.
    """
    head = _HEAD.match(block)
    if head is None:
        return None
    pmid = head[3].decode().strip()
    version = version_of(_attributes(head[2]).get("Version", ""))
    start = _ARTICLE.search(block, head.end())
    end = -1 if start is None else block.find(b"</Article>", start.end())
    if not pmid or start is None or end < 0:
        return None
    first = start.start()
    abstract_from, abstract_to = block.find(b"<Abstract>", first, end), block.find(b"</Abstract>", first, end)
    if abstract_from < 0 <= abstract_to:
        return None
    sections = _block_sections(block[abstract_from:abstract_to]) if abstract_from >= 0 else ()
    # The authors are between abstract and language: the plain search passes them many times faster than the expression.
    after = block.find(b"<Language>", max(first, abstract_to), end)
    languages: tuple[str, ...] = ()
    if after >= 0:
        languages = tuple([_plain(m[1]).strip() for m in _LANGUAGE.finditer(block, after, end)])
    else:
        after = max(first, abstract_to)
    others: tuple[OtherAbstract, ...] = ()
    if block.find(b"<OtherAbstract", end) >= 0:
        abstracts = []
        for match in _OTHER.finditer(block, end):
            named = _attributes(match[1])
            language, kind = named.get("Language", "").strip(), named.get("Type", "").strip()
            abstracts.append(OtherAbstract(language, kind, _block_sections(match[2])))
        others = tuple(abstracts)
    return Citation(
        pmid,
        version,
        _tagged(block, b"ArticleTitle", first, end),
        _tagged(block, b"VernacularTitle", after, end),
        sections,
        languages,
        others,
    )


def _tagged(block: bytes, tag: bytes, first: int, end: int) -> str:
    start = block.find(b"<" + tag, first, end)
    if start < 0:
        return ""
    opened = block.find(b">", start, end) + 1
    if block[start + len(tag) + 1 : opened] == b">":
        return _flat(block[opened : block.find(b"</" + tag, opened, end)])
    match = re.compile(b"<" + tag + _ATTRIBUTES + rb"(?:/>|>(.*?)</" + tag + rb"\s*>)", re.DOTALL).match(
        block, start, end
    )
    return _flat(match[2] or b"") if match else ""


def _block_sections(content: bytes) -> Sections:
    sections = []
    position = 0
    while (start := content.find(b"<AbstractText", position)) >= 0:
        opened = content.find(b">", start)
        label = _plain_label(content[start + 13 : opened])
        position = content.find(b"</AbstractText>", opened)
        if label is None or position < 0:
            return _odd_sections(content)
        text = _flat(content[opened + 1 : position])
        if text:
            sections.append((label, text))
    return tuple(sections)


@lru_cache(maxsize=4096)
def _plain_label(attributes: bytes) -> str | None:
    """Label of a start tag whose attributes end where they seem to; None for an empty tag, or a ``>`` within quotes."""
    return _label(attributes) if _ALL_ATTRIBUTES.fullmatch(attributes) else None


def _odd_sections(content: bytes) -> Sections:
    sections = []
    for match in _SECTION.finditer(content):
        text = _flat(match[2] or b"")
        if text:
            sections.append((_label(match[1]), text))
    return tuple(sections)


def _flat(content: bytes) -> str:
    """Text of an element's content: plain, with the usual inline tags, or (MathML and the rest) through lxml."""
    if b"<" not in content:
        return " ".join(_plain(content).split())
    plain = content.replace(_ADJACENT, b"</b> <b>") if _ADJACENT in content else content
    if b"<su" in plain:
        plain = _SCRIPT.sub(lambda match: _SCRIPTS[match[0]], plain)
    plain = _INLINE.sub(b"", plain)
    if b"<" in plain:
        return flat_text(block_element(b"<t>" + content + b"</t>"))
    return write_scripts(" ".join(_plain(plain).split()))


def _plain(content: bytes) -> str:
    text = content.decode()
    return _REFERENCE.sub(_resolve, text) if "&" in text else text


def _resolve(match: re.Match[str]) -> str:
    if match[3]:
        return _NAMED[match[3]]
    return chr(int(match[1]) if match[1] else int(match[2], 16))


@lru_cache(maxsize=4096)
def _label(attributes: bytes) -> str:
    return _clean_label(_attributes(attributes).get("Label", ""))


@lru_cache(maxsize=4096)
def _attributes(content: bytes) -> dict[str, str]:
    pairs = re.findall(rb"""([\w:.-]+)\s*=\s*(?:"([^"]*)"|'([^']*)')""", content)
    return {name.decode(): _plain(double or single) for name, double, single in pairs}


def _element_sections(abstract: Element) -> Sections:
    sections = []
    for element in abstract.iterchildren("AbstractText"):
        text = flat_text(element)
        if text:
            sections.append((_clean_label(element.get("Label", "")), text))
    return tuple(sections)


def _clean_label(label: str) -> str:
    return " ".join(label.split()).rstrip(":")


def _child_text(parent: Element, path: str) -> str:
    element = parent.find(path)
    return "" if element is None else flat_text(element)


def flat_text(element: Element) -> str:
    """All text below an element: ``element.text`` would stop at the first ``<sup>``. Runs of blanks become one space."""
    if not len(element):
        return " ".join((element.text or "").split())
    for math in element.iter(_MATH):
        for node in math.iter():
            # Line breaks between MathML elements are layout: <mn>3</mn> and <mi>He</mi> make 3He.
            if _is_layout(node.text):
                node.text = None
            if node is not math and _is_layout(node.tail):
                node.tail = None
    return write_scripts(" ".join("".join(_texts(element)).split()))


def _texts(element: Element) -> Iterator[str]:
    """Yield the texts below an element, with the marks of superscripts and the signs of MathML."""
    yield element.text or ""
    preceding = None
    for index, child in enumerate(element):
        name = local_name(child)
        if name == "b" and preceding is not None and preceding.tag == child.tag and not preceding.tail:
            yield " "
        before, after = around(element, child, index)
        yield before
        if not name:
            yield child.text or ""  # an entity reference
        elif name not in NOT_SHOWN:
            yield from _texts(child)
        yield after
        yield child.tail or ""
        preceding = child


def _is_layout(text: str | None) -> bool:
    return text is not None and "\n" in text and text.isspace()
