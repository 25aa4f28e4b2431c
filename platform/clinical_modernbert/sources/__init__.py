"""Raw files and generated text -> documents: what tasks read (units), and each unit's records one by one.

Importing this package loads neither lxml nor numpy; a unit's reader loads what it needs. A new source type is a section in
``recipe/sources.py``, a reader module here, and a case in the two functions below.
"""

from collections.abc import Iterator
from pathlib import Path

from clinical_modernbert.errors import SourceError
from clinical_modernbert.hashing import file_sha256
from clinical_modernbert.recipe.sources import (
    CodeSource,
    DatasetSource,
    MedsSource,
    MimicNoteSource,
    PmcSource,
    PubMedSource,
    Source,
    SyntheticNoteSource,
    SyntheticPubMedSource,
    TableSource,
)
from clinical_modernbert.sources import codes, csv_rows, generated, pmc, pubmed
from clinical_modernbert.sources.codes import CodeEntry, code_group, code_table, read_icd9cm, read_icd10cm
from clinical_modernbert.sources.codes.chapters import icd9_chapter, icd10_chapter
from clinical_modernbert.sources.document import Deleted, Document, Dropped, Quarantined, Unit
from clinical_modernbert.sources.evaluation_sets import evaluation_texts
from clinical_modernbert.sources.evaluation_sets.ed import EdOutcome, EdStay, read_stays
from clinical_modernbert.sources.files import Progress, find_files, read_chunks
from clinical_modernbert.sources.notes import meds, mimic, table

__all__ = [
    "CodeEntry",
    "Deleted",
    "Document",
    "Dropped",
    "EdOutcome",
    "EdStay",
    "Quarantined",
    "Unit",
    "code_group",
    "code_table",
    "evaluation_texts",
    "icd9_chapter",
    "icd10_chapter",
    "is_synthetic",
    "list_units",
    "read_icd9cm",
    "read_icd10cm",
    "read_stays",
    "read_unit",
]


def list_units(source: Source) -> list[Unit]:
    """Return what tasks read, sorted by name (PubMed: in NLM's order): files with their sha256, or parts of a generated source.

    Names and digests do not depend on where the folder lies, so they may enter a fingerprint. Raises ``SourceError`` where a
    path or package is missing, nothing matches, or a CSV file lacks a column.
    """
    match source:
        case SyntheticNoteSource() | SyntheticPubMedSource():
            return generated.list_parts(source)
        case CodeSource():
            location = codes.table_location(source.table, source.path)
            return [Unit(source.name, location.name, str(location), digest=codes.source_digest(source, location))]
        case PubMedSource():
            files = pubmed.sort_files(find_files(source.path, field=_path_field(source), patterns=pubmed.PATTERNS))
            pubmed.check_checksums(files, source=source)
        case MimicNoteSource():
            files = find_files(source.path, field=_path_field(source), patterns=mimic.PATTERNS, exclude=mimic.EXCLUDE)
            for name, location in files:
                csv_rows.check_columns(location, file=name, columns=mimic.COLUMNS)
        case TableSource():
            location = Path(source.path)
            if not location.is_file():
                raise SourceError(
                    f"{_path_field(source)}: {source.path!r} is no file; expected a CSV file with a header, Parquet or JSON lines"
                )
            files = [(location.name, location)]
            table.check_table(location, source)
        case DatasetSource():
            return [Unit(source.name, Path(source.path).name, source.path, digest=table.dataset_digest(source))]
        case PmcSource():
            files = find_files(source.path, field=_path_field(source), patterns=pmc.PATTERNS)
        case MedsSource():
            # A data set's shards lie below data/, beside its metadata.
            shards = Path(source.path) / "data"
            where = str(shards) if shards.is_dir() else source.path
            files = find_files(where, field=_path_field(source), patterns=meds.PATTERNS)
    return [Unit(source.name, name, str(location), digest=file_sha256(location)) for name, location in files]


def read_unit(
    source: Source, unit: Unit, *, progress: Progress | None = None
) -> Iterator[Document | Deleted | Dropped | Quarantined]:
    """Yield exactly one value for each raw record of a unit, streaming; one quarantined record stands for a damaged rest.

    How large that rest is, is told by ``progress`` when all values are read.
    """
    progress = progress or Progress()
    match source:
        case SyntheticNoteSource():
            yield from mimic.read_notes(generated.note_chunks(source, unit), file=unit.name, source=source.name)
        case SyntheticPubMedSource():
            as_pubmed = PubMedSource(type="pubmed", name=source.name, path="")
            yield from pubmed.read_citations(generated.citation_chunks(source, unit), file=unit.name, source=as_pubmed)
        case CodeSource():
            # Found anew: on another machine the package may lie elsewhere.
            location = codes.table_location(source.table, source.path)
            yield from codes.read_code_documents(location, file=unit.name, source=source)
        case PubMedSource():
            problem = pubmed.checksum_problem(Path(unit.location))
            if problem:
                progress.size_bytes = Path(unit.location).stat().st_size
                yield Quarantined(unit.name, "the whole file", problem)
            else:
                yield from pubmed.read_citations(
                    read_chunks(Path(unit.location), progress), file=unit.name, source=source
                )
        case MimicNoteSource():
            yield from mimic.read_notes(read_chunks(Path(unit.location), progress), file=unit.name, source=source.name)
        case TableSource():
            yield from table.read_table(Path(unit.location), file=unit.name, source=source)
        case DatasetSource():
            yield from table.read_dataset(source)
        case PmcSource():
            yield from pmc.read_article(read_chunks(Path(unit.location), progress), file=unit.name, source=source)
        case MedsSource():
            yield from meds.read_subjects(Path(unit.location), file=unit.name, source=source)


def is_synthetic(source: Source) -> bool:
    """Return whether a source is generated, which manifests and screens must say."""
    return isinstance(source, SyntheticNoteSource | SyntheticPubMedSource)


def _path_field(source: PubMedSource | PmcSource | MimicNoteSource | MedsSource | TableSource) -> str:
    return f"sources[{source.name}].path"
