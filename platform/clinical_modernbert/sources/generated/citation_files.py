"""Generated citations as XML files in the form of the current PubMed DTD, read by PubMed's reader."""

from collections.abc import Iterator

from clinical_modernbert.recipe.sources import PubMedSource, SyntheticPubMedSource
from clinical_modernbert.sources.document import Record, Unit
from clinical_modernbert.sources.files import Progress
from clinical_modernbert.sources.generated import LICENCE, indexes, parts
from clinical_modernbert.sources.pubmed import read_citations


def units(source: SyntheticPubMedSource) -> list[Unit]:
    """Return the parts."""
    return parts(source)


def read(source: SyntheticPubMedSource, unit: Unit, progress: Progress) -> Iterator[Record]:
    """Yield one value for each generated citation."""
    as_pubmed = PubMedSource(type="pubmed", name=source.name, path="")
    return read_citations(citation_chunks(source, unit), file=unit.name, source=as_pubmed)


def licence(source: SyntheticPubMedSource) -> str:
    """Return that generated text has none."""
    return LICENCE


def citation_chunks(source: SyntheticPubMedSource, unit: Unit) -> Iterator[bytes]:
    """Yield a part as an XML file, a citation at a time."""
    from clinical_modernbert.sources.generated.pubmed import make_citation

    yield b'<?xml version="1.0" encoding="utf-8"?>\n<PubmedArticleSet>\n'
    for index in indexes(unit):
        yield make_citation(source.seed, index).encode()
    yield b"</PubmedArticleSet>\n"
