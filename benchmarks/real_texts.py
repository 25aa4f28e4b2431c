"""Real notes and abstracts below ``CLINICAL_DATA`` (or ``../shared/data``), as several rows read them."""

import os
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
