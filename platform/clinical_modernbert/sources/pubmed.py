"""PubMed citations from NLM's XML: the current ``PubmedArticleSet`` and the 2016 ``MedlineCitationSet``.

The text is the title, an empty line, then the abstract with one labelled section a line. Inline markup and MathML stay as
text. Other languages (``OtherAbstract``, ``VernacularTitle``) and copyright lines are left out. Records are read one by one
and freed, so memory is flat. Entities are never expanded and nothing is fetched. Not covered: which of several versions of a
PMID is the latest, and deletions of citations that stand in another file; the deletions themselves are counted.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from clinical_modernbert.sources.document import Document, Dropped, Quarantined
from clinical_modernbert.sources.files import DamagedFileError

PATTERNS = ("*.xml", "*.xml.gz")

_ROOTS = ("PubmedArticleSet", "MedlineCitationSet", "PubmedBookArticleSet")
_RECORDS = ("PubmedArticle", "MedlineCitation", "PubmedBookArticle", "DeleteCitation", "DeleteDocument")
_MATH = "{http://www.w3.org/1998/Math/MathML}math"
_TRUNCATED = re.compile(r" ?\(ABSTRACT TRUNCATED(?: AT \d+ WORDS)?\)")
_NO_TITLE = "[Not Available]."
_NO_LABEL = "UNLABELLED"

# lxml ships no types; its elements stay inside this module.
_Element = Any


def read_citations(chunks: Iterable[bytes], *, file: str, source: str) -> Iterator[Document | Dropped | Quarantined]:
    """Yield one value for each citation, book chapter and deleted PMID.

    The id is the PMID, the group ``pmid:<PMID>``. Citations without abstract are dropped as ``no_abstract``, deletions as
    ``deleted``. A broken file gives its citations up to the damage, and one quarantined record for the rest.
    """
    from lxml import etree

    parser = etree.XMLPullParser(
        events=("end",),
        tag=_RECORDS,
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        collect_ids=False,
        remove_comments=True,
        remove_pis=True,
    )
    number = 0
    try:
        for chunk in chunks:
            damage = None
            try:
                parser.feed(chunk)
            except etree.XMLSyntaxError as error:
                damage = error
            for _, element in parser.read_events():
                parent = element.getparent()
                if parent is not None and parent.tag in _RECORDS:
                    continue  # the citation inside a PubmedArticle; its article follows
                for record in _read_record(element, file=file, source=source, number=number + 1):
                    number += 1
                    yield record
                _free(element)
            if damage is not None:
                raise damage
        root = parser.close()
    except etree.XMLSyntaxError as error:
        # Only the kind of the error: libxml2's message may quote the text.
        reason = f"broken XML ({etree.ErrorTypes._getName(error.code, 'error')}); the rest of the file is not read"
        yield Quarantined(file, f"record {number + 1}, line {error.lineno}", reason)
    except DamagedFileError as error:
        yield Quarantined(file, f"record {number + 1}, {error.position}", error.reason)
    else:
        if root.tag not in _ROOTS:
            yield Quarantined(file, "line 1", f"root element {root.tag!r}, expected {' or '.join(_ROOTS)}")


def _read_record(
    element: _Element, *, file: str, source: str, number: int
) -> Iterator[Document | Dropped | Quarantined]:
    if element.tag in ("DeleteCitation", "DeleteDocument"):
        for _ in element.iterchildren("PMID"):
            yield Dropped("deleted")
        return
    citation = element if element.tag == "MedlineCitation" else element.find("MedlineCitation")
    if element.tag == "PubmedBookArticle":
        citation = element.find("BookDocument")
    pmid = None if citation is None else citation.findtext("PMID", "").strip()
    if not pmid:
        yield Quarantined(file, f"record {number}, line {element.sourceline}", "no PMID")
        return
    article = citation if citation.tag == "BookDocument" else citation.find("Article")
    abstract = None if article is None else article.find("Abstract")
    body = "" if abstract is None else _abstract(abstract)
    if not body:
        yield Dropped("no_abstract")
        return
    title = _title(article)
    yield Document(pmid, source, f"pmid:{pmid}", f"{title}\n\n{body}" if title else body)


def _title(article: _Element) -> str:
    for path in ("ArticleTitle", "Book/BookTitle"):
        element = article.find(path)
        text = "" if element is None else _text(element)
        if text and text != _NO_TITLE:
            return text
    return ""


def _abstract(abstract: _Element) -> str:
    sections = []
    for element in abstract.iterchildren("AbstractText"):
        text = _text(element)
        if "TRUNCATED" in text:  # looked for first: the expression by itself would double the time of a record
            text = _TRUNCATED.sub("", text)
        if text:
            label = " ".join(element.get("Label", "").split()).rstrip(":")
            sections.append(f"{label}: {text}" if label and label != _NO_LABEL else text)
    return "\n".join(sections)


def _text(element: _Element) -> str:
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
    return " ".join("".join(element.itertext()).split())


def _is_layout(text: str | None) -> bool:
    return text is not None and "\n" in text and text.isspace()


def _free(element: _Element) -> None:
    """Drop everything before a finished record, which would otherwise pile up below the root."""
    parent = element.getparent()
    if parent is not None:
        while element.getprevious() is not None:
            del parent[0]
