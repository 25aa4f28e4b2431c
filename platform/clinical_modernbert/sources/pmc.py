"""PMC full text in JATS (``.nxml``, ``.xml``, plain or gzip): title, abstract, sections with their titles.

A file has one article, or those that a request to NCBI returned (``pmc-articleset``), up to 64 MB.

References, tables, figures, formulas as pictures, footnotes and supplements are left out; a recipe may keep tables and
captions, also those that follow the text in a ``floats-group``. A paragraph is a line, and so is each block in it (an item of a
list, a row of a table); a section title is a line after an empty one. Citations in the text (``[12]``) stay, because no rule can
tell them from other brackets. Articles are small, so the whole tree is built.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from clinical_modernbert.recipe.sources import PmcSource
from clinical_modernbert.sources.document import Document, Dropped, Quarantined, Record, Unit
from clinical_modernbert.sources.files import Progress, file_units, find_files, path_field, read_chunks
from clinical_modernbert.sources.inflate import DamagedFileError
from clinical_modernbert.sources.superscripts import NOT_SHOWN, around, write_scripts
from clinical_modernbert.sources.xml_document import local_name, read_root

_PATTERNS = ("*.nxml", "*.nxml.gz", "*.xml", "*.xml.gz")
# Blocks have lines of their own, cells tabs between them. Unknown elements are text of their paragraph.
_BLOCKS = frozenset(
    """
    array attrib boxed-text caption code def def-item def-list disp-quote explanation list list-item option p preformat question
    sec speech statement subtitle table term term-head def-head title tr verse-group verse-line
    """.split()  # noqa: SIM905 - 28 quoted words are harder to review
)
_CELLS = frozenset({"td", "th"})
# Written without blanks around them, and shown with some.
_SPACED = frozenset({"break", "chem-struct", "disp-formula", "disp-formula-group", "given-names", "speaker", "surname"})
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
        *NOT_SHOWN,
    }
)
_FLOATS = frozenset({"fig", "fig-group", "table-wrap", "table-wrap-group", "floats-group", "chem-struct-wrap"})
_CAPTIONED = frozenset({"fig", "fig-group"})
_TABLES = frozenset({"table-wrap", "table-wrap-group"})
_IN_PARTS = frozenset({"fn", "tex-math", *NOT_SHOWN})  # not read in titles, captions and cells
_EMPTY_LINE = "\f"  # no character of XML
_BLANKS = re.compile(r"\s+")
_MANY_BLANKS = re.compile(" {2,}")
_AROUND_TAB = re.compile(" ?\t ?")


def units(source: PmcSource) -> list[Unit]:
    """Return the articles' files."""
    return file_units(source.name, find_files(source.path, field=path_field(source.name), patterns=_PATTERNS))


def read(source: PmcSource, unit: Unit, progress: Progress) -> Iterator[Record]:
    """Yield one value for each article."""
    return read_articles(read_chunks(unit.location, progress), file=unit.name, source=source)


def licence(source: PmcSource) -> str:
    """Return that PMC's articles have licences of their own."""
    return "each article's own, stated in its file"


def read_articles(
    chunks: Iterable[bytes], *, file: str, source: PmcSource
) -> Iterator[Document | Dropped | Quarantined]:
    """Yield one value for each article. The id is ``PMC<number>``, else the PMID; the group ``pmid:<PMID>``, else the id.

    An article is thus held out together with its PubMed citation. Dropped as ``no_body`` without text in the body.
    """
    try:
        root = read_root(chunks)
    except DamagedFileError as error:
        yield Quarantined(file, error.position, error.reason)
        return
    articles = [root] if local_name(root) == "article" else [*root.iter("{*}article")]
    if not articles:
        yield Quarantined(file, "line 1", "the root element is not article")
    for article in articles:
        yield _article(article, file, source)


def _article(article: Any, file: str, source: PmcSource) -> Document | Dropped | Quarantined:
    numbers = {e.get("pub-id-type"): _flat(e) for e in article.iterfind("{*}front/{*}article-meta/{*}article-id")}
    pmc = (numbers.get("pmc") or numbers.get("pmcid") or "").upper().removeprefix("PMC")
    pmid = numbers.get("pmid", "")
    if not (pmc or pmid):
        return Quarantined(file, f"line {article.sourceline}", "no article-id of type pmc or pmid")
    document_id = f"PMC{pmc}" if pmc else pmid
    body = article.find("{*}body")
    lines = [] if body is None else _lines(body, source)
    if not any(lines):
        return Dropped("no_body")
    head = [_title(article)]
    for abstract in article.iterfind("{*}front/{*}article-meta/{*}abstract"):
        # Graphical abstracts and highlights repeat the article; a translation is trans-abstract, another element.
        if abstract.get("abstract-type") in (None, "abstract", "summary"):
            head += ["", "Abstract", *_lines(abstract, source)]
    floats = [line for group in article.iterfind("{*}floats-group") for line in _float_lines(group, source) if line]
    text = "\n".join([*head, "", *lines, *floats]).strip()
    group = f"pmid:{pmid}" if pmid else document_id
    return Document(document_id, source.name, group, re.sub(r"\n{3,}", "\n\n", text))


def _title(article: Any) -> str:
    group = article.find("{*}front/{*}article-meta/{*}title-group")
    if group is None:
        return ""
    parts = [_flat(e) for name in ("article-title", "subtitle") for e in group.iterfind(f"{{*}}{name}")]
    title = ""
    for part in filter(None, parts):
        title += f"{':' if title[-1:].isalnum() else ''} {part}" if title else part
    return title


def _lines(element: Any, source: PmcSource) -> list[str]:
    """Return the lines of a body or abstract."""
    parts: list[str] = []
    _collect(element, parts, skip=_NEVER, source=source)
    return _split(parts)


def _float_lines(element: Any, source: PmcSource) -> Iterator[str]:
    """Yield what the source keeps of a figure, a table, or a group of them: label with caption, then each row."""
    name = local_name(element)
    is_kept = (name in _CAPTIONED and source.captions == "keep") or (name in _TABLES and source.tables == "keep")
    if is_kept:
        head = [_flat(part) for kind in ("label", "caption") for part in element.iterfind(f"{{*}}{kind}")]
        yield " ".join(filter(None, head))
    if is_kept and name == "table-wrap":
        for row in element.iter("{*}tr"):
            cells = [_flat(cell) for cell in row]
            yield "\t".join(cells) if any(cells) else ""
    for child in element if name not in ("fig", "table-wrap", "chem-struct-wrap") else ():
        if local_name(child) in _FLOATS:
            yield from _float_lines(child, source)
        elif name == "floats-group" and local_name(child) == "boxed-text":
            yield from _lines(child, source)


def _flat(element: Any) -> str:
    """Return all text below a title, a caption or a cell as one line."""
    parts: list[str] = []
    _collect(element, parts, skip=_IN_PARTS, source=None)
    return " ".join(_split(parts))


def _split(parts: list[str]) -> list[str]:
    """Return the lines of texts with single blanks; an empty one stays only before a section."""
    lines = [write_scripts(_AROUND_TAB.sub("\t", _MANY_BLANKS.sub(" ", line))) for line in "".join(parts).split("\n")]
    return ["" if line == _EMPTY_LINE else line.strip(" ") for line in lines if line == _EMPTY_LINE or line.strip()]


def _collect(element: Any, parts: list[str], *, skip: frozenset[str], source: PmcSource | None) -> None:
    """Add the text below an element, with ends of lines, tabs and marks; without a source nothing is left out but ``skip``."""
    parts.append(_BLANKS.sub(" ", element.text or ""))
    for index, child in enumerate(element):
        name = local_name(child)
        before, after = around(element, child, index)
        if name is None:
            parts.append(child.text or "")  # an entity reference stays unchanged
        elif source is not None and name in _FLOATS:
            lines = [f"{line}\n" for line in _float_lines(child, source) if line]
            parts += ["\n", *lines] if lines else [" "]
        elif name not in skip and not (source is not None and name == "title" and _flat(child).lower() == "abstract"):
            border = "\n" if name in _BLOCKS else " " if name in _SPACED else ""
            parts += [border, f"{_EMPTY_LINE}\n" if name == "sec" else "\t" if name in _CELLS and index else "", before]
            _collect(child, parts, skip=skip, source=source)
            parts += [after, border]
        parts.append(_BLANKS.sub(" ", child.tail or ""))
