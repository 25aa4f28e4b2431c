"""Discharge summaries with the ICD codes of their stay: MIMIC-IV-Note and the ``hosp`` tables of MIMIC-IV, and split files.

Codes get their dots, as in the published splits of Edin et al. (2023): without them the ICD-9 diagnosis 401.9 and the procedure
40.19 would be one label. Notes of one stay (summary and addenda) are one text. Notes and codes are joined on ``hadm_id``.
"""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from clinical_modernbert.errors import SourceError
from clinical_modernbert.sources.codes.rows import icd9_dotted, icd10_dotted
from clinical_modernbert.sources.evaluation_sets.ed import table_rows
from clinical_modernbert.sources.evaluation_sets.labelled_rows import LabelSetRow, read_strings

Part = Literal["train", "development", "test"]

_PARTS: dict[str, Part] = {
    "train": "train",
    "val": "development",
    "dev": "development",
    "validation": "development",
    "development": "development",
    "test": "test",
}


def read_coded_stays(folder: Path, *, icd_version: Literal[9, 10]) -> Iterator[LabelSetRow]:
    """Yield the stays with a summary and a code of the version: ``note/discharge``, ``hosp/diagnoses_icd`` and
    ``hosp/procedures_icd`` (``.csv`` or ``.csv.gz``).

    The row's id is the ``hadm_id``, its group the ``subject_id``.
    """
    codes = _codes(folder / "hosp", str(icd_version))
    notes: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
    for subject, stay, number, text in table_rows(
        folder / "note", "discharge", ("subject_id", "hadm_id", "note_seq", "text")
    ):
        if stay in codes and text:
            notes[subject, stay].append((int(number) if number.isdecimal() else 0, text))
    for (subject, stay), texts in notes.items():
        whole = "\n\n".join(text for _, text in sorted(texts, key=lambda note: note[0]))
        yield LabelSetRow(stay, subject, whole, tuple(codes[stay]))


def _codes(folder: Path, version: str) -> dict[str, list[str]]:
    """Return stay -> its codes without repetition: diagnoses, then procedures, in the order of the tables."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for table, is_diagnosis in (("diagnoses_icd", True), ("procedures_icd", False)):
        for stay, code, its_version in table_rows(folder, table, ("hadm_id", "icd_code", "icd_version")):
            if its_version == version and code:
                found[stay][_dotted(code, version, is_diagnosis=is_diagnosis)] = None
    return {stay: list(codes) for stay, codes in found.items()}


def _dotted(code: str, version: str, *, is_diagnosis: bool) -> str:
    if is_diagnosis:
        return icd9_dotted(code) if version == "9" else icd10_dotted(code)
    # ICD-10-PCS has no dot.
    return f"{code[:2]}.{code[2:]}" if version == "9" and len(code) > 2 else code


def read_split(path: Path, *, id_column: str) -> dict[str, Part]:
    """Return id -> part of a split file: columns ``id_column`` and ``split`` (train, val, dev or test)."""
    parts: dict[str, Part] = {}
    for number, (name, part) in read_strings(path, (id_column, "split")):
        if part.lower() not in _PARTS:
            raise SourceError(f"{path.name}, row {number}: expected a split of train, val (or dev) and test")
        if parts.setdefault(name, _PARTS[part.lower()]) != _PARTS[part.lower()]:
            raise SourceError(f"{path.name}, row {number}: the {id_column} is in two splits")
    return parts
