"""Raw files and generated text -> documents: the units that tasks read, and each unit's records one by one.

``MODULES`` names the module of every recipe type. A module has ``units`` (what tasks read), ``read`` (the records of one unit)
and ``licence``. A new source type is a section in ``recipe/sources.py``, a module here and its line in the table. Importing
this package loads neither lxml nor numpy; a module loads what it needs when it reads.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from clinical_modernbert.artifacts.remote_files import is_remote, remote_infos
from clinical_modernbert.errors import SourceError
from clinical_modernbert.recipe.sources import Source
from clinical_modernbert.sources import codes, pmc, pubmed
from clinical_modernbert.sources.checked_records import checked_records
from clinical_modernbert.sources.codes import CodeEntry, code_group, code_table
from clinical_modernbert.sources.document import Document, Record, Unit
from clinical_modernbert.sources.files import Progress, joint_unit
from clinical_modernbert.sources.generated import citation_files, note_files
from clinical_modernbert.sources.notes import (
    ccda,
    dataset,
    eicu,
    fhir,
    fhir_events,
    meds,
    mimic,
    omop,
    omop_events,
    table,
)

__all__ = ["CodeEntry", "Document", "code_group", "code_table", "licence_of", "list_units", "read_unit"]


class _Module(Protocol):
    def units(self, source: Any) -> list[Unit]:
        """Return the units of a source, sorted by name, with digests that do not depend on where its folder is."""

    def read(self, source: Any, unit: Unit, progress: Progress) -> Iterator[Record]:
        """Yield one value for each raw record of a unit."""

    def licence(self, source: Any) -> str | None:
        """Return the usual licence of such a source; None where it is that of the user's own files."""


MODULES: Mapping[str, _Module] = {
    "pubmed": pubmed,
    "pmc": pmc,
    "mimic_note": mimic,
    "meds": meds,
    "eicu_note": eicu,
    "omop_note": omop,
    "omop_events": omop_events,
    "fhir": fhir,
    "fhir_events": fhir_events,
    "ccda": ccda,
    "table": table,
    "dataset": dataset,
    "codes": codes,
    "synthetic_notes": note_files,
    "synthetic_pubmed": citation_files,
}


def list_units(source: Source) -> list[Unit]:
    """Return what tasks read, sorted by name (PubMed: in NLM's order): files with their digest, or parts of a generated source.

    Names and digests do not depend on where the folder is, so they may enter a fingerprint; in S3 a digest is of ETag and size.
    Raises ``SourceError`` where a path or package is missing, nothing matches, or a CSV file lacks a column.
    """
    return MODULES[source.type].units(source)


def read_unit(source: Source, unit: Unit, *, progress: Progress | None = None) -> Iterator[Record]:
    """Yield exactly one value for each raw record of a unit, streaming; where a file is damaged, one for all that follows.

    ``progress`` knows the size of what follows damage once all values are read. Raises ``SourceError`` without any of the text
    where a reader fails on what no rule foresees.
    """
    progress = progress or Progress()
    yield from checked_records(_unchanged_records(source, unit, progress), unit, progress)


def _unchanged_records(source: Source, unit: Unit, progress: Progress) -> Iterator[Record]:
    if _has_changed(unit):
        raise SourceError(f"{unit.source}/{unit.name} changed since it was listed; run the build again")
    yield from MODULES[source.type].read(source, unit, progress)


def _has_changed(unit: Unit) -> bool:
    """Whether a unit's files differ from those that were listed: in S3 by their ETags, else by their size."""
    if unit.version:
        return remote_infos([unit.location])[unit.location].version != unit.version
    locations = [location for _, location in unit.files] or [unit.location]
    if unit.files and all(map(is_remote, locations)):
        return joint_unit(unit.source, unit.name, unit.files).digest != unit.digest
    paths = [Path(location) for location in locations]
    # A copy of a file in S3 may be elsewhere on this machine; its reader locates it again.
    if not unit.size_bytes or not all(path.is_file() for path in paths):
        return False
    return sum(path.stat().st_size for path in paths) != unit.size_bytes


def licence_of(source: Source) -> str | None:
    """Return the usual licence of a source's type or code table; None where it is that of the user's own files."""
    return MODULES[source.type].licence(source)
