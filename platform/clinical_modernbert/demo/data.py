"""Find real files in a folder and name them as corpus sources.

The layout is fixed: ``pubmed/`` with XML, ``notes/<set>/*.csv``, ``mimic-iv-note/`` with discharge and radiology,
``codes/icd9cm`` and ``codes/icd10cm`` with the CMS tables. What is absent is left out; a folder that holds none of it is an
error. Narrative counts four times and ICD-10's 74,044 alike sentences a fifth, as the paper upsamples coherent discourse.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from clinical_modernbert.errors import SourceError


def real_sources(data: Path) -> list[dict[str, Any]]:
    """Return recipe sources for the real files below ``data``, in a fixed order."""
    if not data.is_dir():
        raise SourceError(f"DATA={data} is not a folder")
    found = [source for find in _FINDERS for source in find(data)]
    if not found:
        raise SourceError(f"DATA={data} holds none of pubmed/, notes/, mimic-iv-note/, codes/icd9cm/, codes/icd10cm/")
    return found


def _pubmed(data: Path) -> list[dict[str, Any]]:
    path = data / "pubmed"
    return [{"type": "pubmed", "name": "pubmed", "path": str(path), "epochs": 4}] if path.is_dir() else []


def _mimic(data: Path) -> list[dict[str, Any]]:
    path = data / "mimic-iv-note"
    return [{"type": "mimic_note", "name": "mimic_note", "path": str(path)}] if path.is_dir() else []


# Known note sets: folder and file pattern -> columns of text, id and group.
_NOTE_SETS: tuple[tuple[str, str, dict[str, str | None]], ...] = (
    ("aci_bench", "notes/aci-bench/train.csv", {"text_column": "note", "id_column": "encounter_id"}),
    ("mts_dialog", "notes/mts-dialog/MTS-Dialog-TrainingSet.csv", {"text_column": "section_text", "id_column": "ID"}),
    ("mtsamples", "notes/mtsamples/mtsamples_322.csv", {"text_column": "transcription", "id_column": None}),
)


def _notes(data: Path) -> list[dict[str, Any]]:
    return [
        {"type": "table", "name": name, "path": str(data / path), "epochs": 4, **columns}
        for name, path, columns in _NOTE_SETS
        if (data / path).is_file()
    ]


# Known code tables: source name, table, file, sentence form, epochs.
_CODE_TABLES = (
    ("icd9", "icd9cm", "codes/icd9cm/CMS32_DESC_LONG_DX.txt.gz", "readme", 1.0),
    ("icd10", "icd10cm", "codes/icd10cm/icd10cm-codes-2024.txt.gz", "figure1", 0.2),
)


def _codes(data: Path) -> list[dict[str, Any]]:
    return [
        {
            "type": "codes",
            "name": name,
            "table": table,
            "path": str(data / path),
            "templates": [template],
            "epochs": epochs,
        }
        for name, table, path, template, epochs in _CODE_TABLES
        if (data / path).is_file()
    ]


_FINDERS: tuple[Callable[[Path], list[dict[str, Any]]], ...] = (_pubmed, _mimic, _notes, _codes)
