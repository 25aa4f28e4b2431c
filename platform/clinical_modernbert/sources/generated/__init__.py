"""Generated sources: parts of at most 500 records, rendered in the real formats and read by the real readers.

A record is a pure function of (seed, its index), so parts can be made in any order and on any machine. ``VERSION`` enters every
digest: raise it when a generated text changes.
"""

import hashlib
import json

from clinical_modernbert.recipe.sources import SyntheticNoteSource, SyntheticPubMedSource
from clinical_modernbert.sources.document import Unit

VERSION = 1
PART_RECORDS = 500
LICENCE = "generated, none"


def parts(source: SyntheticNoteSource | SyntheticPubMedSource) -> list[Unit]:
    """Return the parts of a generated source; the digest covers the generator's version, the seed and the records."""
    units = []
    for number, first in enumerate(range(0, source.num_documents, PART_RECORDS)):
        count = min(PART_RECORDS, source.num_documents - first)
        settings = {"version": VERSION, "type": source.type, "seed": source.seed, "first": first, "records": count}
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        units.append(Unit(source.name, f"part-{number:06d}", "", first_record=first, num_records=count, digest=digest))
    return units


def indexes(unit: Unit) -> range:
    """Return the indexes of a part's records."""
    assert unit.num_records is not None, "a generated part names its records"
    return range(unit.first_record, unit.first_record + unit.num_records)
