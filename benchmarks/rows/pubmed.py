"""PubMed XML to records: ours against pubmed_parser, and against a bare lxml pass over the same gzip.

The file consists of the real citations below ``CLINICAL_DATA`` (or ``../shared/data``), the 2016 ones wrapped as the
current DTD has them, repeated to about 60 MB of XML. pubmed_parser (0.5.1) reads every field of a citation: it
has no setting to skip one. The bound is the least work of an lxml
reader: ``iterparse`` on the records' tag with each element freed, no field read.

Equality: the same PMIDs in the same order, and the same title and abstract letters and digits for every record where
pubmed_parser reads correctly. It loses text below the second level of markup (a letter within ``<i><sub>``) and MathML;
those records are counted.
"""

import gzip
from importlib.metadata import version
from pathlib import Path
from typing import Any

from clinical_modernbert.errors import SourceError
from clinical_modernbert.recipe.sources import PubMedSource
from clinical_modernbert.sources.document import Document
from clinical_modernbert.sources.files import read_chunks
from clinical_modernbert.sources.pubmed import read_citations
from clinical_modernbert.sources.pubmed.scan import read_tree, scan_records
from clinical_modernbert.sources.pubmed.xml import Citation

from benchmarks.harness import Row
from benchmarks.kits.real_texts import real_citations, write_citations

REPEATS = 10


def build(scratch: Path) -> Row:
    """Make the file and return the row; ``SourceError`` where real data or pubmed_parser is missing."""
    path = scratch / "citations.xml.gz"
    distinct = _write(path)
    try:
        from pubmed_parser import parse_medline_xml
    except ImportError:
        raise SourceError("the peer is not installed: pip install clinical-modernbert[bench]") from None

    def ours() -> int:
        source = PubMedSource(type="pubmed", name="pubmed", path=str(path), title_only="keep")
        return sum(1 for record in read_citations(read_chunks(path), file=path.name, source=source) if record)

    def bound() -> int:
        from lxml import etree

        count = 0
        with gzip.open(path) as stream:
            for _, element in etree.iterparse(stream, tag="PubmedArticle", collect_ids=False):
                count += 1
                element.clear()
                while element.getprevious() is not None:
                    del element.getparent()[0]
        return count

    return Row(
        name="pubmed",
        unit="citations",
        peer=f"pubmed_parser {version('pubmed_parser')}",
        check=lambda: _check(path, distinct),
        ours=ours,
        other=lambda: sum(1 for _ in parse_medline_xml(str(path))),
        bound=bound,
        target="5 times a core; 0.8 of a bare lxml pass",
    )


def _write(path: Path) -> int:
    records = real_citations()
    write_citations(path, records * REPEATS)
    return len(records)


def _check(path: Path, distinct: int) -> dict[str, Any]:
    ours = [r for r in scan_records(read_chunks(path)) if isinstance(r, Citation)]
    if ours != list(read_tree(read_chunks(path))):
        raise AssertionError("the scanner and the lxml reader differ")
    from pubmed_parser import parse_medline_xml

    theirs = [(r["pmid"], r["title"], r["abstract"]) for r in parse_medline_xml(str(path))]
    if [c.pmid for c in ours] != [pmid for pmid, _, _ in theirs]:
        raise AssertionError("the PMIDs differ")
    lost = 0
    for citation, (pmid, title, abstract) in zip(ours, theirs, strict=True):
        labels = [label for label, _ in citation.sections] if len(citation.sections) > 1 else []
        texts = [text for _, text in citation.sections]
        joined = "".join(f"{label}{text}" for label, text in zip(labels or [""] * len(texts), texts, strict=True))
        if _letters(title) == _letters(citation.title) and _letters(abstract) == _letters(joined):
            continue
        # The peer may only lack characters, never have others.
        if not (_is_part(title, citation.title) and _is_part(abstract, joined)):
            raise AssertionError(f"PMID {pmid}: the texts differ")
        lost += 1
    documents = sum(
        isinstance(record, Document)
        for record in read_citations(
            read_chunks(path), file=path.name, source=PubMedSource(type="pubmed", name="p", path="")
        )
    )
    return {
        "citations": len(ours),
        "distinct": distinct,
        "documents": documents,
        "peer_lost_text": lost,
    }


def _letters(text: str) -> str:
    return "".join(c for c in text if c.isalnum())


def _is_part(shorter: str, longer: str) -> bool:
    """Whether one's letters are a subsequence of the other's."""
    rest = iter(_letters(longer))
    return all(character in rest for character in _letters(shorter))
