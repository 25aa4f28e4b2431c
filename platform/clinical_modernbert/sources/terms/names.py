"""Pairs of lists of names: NLM's concept files (UMLS, RxNorm), and any table of terms.

NLM's files have no header: CUI|LAT|TS|LUI|STT|SUI|ISPREF|AUI|SAUI|SCUI|SDUI|SAB|TTY|CODE|STR|SRL|SUPPRESS|CVF| (RXNCONSO has the
RXCUI first).
"""

import re
from collections.abc import Iterator
from pathlib import Path

from clinical_modernbert.errors import SourceError
from clinical_modernbert.recipe.terms import RrfTerms, TermTable
from clinical_modernbert.sources.document import Dropped, Quarantined
from clinical_modernbert.sources.terms.rows import existing, read_rows, whole_lines
from clinical_modernbert.sources.terms.term import Follows, Term, TermPair, TermRecord, one_line, text_key

_NUM_FIELDS = 18
_CUI, _LANGUAGE, _TS, _STT, _PREFERRED, _SAB, _CODE, _NAME, _SUPPRESS = 0, 1, 2, 4, 6, 11, 13, 14, 16
_CODES = {"ICD9CM": "icd9cm", "ICD10CM": "icd10cm"}
_CONCEPTS = {"MSH": "mesh", "SNOMEDCT_US": "snomed", "HPO": "hp"}
# What an extraction from web pages leaves among names. Chemists write ( ) [ ] { } and ->, so no single bracket is enough.
_MARKUP = re.compile(r"</?\w|/>|&(?:lt|gt|amp|quot|nbsp|#\d+);|\{\{|\}\}|\[\[|\]\]|https?:|\w ?= ?\w")


def rrf_files(source: RrfTerms) -> list[Path]:
    """Return the concept file."""
    return [existing(source.path, source, "path")]


def read_rrf(source: RrfTerms) -> Iterator[TermRecord]:
    """Yield each English name that is not suppressed with its concept's preferred name; ICD codes tell what holds it out."""
    location = existing(source.path, source, "path")
    rows: list[list[str]] = []
    names: dict[str, str] = {}
    for row in _rows(location):
        if isinstance(row, Quarantined):
            yield row
            continue
        if not row[_CUI].strip():
            yield Dropped("no_concept")
            continue
        if rows and rows[0][_CUI] != row[_CUI]:
            yield from _concept(rows, source, names)
            rows = []
        rows.append(row)
    yield from _concept(rows, source, names)


def _rows(location: Path) -> Iterator[list[str] | Quarantined]:
    for number, line in whole_lines(location):
        fields = line.removesuffix("|").split("|")
        if len(fields) == _NUM_FIELDS:
            yield fields
        elif number == 1:
            raise SourceError(
                f"{location.name}: line 1 has {len(fields)} fields, NLM's concept files have {_NUM_FIELDS}"
            )
        else:
            yield Quarantined(location.name, f"line {number}", f"{len(fields)} fields, expected {_NUM_FIELDS}")


def _concept(rows: list[list[str]], source: RrfTerms, names: dict[str, str]) -> Iterator[TermRecord]:
    """Yield the records of a concept's rows; ``names`` has the preferred names so far, because its rows may be scattered."""
    concept = f"{source.system}:{rows[0][_CUI]}" if rows else ""
    lineage = (concept,) if rows else ()
    for row in rows:
        if table := _CODES.get(row[_SAB]):
            yield Follows(concept, f"{table}:{row[_CODE].partition('.')[0]}")
        elif system := _CONCEPTS.get(row[_SAB]):
            yield Follows(f"{system}:{row[_CODE].removeprefix('HP:')}", concept)
    kept = []
    for row in rows:
        if row[_LANGUAGE] != "ENG" or row[_SUPPRESS] not in ("N", ""):
            yield Dropped("language" if row[_LANGUAGE] != "ENG" else "suppressed")
        elif source.vocabularies is not None and row[_SAB] not in source.vocabularies:
            yield Dropped("vocabulary")
        else:
            kept.append(row)
    if not kept:
        return
    # Stable: of equally preferred names the first in the file.
    preferred = min(kept, key=lambda row: (row[_TS] != "P", row[_STT] != "PF", row[_PREFERRED] != "Y"))
    name = Term(names.setdefault(concept, one_line(preferred[_NAME])), lineage)
    texts = {text_key(row[_NAME]): one_line(row[_NAME]) for row in reversed(kept)}
    texts.pop(text_key(name.text), None)
    for number, text in enumerate(reversed(texts.values())):
        if number < source.max_names - 1:
            yield TermPair("synonym", Term(text, lineage), name)
        else:
            yield Dropped("max_names")


def table_files(source: TermTable) -> list[Path]:
    """Return the table."""
    return [existing(source.path, source, "path")]


def read_term_table(source: TermTable) -> Iterator[TermRecord]:
    """Yield the term and the name of each row; names with remains of HTML or wiki markup are dropped as ``markup``."""
    location = existing(source.path, source, "path")
    columns = [source.term_column, source.name_column, source.concept_column or source.name_column]
    quoted = location.name.removesuffix(".gz").endswith(".csv")
    for row in read_rows(location, [*columns, *source.reference_columns.values()], quoted=quoted):
        if isinstance(row, Quarantined):
            yield row
            continue
        term, name, concept, *references = (one_line(value) for value in row)
        if not concept or not name:
            yield Dropped("no_concept" if name else "no_name")
            continue
        lineage = (f"{source.system}:{concept}",)
        for system, reference in zip(source.reference_columns, references, strict=True):
            if reference:
                yield Follows(lineage[0], f"{system}:{reference}")
        if _MARKUP.search(term) or _MARKUP.search(name):
            yield Dropped("markup")
        else:
            yield TermPair("synonym", Term(term, lineage), Term(name, lineage))
