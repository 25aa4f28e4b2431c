"""Real notes and abstracts below ``CLINICAL_DATA`` (or ``../shared/data``), and as many more made of them as a row needs.

The real ones are few. A copy has the words of its original in another order, so that no copy resembles another, and one word in
fifty is spelt as no other is: that is how often a file of 30,000 abstracts brings a word that it did not hold before.
"""

import os
import random
from collections.abc import Iterator
from pathlib import Path

from clinical_modernbert.corpus.normalise import normalise
from clinical_modernbert.errors import SourceError
from clinical_modernbert.recipe.sources import PubMedSource, Source, TableSource
from clinical_modernbert.sources import list_units, read_unit
from clinical_modernbert.sources.document import Document


def data_folder() -> Path:
    """Return the folder of real data; ``SourceError`` where it is missing."""
    data = Path(os.environ.get("CLINICAL_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
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
