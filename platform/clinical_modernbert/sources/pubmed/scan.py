"""The records of a PubMed XML file: cut from the bytes, or (for unusual files) from lxml's tree; both free what they read.

expat checks that the whole file is well-formed, at twice the speed of lxml, because no handler is called for elements. A scanner
cuts the records out of the bytes that expat has passed. Files with entity declarations, namespaces on the root or another
encoding than UTF-8 go through lxml. One chunk of a file, with the byte up to which expat has passed it (^):

    buffer   ...<PubmedArticle>A</PubmedArticle><!-- <PubmedArticle> --><PubmedArticle>B</Pubm
                |-- record, yielded -----------||-- comment, skipped --||-- kept for the next chunk
                                                                                        ^

B's end tag is not in the buffer yet, so the scan stops at B's start tag, and the next chunk is appended there.
"""

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from xml.parsers import expat

from clinical_modernbert.sources.inflate import DamagedFileError
from clinical_modernbert.sources.pubmed.xml import (
    BlockError,
    Citation,
    Element,
    block_citation,
    block_element,
    element_citation,
    version_of,
)

ROOTS = ("PubmedArticleSet", "MedlineCitationSet", "PubmedBookArticleSet")
_CITATIONS = ("PubmedArticle", "MedlineCitation", "PubmedBookArticle")
_NO_PMID = "no PMID"
_DELETIONS = ("DeleteCitation", "DeleteDocument")

# The next record. Comments, processing instructions and CDATA match as a whole, because they may quote a tag.
_NEXT = re.compile(
    rb"<!--.*?-->|<\?.*?\?>|<!\[CDATA\[.*?\]\]>|<(" + "|".join((*_CITATIONS, *_DELETIONS)).encode() + rb")(?=[\s/>])",
    re.DOTALL,
)
_TAG_END = re.compile(rb"""(?:[^"'<>]|"[^"]*"|'[^']*')*?(/?)>""")
_QUOTES = re.compile(rb"<[!?]")
# Both are many times what NLM has; without them a broken file would be kept in memory up to its end.
_MOST_PROLOG_BYTES = 1 << 20
_MOST_RECORD_BYTES = 1 << 24
_SKIPPED = re.compile(rb"<!--.*?-->|<\?.*?\?>|<!\[CDATA\[.*?\]\]>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Damage:
    """Where and why one record, or a file from there on, cannot be read."""

    position: str
    reason: str
    unread_bytes: int = 0
    """As in ``Quarantined``, and so is ``is_cut``."""
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class Deletion:
    """A PMID that NLM took back."""

    pmid: str
    version: int
    """The version that was taken back, 0 where the notice names none."""


def scan_records(chunks: Iterable[bytes]) -> Iterator[Citation | Deletion | Damage]:
    """Yield the records of a file in its order; the last value of a damaged file is one ``Damage`` for all that follows it."""
    stream = iter(chunks)
    head: list[bytes] = []
    prolog = _Prolog()
    damage: DamagedFileError | None = None
    try:
        while not prolog.complete and sum(map(len, head)) < _MOST_PROLOG_BYTES:
            chunk = next(stream, None)
            if chunk is None:
                break
            head.append(chunk)
            prolog.feed(chunk)
    except DamagedFileError as error:
        damage = error
    if prolog.is_foreign or (sum(map(len, head)) >= _MOST_PROLOG_BYTES and not prolog.complete):
        yield Damage("line 1", f"the root element is not {' or '.join(ROOTS)}", sum(map(len, head)))
        return
    if not damage and not b"".join(head).strip():
        yield Damage("line 1", f"the file is empty, expected {' or '.join(ROOTS)}")
        return
    remaining = _raise(damage) if damage else stream
    yield from (_scan if prolog.is_plain else read_tree)(itertools.chain(head, remaining))


class _Prolog:
    """The beginning of a file up to its root element: it decides which reader the file needs."""

    def __init__(self) -> None:
        self.complete = False
        self.is_plain = False
        self.is_foreign = False
        """Whether the root element is none of NLM's; the tree of such a file would be kept in memory."""
        self._declared = False
        self._encoding: str | None = None
        self._bytes = b""
        self._parser = expat.ParserCreate()
        self._parser.XmlDeclHandler = self._on_declaration
        self._parser.EntityDeclHandler = self._on_entity
        self._parser.StartElementHandler = self._on_root

    def feed(self, chunk: bytes) -> None:
        self._bytes = (self._bytes + chunk)[:4]
        try:
            self._parser.Parse(chunk, False)
        except expat.ExpatError:
            self.complete = True  # lxml names this damage; the scanner finds damage after the root itself

    def _on_declaration(self, version: str, encoding: str | None, standalone: int) -> None:
        self._encoding = encoding

    def _on_entity(self, *declaration: object) -> None:
        self._declared = True

    def _on_root(self, name: str, attributes: dict[str, str]) -> None:
        self._parser.StartElementHandler = None
        named = any(key.startswith("xmlns") for key in attributes)
        utf8 = (self._encoding or "utf-8").lower() in ("utf-8", "utf8", "us-ascii") and b"\0" not in self._bytes
        self.is_foreign = name not in (*ROOTS, *_CITATIONS) or "xmlns" in attributes
        self.is_plain = name in ROOTS and utf8 and not named and not self._declared
        self.complete = True


def _scan(chunks: Iterable[bytes]) -> Iterator[Citation | Deletion | Damage]:
    parser = expat.ParserCreate()
    # Not empty once the file has something that may quote a tag. expat reports it at no cost; a search in every record is slow.
    quoting: list[object] = []
    parser.CommentHandler = quoting.append
    # expat passes a CDATA section in parts: while one is open, the bytes from its start are not whole.
    open_cdata: list[int] = []

    def on_cdata() -> None:
        quoting.append(None)
        open_cdata.append(parser.CurrentByteIndex)

    parser.StartCdataSectionHandler = on_cdata
    parser.EndCdataSectionHandler = open_cdata.clear
    parser.ProcessingInstructionHandler = lambda target, data: quoting.append(target)
    buffer = b""
    first = number = 0  # file position of the buffer's first byte; records so far
    damage: Damage | None = None
    stream = iter(chunks)
    whole = False
    while not (whole or damage):
        # 1. Read a chunk and let expat check it; `checked` is the file position up to which everything is whole.
        chunk = b""
        try:
            chunk = next(stream, b"")
            whole = not chunk
            parser.Parse(chunk, whole)
            # expat holds back a tag or text that the end of the chunk may have cut.
            checked = first + len(buffer) if whole else parser.CurrentByteIndex
        except DamagedFileError as error:
            checked = parser.CurrentByteIndex
            damage = Damage(error.position, error.reason)
        except expat.ExpatError as error:
            checked = parser.ErrorByteIndex
            reason = f"broken XML ({expat.errors.messages[error.code]}); the rest of the file is not read"
            damage = Damage(f"line {error.lineno}", reason, is_cut=whole)
        # 2. Cut the whole records out of the checked bytes.
        buffer += chunk
        limit, position = min(checked, *open_cdata, first + len(buffer)) - first, 0
        while match := _NEXT.search(buffer, position, limit):
            if match[1] is None:  # a comment or the like
                position = match.end()
                continue
            end = _record_end(buffer, match, limit, quoting=bool(quoting))
            if end < 0:
                position = match.start()
                break
            position = end
            for record in _read_block(buffer[match.start() : end], match[1], quoting=bool(quoting)):
                number += 1
                yield record if not isinstance(record, str) else Damage(f"record {number}", record)
        else:
            position = max(position, limit)
        # 3. Keep what is not yet whole for the next chunk.
        first += position
        buffer = buffer[position:]
        if len(buffer) > _MOST_RECORD_BYTES and not damage:
            damage = Damage(f"byte {first}", f"a record of more than {_MOST_RECORD_BYTES} bytes; the rest is not read")
    if damage:
        yield replace(damage, position=f"record {number + 1}, {damage.position}", unread_bytes=len(buffer))


def _record_end(buffer: bytes, start_tag: re.Match[bytes], limit: int, *, quoting: bool) -> int:
    """Return where the record ends, or -1 where the buffer does not hold the whole of it."""
    start = start_tag.start()
    opened = _TAG_END.match(buffer, start_tag.end(), limit)
    if opened and opened[1]:  # <DeleteCitation/>
        return opened.end()
    closing = b"</" + start_tag[1] + b">"
    end = buffer.find(closing, start, limit)
    if end >= 0 and quoting and _QUOTES.search(buffer, start, end):
        # A comment or CDATA may quote the closing tag: look for it again with those blanked out.
        blanked = _SKIPPED.sub(lambda m: b" " * len(m[0]), buffer[start:limit])
        end = blanked.find(closing)
        end += start if end >= 0 else 0
    return end + len(closing) if end >= 0 else -1


def _read_block(block: bytes, tag: bytes, *, quoting: bool) -> list[Citation | Deletion | str]:
    try:
        if tag in (b"PubmedArticle", b"MedlineCitation") and not (quoting and _QUOTES.search(block)):
            citation = block_citation(block)
            if citation is not None:
                return [citation]
        return [*_read_element(block_element(block))]
    except BlockError as error:
        return [str(error)]


def _read_element(element: Element) -> Iterator[Citation | Deletion | str]:
    """Yield what the record's element says, or the reason why it cannot be used."""
    if element.tag in _DELETIONS:
        for number in element.iterchildren("PMID"):
            pmid = (number.text or "").strip()
            yield Deletion(pmid, version_of(number.get("Version", ""), absent=0)) if pmid else _NO_PMID
        return
    yield element_citation(element) or _NO_PMID


def read_tree(chunks: Iterable[bytes]) -> Iterator[Citation | Deletion | Damage]:
    """Yield the same as ``scan_records`` by lxml alone: the reader for unusual files, and the reference of the tests.

    Entities are never expanded and nothing is fetched.
    """
    from lxml import etree

    parser = etree.XMLPullParser(
        events=("end",),
        tag=(*_CITATIONS, *_DELETIONS),
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        collect_ids=False,
        remove_comments=True,
        remove_pis=True,
    )
    number = unread = 0
    try:
        for chunk in chunks:
            damage = None
            unread = len(chunk)
            try:
                parser.feed(chunk)
            except etree.XMLSyntaxError as error:
                damage = error
            for _, element in parser.read_events():
                parent = element.getparent()
                if parent is not None and parent.tag in _CITATIONS:
                    continue  # the citation inside a PubmedArticle; its article follows
                for record in _read_element(element):
                    number += 1
                    unread = 0  # how much of the chunk follows the last record is unknown
                    yield record if not isinstance(record, str) else Damage(f"record {number}", record)
                _free(element)
            if damage is not None:
                raise damage
        root = parser.close()
    except etree.XMLSyntaxError as error:
        # Only the kind of the error: libxml2's message may quote the text.
        kind = etree.ErrorTypes._getName(error.code, "error")
        reason = f"broken XML ({kind}); the rest of the file is not read"
        yield Damage(f"record {number + 1}, line {error.lineno}", reason, unread)
    except DamagedFileError as error:
        yield Damage(f"record {number + 1}, {error.position}", error.reason)
    else:
        if root.tag not in (*ROOTS, *_CITATIONS):  # a file may hold one citation without the set around it
            yield Damage("line 1", f"the root element is not {' or '.join(ROOTS)}")


def _free(element: Element) -> None:
    """Drop everything before a finished record, which would otherwise stay in memory below the root."""
    parent = element.getparent()
    if parent is not None:
        while element.getprevious() is not None:
            del parent[0]


def _raise(damage: DamagedFileError) -> Iterator[bytes]:
    yield from ()
    raise damage
