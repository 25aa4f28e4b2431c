"""Codes as sentences: the forms in which a row of a code table becomes text.

A code's group is its category in its table (``icd9cm:250``, ``icd9cm:V30``, ``icd9cm:E812``, ``icd10cm:E11``): all codes that
share the text before the dot are held out together, whatever their description and whichever template wrote them. Categories
of different systems are different groups, unless the source names a crosswalk (``relations.joined_concepts``). The same code
from two tables has one group.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from clinical_modernbert.artifacts.remote_files import local_copy
from clinical_modernbert.recipe.sources import CodeSource
from clinical_modernbert.sources.codes.diagnoses import Table, read_table
from clinical_modernbert.sources.codes.relations import (
    Mapping,
    Place,
    joined_concepts,
    read_gem,
    read_hierarchy,
    tabular_location,
)
from clinical_modernbert.sources.codes.rows import CodeRow
from clinical_modernbert.sources.codes.tables import READERS, read_order_file
from clinical_modernbert.sources.document import Document, Dropped, Quarantined
from clinical_modernbert.sources.files import Progress, read_chunks

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


def read_code_documents(
    location: Path, *, file: str, source: CodeSource, progress: Progress | None = None
) -> Iterator[Document | Dropped | Quarantined]:
    """Yield each code in each of the source's forms; the id is ``<system>:<code>``, and ``<system>:<code>#<form>``
    for every form but the first.

    A name of several in a table (RxNorm) gets its number: ``rxnorm:161:2``. A code of which a form has nothing to say (no
    counterpart, or not in the tabular list) is dropped under that form's reason.
    """
    rows: list[CodeRow] = []
    for row in _code_rows(read_chunks(location, progress), file=file, source=source):
        if isinstance(row, CodeRow):
            rows.append(row)
        else:
            yield row
    common = _common_words(row.description for row in rows)
    places = read_hierarchy(tabular_location(source.hierarchy_path)) if "hierarchy" in source.templates else {}
    mappings = read_gem(local_copy(source.crosswalk_path)) if source.crosswalk_path is not None else []
    joined = joined_concepts(mappings)
    partners = _partners(mappings)
    seen: Counter[str] = Counter()
    for row in rows:
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


def _code_rows(chunks: Iterable[bytes], *, file: str, source: CodeSource) -> Iterator[CodeRow | Dropped | Quarantined]:
    if source.table in ("icd9cm", "icd10cm"):
        table: Table = "icd9cm" if source.table == "icd9cm" else "icd10cm"
        for entry in read_table(chunks, table, file=file):
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
    partners: dict[tuple[str, str], list[tuple[str, bool]]] = {}
    for mapping in mappings:
        if not mapping.combination:
            partners.setdefault(("icd9cm", mapping.icd9), []).append((mapping.icd10, mapping.approximate))
            partners.setdefault(("icd10cm", mapping.icd10), []).append((mapping.icd9, mapping.approximate))
    return partners


def _hierarchy_sentence(row: CodeRow, places: dict[str, Place]) -> str | None:
    # The tabular list has no codes with a seventh character: they have the place of the longest code above them.
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
    of_code = partners.get((row.system, row.code))
    if not of_code:
        return None
    other = "ICD-10" if row.system == "icd9cm" else "ICD-9"
    exact = [code for code, approximate in of_code if not approximate]
    codes = exact or [code for code, _ in of_code]
    listed = codes[0] if len(codes) == 1 else f"{', '.join(codes[:-1])} or {codes[-1]}"
    verb = "corresponds" if exact else "corresponds approximately"
    text = _lower_start(row.description.rstrip("."), common)
    return f"The {_DASHED[row.system]} code {row.code}, {text}, {verb} to the {other} code {listed}."


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
