"""PMC full text in JATS (``.nxml``, ``.xml``, plain or gzip; one article a file): title, abstract, sections with their titles.

References, tables, figures, formulas as pictures, footnotes and supplements are left out; a recipe may keep tables and
captions. A paragraph is a line; a section title is a line after an empty one. Citations in the
text (``[12]``) stay, because no rule can tell them from other brackets. An article is small, so its whole tree is built.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from clinical_modernbert.recipe.sources import PmcSource
from clinical_modernbert.sources.document import Document, Dropped, Quarantined, Record, Unit
from clinical_modernbert.sources.files import Progress, file_units, find_files, path_field, read_chunks
from clinical_modernbert.sources.inflate import DamagedFileError
from clinical_modernbert.sources.superscripts import END, MARKS, mark_before, write_scripts
from clinical_modernbert.sources.xml_document import local_name, read_root

_PATTERNS = ("*.nxml", "*.nxml.gz", "*.xml", "*.xml.gz")
_LISTS = frozenset({"list", "def-list", "list-item", "def-item", "term", "def", "boxed-text"})
_NEVER = frozenset(
    {
        "ref-list",
        "fn",
        "fn-group",
        "supplementary-material",
        "media",
        "graphic",
        "inline-graphic",
        "tex-math",
        "label",
        "object-id",
    }
)
_FLOATS = frozenset({"fig", "fig-group", "table-wrap", "table-wrap-group", "floats-group", "chem-struct-wrap"})
_BLANKS = re.compile(r"\s+")


def units(source: PmcSource) -> list[Unit]:
    """Return the articles' files."""
    return file_units(source.name, find_files(source.path, field=path_field(source.name), patterns=_PATTERNS))


def read(source: PmcSource, unit: Unit, progress: Progress) -> Iterator[Record]:
    """Yield one value for the article."""
    return read_article(read_chunks(unit.location, progress), file=unit.name, source=source)


def licence(source: PmcSource) -> str:
    """Return that PMC's articles have licences of their own."""
    return "each article's own, stated in its file"


def read_article(
    chunks: Iterable[bytes], *, file: str, source: PmcSource
) -> Iterator[Document | Dropped | Quarantined]:
    """Yield one value for the file. The id is ``PMC<number>``, else the PMID; the group ``pmid:<PMID>``, else the id.

    An article is thus held out together with its PubMed citation. Dropped as ``no_body`` without text in the body.
    """
    try:
        root = read_root(chunks)
    except DamagedFileError as error:
        yield Quarantined(file, error.position, error.reason)
        return
    article = root if local_name(root) == "article" else next(root.iter("{*}article"), None)
    if article is None:
        yield Quarantined(file, "line 1", "the root element is not article")
        return
    numbers = {e.get("pub-id-type"): _flat(e) for e in article.iterfind("{*}front/{*}article-meta/{*}article-id")}
    pmc = (numbers.get("pmc") or numbers.get("pmcid") or "").upper().removeprefix("PMC")
    pmid = numbers.get("pmid", "")
    if not (pmc or pmid):
        yield Quarantined(file, "line 1", "no article-id of type pmc or pmid")
        return
    document_id = f"PMC{pmc}" if pmc else pmid
    body = article.find("{*}body")
    lines = [] if body is None else list(_lines(body, source))
    if not any(lines):
        yield Dropped("no_body")
        return
    head = []
    title = article.find("{*}front/{*}article-meta/{*}title-group/{*}article-title")
    if title is not None:
        head.append(_flat(title))
    for abstract in article.iterfind("{*}front/{*}article-meta/{*}abstract"):
        # Graphical abstracts and highlights repeat the article; a translation is trans-abstract, another element.
        if abstract.get("abstract-type") in (None, "abstract", "summary"):
            head += ["", "Abstract", *_lines(abstract, source)]
    text = "\n".join([*head, "", *lines]).strip()
    group = f"pmid:{pmid}" if pmid else document_id
    yield Document(document_id, source.name, group, re.sub(r"\n{3,}", "\n\n", text))


def _lines(element: Any, source: PmcSource) -> Iterator[str]:
    """Lines of a section or abstract, depth first."""
    for child in element:
        name = local_name(child)
        if name in _NEVER or name is None:
            continue
        if name == "sec":
            yield ""
            yield from _lines(child, source)
        elif name == "title":
            title = _flat(child)
            if title and title.lower() != "abstract":
                yield title
        elif name in ("table-wrap", "fig"):
            if (source.tables if name == "table-wrap" else source.captions) == "keep":
                yield from _float_lines(child)
        elif name in _LISTS or name in ("fig-group", "table-wrap-group"):
            yield from _lines(child, source)
        elif name not in _FLOATS:
            yield from _paragraph(child, source)  # paragraphs, quotations, formulas, and what JATS may add


def _paragraph(element: Any, source: PmcSource) -> Iterator[str]:
    """The paragraph's text, then the blocks inside it: lists, quotations, floats that the source keeps."""
    text = _flat(element, skip=_NEVER | _FLOATS | _LISTS | {"disp-quote"})
    if text:
        yield text
    for child in element:
        name = local_name(child)
        if name in _LISTS or name == "disp-quote" or name in ("fig", "table-wrap"):
            wrapped = [child]
            yield from _lines(wrapped, source)


def _float_lines(element: Any) -> Iterator[str]:
    parts = [_flat(part) for name in ("label", "caption") for part in element.iterfind(f"{{*}}{name}")]
    if any(parts):
        yield " ".join(part for part in parts if part)
    for row in element.iter("{*}tr"):
        cells = [_flat(cell) for cell in row]
        if any(cells):
            yield "\t".join(cells)


def _flat(element: Any, *, skip: frozenset[str] = frozenset({"fn", "tex-math"})) -> str:
    """All text below an element without the skipped elements; runs of blanks become one space."""
    parts: list[str] = []
    _collect(element, skip, parts)
    return write_scripts(_BLANKS.sub(" ", "".join(parts)).strip())


def _collect(element: Any, skip: frozenset[str], parts: list[str]) -> None:
    parts.append(element.text or "")
    parent = local_name(element) or ""
    for index, child in enumerate(element):
        name = local_name(child)
        mark = mark_before(parent, name or "", index)
        parts.append(mark)
        if name is None:
            parts.append(child.text or "")  # an entity reference stays unchanged
        elif name == "break":
            parts.append(" ")
        elif name not in skip:
            if name == "p":
                parts.append(" ")
            _collect(child, skip, parts)
        if mark in MARKS.values():
            parts.append(END)
        parts.append(child.tail or "")
