"""MIMIC-IV-Note and MIMIC-III NOTEEVENTS (PhysioNet, credentialed): one document a note, grouped by patient.

Two rules change the text: the masks of de-identification, a run of three or more underscores or MIMIC-III's ``[**...**]``, become
``___``; and the hard line breaks of the hospital's editor are removed, except at section headers, lists, tables and blank lines.
Column names: the ``create.sql`` of MIMIC-IV-Note and MIMIC-III (mimic-code).
"""

import re
from collections.abc import Iterable, Iterator

from clinical_modernbert.recipe.sources import MimicNoteSource
from clinical_modernbert.sources.csv_rows import check_columns, read_rows
from clinical_modernbert.sources.document import (
    ENCOUNTER,
    PATIENT,
    Document,
    Dropped,
    Quarantined,
    Record,
    Unit,
    group_of,
)
from clinical_modernbert.sources.files import Progress, file_units, find_files, path_field, read_chunks

_COLUMNS = ("note_id", "subject_id", "text")
# MIMIC-III; notes that a physician marked as an error are left out.
_COLUMNS_III = ("row_id", "subject_id", "text", "iserror")
_PATTERNS = (
    "NOTEEVENTS*.csv",
    "NOTEEVENTS*.csv.gz",
    "discharge*.csv",
    "discharge*.csv.gz",
    "radiology*.csv",
    "radiology*.csv.gz",
)
# discharge_detail and radiology_detail hold fields about the notes, not text.
_EXCLUDE = ("*_detail.csv", "*_detail.csv.gz")

PHYSIONET = "PhysioNet Credentialed Health Data License 1.5.0: do not share the model with anyone who has no access"

_MASK = re.compile(r"_{3,}|\[\*\*[^\]]{0,200}\*\*\]")
# A break is the editor's only where the next word did not fit; in a shorter line the author meant it.
_NARROWEST_WRAP = 58
# The editor did not break longer lines.
_WIDEST_WRAP = 90
# Lists, headers such as "Neuro:" or "ADMISSION LABS:", and lab lines that begin with a masked date and a time.
_OWN_LINE = re.compile(r"\s*(?:\d{1,2}[.)]\s|[-*•#=+>]|\[|[A-Z][\w /&()'.,-]{0,48}:|___ ?\d{1,2}:\d\d)")
# A medication of a list without numbers: "Metoprolol Succinate XL 50 mg PO DAILY".
_MEDICATION = re.compile(
    r"\s*[A-Z][\w/()-]+(?: [\w/()-]+){0,4} \d[\d.,/-]* ?(?:mg|mcg|g|mL|ml|mEq|units?|unit/mL|%|tab|tablets?|puffs?)\b"
)
_TABULAR = re.compile(r"\S(?:\t| {3,})\S")


def units(source: MimicNoteSource) -> list[Unit]:
    """Return the CSV files; raises ``SourceError`` where one lacks a column."""
    files = find_files(source.path, field=path_field(source.name), patterns=_PATTERNS, exclude=_EXCLUDE)
    return file_units(
        source.name, files, check=lambda name, local: check_columns(local, file=name, columns=_columns(name))
    )


def read(source: MimicNoteSource, unit: Unit, progress: Progress) -> Iterator[Record]:
    """Yield one value for each note."""
    return read_notes(read_chunks(unit.location, progress), file=unit.name, source=source.name)


def licence(source: MimicNoteSource) -> str:
    """Return PhysioNet's licence of MIMIC-IV-Note."""
    return PHYSIONET


def read_notes(chunks: Iterable[bytes], *, file: str, source: str) -> Iterator[Document | Dropped | Quarantined]:
    """Yield one value for each row; notes without text are dropped as ``empty``, the group is ``patient:<subject_id>``."""
    for row in read_rows(chunks, file=file, columns=_columns(file), optional=("hadm_id",)):
        if isinstance(row, Quarantined):
            yield row
            continue
        note_id, subject_id, text = row.values[0].strip(), row.values[1].strip(), row.values[2]
        if not note_id:
            yield Quarantined(file, f"line {row.line}", f"no {_columns(file)[0]}")
        elif not (subject_id.isascii() and subject_id.isdigit()):
            yield Quarantined(file, f"line {row.line}", "subject_id is not a number", record_id=note_id)
        elif "1" in row.values[3:-1]:
            yield Dropped("error")
        elif not text.strip():
            yield Dropped("empty")
        else:
            stay = row.values[-1].strip()
            encounter = group_of(ENCOUNTER, stay) if stay else None
            yield Document(note_id, source, group_of(PATIENT, subject_id), clean_note(text), encounter=encounter)


def _columns(file: str) -> tuple[str, ...]:
    return _COLUMNS_III if file.rpartition("/")[2].startswith("NOTEEVENTS") else _COLUMNS


def clean_note(text: str) -> str:
    """Return a note with one form of the de-identification mask and without the editor's line breaks."""
    return unwrap(_MASK.sub("___", text))


def unwrap(text: str) -> str:
    """Join lines that were broken for width; keep blank lines, headers that end with ``:``, lists and tables."""
    output: list[str] = []
    joinable = False  # whether the last line of `output` may be continued
    width = 0  # of the last physical line
    for raw in text.splitlines():
        line = raw.rstrip()
        stripped = line.lstrip()
        own_line = (
            not stripped
            or any(rule.match(line) for rule in (_OWN_LINE, _MEDICATION))
            or _TABULAR.search(line) is not None
        )
        if joinable and not own_line and width + 1 + len(stripped.split(None, 1)[0]) > _NARROWEST_WRAP:
            output[-1] += f" {stripped}"
        else:
            output.append(line)
        width = len(line)
        joinable = 0 < width <= _WIDEST_WRAP and not stripped.endswith(":") and _TABULAR.search(line) is None
    return "\n".join(output)
