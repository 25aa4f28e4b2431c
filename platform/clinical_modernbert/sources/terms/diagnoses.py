"""The ICD codes of hospital stays in MIMIC's layout, with their descriptions: what a note's diagnoses are."""

from dataclasses import dataclass
from pathlib import Path

from clinical_modernbert.recipe.texts import CorpusPairs
from clinical_modernbert.sources.codes.diagnoses import Table, code_table
from clinical_modernbert.sources.codes.rows import icd9_dotted, icd10_dotted
from clinical_modernbert.sources.codes.shapes import plain_code
from clinical_modernbert.sources.csv_rows import read_rows
from clinical_modernbert.sources.document import ENCOUNTER, Quarantined, group_of, whole_number
from clinical_modernbert.sources.terms.rows import existing, whole_chunks
from clinical_modernbert.sources.terms.term import Term, code_term

_Code = tuple[Table, str]
_TABLES: dict[str, Table] = {"9": "icd9cm", "10": "icd10cm"}


@dataclass(frozen=True, slots=True)
class Diagnoses:
    """The most important diagnoses of each stay."""

    stays: dict[str, list[tuple[int, _Code]]]
    """Stay -> (rank, code)."""
    descriptions: dict[_Code, str]
    damaged: tuple[Quarantined, ...] = ()
    """Rows of the table that cannot be read."""

    def of(self, encounter: str | None) -> list[Term]:
        """Return the descriptions of a stay's codes, the most important first."""
        codes = [code for _, code in sorted(self.stays.get(encounter or "", ()))]
        return [code_term(self.descriptions[code], *code) for code in codes if code in self.descriptions]


def diagnoses_files(source: CorpusPairs) -> list[Path]:
    """Return the table of diagnoses, if the source has one."""
    return [existing(source.diagnoses_path, source, "diagnoses_path")] if source.diagnoses_path is not None else []


def read_diagnoses(source: CorpusPairs) -> Diagnoses:
    """Return the diagnoses of ``diagnoses_icd.csv`` (MIMIC-IV) or ``DIAGNOSES_ICD.csv`` (MIMIC-III, all ICD-9-CM).

    Codes may have dots and lower case; raises ``SourceError`` where leading zeros were cut.
    """
    (path,) = diagnoses_files(source)
    stays: dict[str, list[tuple[int, _Code]]] = {}
    seen: dict[_Code, _Code] = {}
    damaged: list[Quarantined] = []
    optional = ("icd_code", "icd_version", "icd9_code")
    for row in read_rows(whole_chunks(path), file=path.name, columns=("hadm_id", "seq_num"), optional=optional):
        if isinstance(row, Quarantined):
            damaged.append(row)
            continue
        stay, stated_rank, code, version, of_icd9 = (value.strip() for value in row.values)
        if not (code or of_icd9):  # MIMIC-III has such rows, without a rank
            continue
        rank, table = whole_number(stated_rank), _TABLES.get(whole_number(version) or "9")
        if not (rank.isascii() and rank.isdigit()) or table is None:
            reason = "icd_version is not 9 or 10" if table is None else "seq_num is no number"
            damaged.append(Quarantined(path.name, f"line {row.line}", reason))
            continue
        if not 0 < int(rank) <= source.max_diagnoses:
            continue
        plain = plain_code(table, code or of_icd9, place=f"{path.name}, line {row.line}")
        if plain is None:
            damaged.append(Quarantined(path.name, f"line {row.line}", f"the code has not the form of {table}"))
            continue
        found: _Code = table, (icd10_dotted if table == "icd10cm" else icd9_dotted)(plain)
        # One object a code: a hospital's table has millions of rows and thousands of codes.
        stays.setdefault(group_of(ENCOUNTER, stay), []).append((int(rank), seen.setdefault(found, found)))
    descriptions = {(table, entry.code): entry.description for table in _TABLES.values() for entry in code_table(table)}
    return Diagnoses(stays, {code: descriptions[code] for code in seen if code in descriptions}, tuple(damaged))
