"""The ICD codes of hospital stays in MIMIC's layout, with their descriptions: what a note's diagnoses are."""

from dataclasses import dataclass
from pathlib import Path

from clinical_modernbert.recipe.texts import CorpusPairs
from clinical_modernbert.sources.codes.diagnoses import Table, code_table
from clinical_modernbert.sources.codes.rows import icd9_dotted, icd10_dotted
from clinical_modernbert.sources.csv_rows import read_rows
from clinical_modernbert.sources.document import ENCOUNTER, Quarantined, group_of
from clinical_modernbert.sources.terms.rows import existing, whole_chunks
from clinical_modernbert.sources.terms.term import Term, code_term

_Code = tuple[Table, str]


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
    """Return the diagnoses of ``diagnoses_icd.csv`` (MIMIC-IV) or ``DIAGNOSES_ICD.csv`` (MIMIC-III, all ICD-9-CM)."""
    (path,) = diagnoses_files(source)
    stays: dict[str, list[tuple[int, _Code]]] = {}
    seen: dict[_Code, _Code] = {}
    damaged: list[Quarantined] = []
    optional = ("icd_code", "icd_version", "icd9_code")
    for row in read_rows(whole_chunks(path), file=path.name, columns=("hadm_id", "seq_num"), optional=optional):
        if isinstance(row, Quarantined):
            damaged.append(row)
            continue
        stay, rank, code, version, of_icd9 = (value.strip() for value in row.values)
        if not (rank.isdigit() and 0 < int(rank) <= source.max_diagnoses and (code or of_icd9)):
            continue
        found: _Code = ("icd10cm", icd10_dotted(code)) if version == "10" else ("icd9cm", icd9_dotted(code or of_icd9))
        # One object a code: a hospital's table has millions of rows and thousands of codes.
        stays.setdefault(group_of(ENCOUNTER, stay), []).append((int(rank), seen.setdefault(found, found)))
    tables: tuple[Table, ...] = ("icd9cm", "icd10cm")
    descriptions = {(table, entry.code): entry.description for table in tables for entry in code_table(table)}
    return Diagnoses(stays, {code: descriptions[code] for code in seen if code in descriptions}, tuple(damaged))
