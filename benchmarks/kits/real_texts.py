"""Real notes and abstracts below ``CLINICAL_DATA`` (or ``../shared/data``), and as many copies of them as a row needs.

There are few real texts. A copy has the words of its original in another order, so that no two copies are near duplicates. One
word in fifty gets a unique spelling, because a file of 30,000 abstracts has a new word that often.
"""

import gzip
import os
import random
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from xml.sax.saxutils import escape

from clinical_modernbert.corpus.normalise import normalise
from clinical_modernbert.errors import SourceError
from clinical_modernbert.recipe.sources import PubMedSource, Source, TableSource
from clinical_modernbert.sources import list_units, read_unit
from clinical_modernbert.sources.document import Document
from clinical_modernbert.sources.files import read_chunks
from clinical_modernbert.sources.pubmed.scan import read_tree
from clinical_modernbert.sources.pubmed.xml import Citation


def data_folder() -> Path:
    """Return the folder of real data; ``SourceError`` where it is missing."""
    data = Path(os.environ.get("CLINICAL_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
    if not (data / "pubmed").is_dir():
        raise SourceError(f"{data} holds no pubmed/; set CLINICAL_DATA to a folder with real data")
    return data


def real_texts() -> dict[str, list[str]]:
    """Return the texts, normalised as a corpus holds them, by kind."""
    data = data_folder()
    table = TableSource(
        type="table", name="t", path=str(data / "notes/mtsamples/mtsamples_322.csv"), text_column="transcription"
    )
    sources: dict[str, Source] = {
        "abstracts": PubMedSource(type="pubmed", name="p", path=str(data / "pubmed")),
        "notes": table,
    }
    return {
        name: [
            normalise(record.text)
            for unit in list_units(source)
            for record in read_unit(source, unit)
            if isinstance(record, Document)
        ]
        for name, source in sources.items()
    }


_NEW_WORDS = 0.02
_OLD_RECORD = re.compile(r"<MedlineCitation .*?</MedlineCitation>", re.DOTALL)
_RECORD = re.compile(r"<PubmedArticle>.*?</PubmedArticle>", re.DOTALL)
_PMID = re.compile(r"<PMID[^>]*>\d+</PMID>")
_TITLE = re.compile(r"<ArticleTitle[^>]*>.*?</ArticleTitle>", re.DOTALL)
_ABSTRACT = re.compile(r"<Abstract>.*?</Abstract>", re.DOTALL)


def real_citations() -> list[str]:
    """Return the XML of the real citations, the 2016 ones wrapped as the current DTD has them."""
    records = []
    for file in sorted((data_folder() / "pubmed").rglob("*.xml*")):
        text = b"".join(read_chunks(file)).decode()
        end = "<PubmedData><ArticleIdList></ArticleIdList></PubmedData></PubmedArticle>"
        records += _RECORD.findall(text) or [f"<PubmedArticle>{m}{end}" for m in _OLD_RECORD.findall(text)]
    return records


def varied_citations(count: int) -> Iterator[str]:
    """Yield ``count`` citations with PMIDs of their own: real records whole, but for the words of title and abstract.

    The abstract is one plain paragraph, which every reader takes alike.
    """
    rng = random.Random(0)
    parsed = []
    for record in real_citations():
        wrapped = f"<PubmedArticleSet>{record}</PubmedArticleSet>".encode()
        citation = next(found for found in read_tree([wrapped]) if isinstance(found, Citation))
        body = " ".join(text for _, text in citation.sections)
        if body and _TITLE.search(record) and _ABSTRACT.search(record):
            parsed.append((record, citation.title, body))
    for number in range(count):
        record, title, body = parsed[number % len(parsed)]
        texts = [escape(" ".join(vary(text, rng).split())) for text in (title, body)]
        new = (
            (_PMID, f'<PMID Version="1">{10_000_000 + number}</PMID>'),
            (_TITLE, f"<ArticleTitle>{texts[0]}</ArticleTitle>"),
            (_ABSTRACT, f"<Abstract><AbstractText>{texts[1]}</AbstractText></Abstract>"),
        )
        for pattern, content in new:
            record = pattern.sub(lambda _, c=content: c, record, count=1)  # type: ignore[misc]  # the default binds it
        yield record


def write_citations(path: Path, records: Iterable[str]) -> None:
    """Write a gzip of a ``PubmedArticleSet``."""
    with gzip.open(path, "wt", compresslevel=6, encoding="utf-8") as stream:
        stream.write('<?xml version="1.0" encoding="UTF-8"?>\n<PubmedArticleSet>\n')
        stream.writelines(f"{record}\n" for record in records)
        stream.write("</PubmedArticleSet>\n")


def varied(texts: list[str], *, copies: int) -> Iterator[str]:
    """Yield ``copies`` variants of each text, line by line and word by word as long as the original."""
    rng = random.Random(0)
    for _ in range(copies):
        for text in texts:
            yield vary(text, rng)


def vary(text: str, rng: random.Random) -> str:
    """Return a text of the same words in another order, some of them new."""
    lines = []
    for line in text.split("\n"):
        words = line.split(" ")
        rng.shuffle(words)
        lines.append(" ".join(_new(word, rng) if rng.random() < _NEW_WORDS else word for word in words))
    return "\n".join(lines)


def _new(word: str, rng: random.Random) -> str:
    return (
        word if len(word) < 4 or not word.isalpha() else word[:2] + "".join(rng.choices("aeioulnrst", k=3)) + word[2:]
    )
