"""Code tables as sentences, one document for each code and form.

``diagnoses`` reads CMS's two diagnosis lists, ``tables`` every other table, ``relations`` the hierarchy and the crosswalk between
them, ``chapters`` knows ICD's chapters, ``sentences`` writes the text.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from clinical_modernbert.artifacts.remote_files import local_copy
from clinical_modernbert.errors import SourceError
from clinical_modernbert.hashing import file_sha256
from clinical_modernbert.recipe.sources import CodeSource
from clinical_modernbert.sources.codes.diagnoses import CodeEntry, Table, code_group, code_table, table_location
from clinical_modernbert.sources.codes.relations import tabular_location
from clinical_modernbert.sources.codes.sentences import read_code_documents
from clinical_modernbert.sources.document import Record, Unit
from clinical_modernbert.sources.files import Progress
from clinical_modernbert.sources.notes.mimic import PHYSIONET

__all__ = ["CodeEntry", "Table", "code_group", "code_table", "licence", "read", "source_digest", "units"]

_LICENCES = {
    "cpt": "American Medical Association, a licence is needed",
    "icd11": "World Health Organization, CC BY-ND 3.0 IGO",
    "mimic_diagnoses": PHYSIONET,
    "mimic_procedures": PHYSIONET,
    "mimic_hcpcs": PHYSIONET,
    "rxnorm": "NLM's terms for RxNorm",
}


def units(source: CodeSource) -> list[Unit]:
    """Return the table as one unit."""
    location = table_location(source.table, source.path)
    return [Unit(source.name, location.name, str(location), digest=source_digest(source, location))]


def read(source: CodeSource, unit: Unit, progress: Progress) -> Iterator[Record]:
    """Yield one value for each code and form."""
    # Located again: on another machine the package may be in another folder.
    location = table_location(source.table, source.path)
    return read_code_documents(location, file=unit.name, source=source, progress=progress)


def licence(source: CodeSource) -> str:
    """Return the licence of the source's table; CMS's and FDA's are in the public domain."""
    return _LICENCES.get(source.table, "public domain (U.S. government)")


def source_digest(source: CodeSource, location: Path) -> str:
    """Return the sha256 of the table, or of the digests of all files that make the sentences."""
    files = [location]
    if "hierarchy" in source.templates:
        files.append(tabular_location(source.hierarchy_path))
    if source.crosswalk_path is not None:
        crosswalk = local_copy(source.crosswalk_path)
        if not crosswalk.is_file():
            raise SourceError(f"sources[{source.name}].crosswalk_path: {source.crosswalk_path!r} is not a file")
        files.append(crosswalk)
    digests = [file_sha256(file) for file in files]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
