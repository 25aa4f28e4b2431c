"""Find real files in a folder and name them as corpus sources.

The layout is fixed: ``pubmed/`` with XML, ``notes/<set>/*.csv``, ``mimic-iv-note/`` with discharge and radiology,
``codes/icd9cm`` and ``codes/icd10cm`` with the CMS tables. What is absent is left out; a folder that holds none of it is an
error. Narrative counts four times and ICD-10's 74,044 alike sentences a fifth, as the paper upsamples coherent discourse.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from clinical_modernbert.errors import SourceError
from clinical_modernbert.recipe.sources import (
    CodeSource,
    CodeTable,
    CodeTemplate,
    MimicNoteSource,
    PubMedSource,
    SourceSection,
    TableSource,
)


def real_sources(data: Path) -> list[SourceSection]:
    """Return recipe sources for the real files below ``data``, in a fixed order."""
    if not data.is_dir():
        raise SourceError(f"DATA={data} is not a folder")
    found = [source for find in _FINDERS for source in find(data)]
    if not found:
        raise SourceError(f"DATA={data} holds none of pubmed/, notes/, mimic-iv-note/, codes/icd9cm/, codes/icd10cm/")
    return found


def _pubmed(data: Path) -> Iterator[SourceSection]:
    path = data / "pubmed"
    if path.is_dir():
        yield PubMedSource(type="pubmed", name="pubmed", path=str(path), epochs=4)


def _mimic(data: Path) -> Iterator[SourceSection]:
    path = data / "mimic-iv-note"
    if path.is_dir():
        yield MimicNoteSource(type="mimic_note", name="mimic_note", path=str(path))


# Known note sets: source name, file, columns of text and id, limit of damage. The sample of MTSamples ends in a row, so as
# much as it has counts as missing: half of the source.
_NOTE_SETS: tuple[tuple[str, str, str, str | None, float | None], ...] = (
    ("aci_bench", "notes/aci-bench/train.csv", "note", "encounter_id", None),
    ("mts_dialog", "notes/mts-dialog/MTS-Dialog-TrainingSet.csv", "section_text", "ID", None),
    ("mtsamples", "notes/mtsamples/mtsamples_322.csv", "transcription", None, 0.51),
)


def _notes(data: Path) -> Iterator[SourceSection]:
    for name, file, text, id_, limit in _NOTE_SETS:
        path = data / file
        if path.is_file():
            yield TableSource(
                type="table",
                name=name,
                path=str(path),
                epochs=4,
                text_column=text,
                id_column=id_,
                max_quarantined_fraction=limit,
            )


# Known code tables: source name, table, file, sentence form, epochs.
_CODE_TABLES: tuple[tuple[str, CodeTable, str, CodeTemplate, float], ...] = (
    ("icd9", "icd9cm", "codes/icd9cm/CMS32_DESC_LONG_DX.txt.gz", "readme", 1.0),
    ("icd10", "icd10cm", "codes/icd10cm/icd10cm-codes-2024.txt.gz", "figure1", 0.2),
)


def _codes(data: Path) -> Iterator[SourceSection]:
    for name, table, file, template, epochs in _CODE_TABLES:
        path = data / file
        if path.is_file():
            yield CodeSource(type="codes", name=name, table=table, path=str(path), templates=(template,), epochs=epochs)


_FINDERS: tuple[Callable[[Path], Iterator[SourceSection]], ...] = (_pubmed, _mimic, _notes, _codes)
