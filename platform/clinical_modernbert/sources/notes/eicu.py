"""Notes of eICU (PhysioNet, credentialed): ``note.csv`` has an item of a note a row, ``patient.csv`` the patient of a stay.

The items of a note (one stay, type and time of entry) are one document, in the order of the file. ``notePath`` is the place of an
item in the form, ``noteValue`` what was picked there, ``noteText`` what was typed or the number. A patient is ``uniquePid``, over
all stays and hospitals.
"""

from collections.abc import Iterator, Mapping

from clinical_modernbert.recipe.sources import EicuNoteSource
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
from clinical_modernbert.sources.files import Progress, file_units, find_files, joint_unit, path_field, read_chunks
from clinical_modernbert.sources.grouped_rows import GroupedRows, grouped_rows
from clinical_modernbert.sources.left_out import LeftOut
from clinical_modernbert.sources.notes.mimic import PHYSIONET

_NOTE = ("patientunitstayid", "noteenteredoffset", "notetype", "notepath", "notevalue", "notetext")
_PATIENT = ("patientunitstayid", "uniquepid")
# Above the forms' own sections, which are the third part of a path: "notes/Progress Notes/Assessment and Plan/...".
_DEPTH = 2


def units(source: EicuNoteSource) -> list[Unit]:
    """Return the two files as one unit; raises ``SourceError`` where one is missing or lacks a column."""
    field = path_field(source.name)
    files = []
    for table, columns in (("note", _NOTE), ("patient", _PATIENT)):
        found = find_files(source.path, field=field, patterns=(f"{table}.csv", f"{table}.csv.gz"))
        file_units(
            source.name,
            found,
            check=lambda name, local, columns=columns: check_columns(local, file=name, columns=columns),  # type: ignore[misc]
        )
        files += found
    return [joint_unit(source.name, "notes", sorted(files))]


def licence(source: EicuNoteSource) -> str:
    """Return PhysioNet's licence of eICU."""
    return PHYSIONET


def read(source: EicuNoteSource, unit: Unit, progress: Progress) -> Iterator[Record]:
    """Yield one value for each note, and one for the rows that cannot be used for one reason."""
    left_out, num_notes = LeftOut(), 0
    patients: dict[str, str] = {}
    for file, position, (stay, patient) in _rows("patient", _PATIENT, unit, left_out, progress):
        if stay and patient:
            patients[stay] = patient
        else:
            left_out.add(Quarantined(file, position, "no patientunitstayid or no uniquepid"))
    with grouped_rows(num_values=3) as rows:
        for file, position, values in _rows("note", _NOTE, unit, left_out, progress):
            if reason := _add(values, patients, rows):
                left_out.add(Quarantined(file, position, reason))
        for key, found in rows.groups():
            num_notes += 1
            stay, entered, kind = key.split("\0")
            text = _text([(str(path), str(value), str(words)) for path, value, words in found])
            if text:
                name = "-".join((stay, entered, "".join(kind.split())))
                group, encounter = group_of(PATIENT, patients[stay]), group_of(ENCOUNTER, stay)
                yield Document(name, source.name, group, f"{kind}\n{text}", encounter=encounter)
            else:
                yield Dropped("empty")
    yield from left_out.quarantined(num_notes)


def _rows(
    table: str, columns: tuple[str, ...], unit: Unit, left_out: LeftOut, progress: Progress
) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    for name, location in unit.files:
        if not name.rpartition("/")[2].startswith(f"{table}."):
            continue
        part = Progress()
        for row in read_rows(read_chunks(location, part), file=name, columns=columns):
            left_out.num_rows += table == "note"
            if isinstance(row, Quarantined):
                left_out.add_damage(row, part)
            else:
                yield name, f"line {row.line}", tuple(value.strip() for value in row.values)
        progress.add_file(part)


def _add(values: tuple[str, ...], patients: Mapping[str, str], rows: GroupedRows) -> str | None:
    """Add an item to its note; return the reason where it has none."""
    stay, entered, kind, path, value, text = values
    if not (stay.isdecimal() and entered.lstrip("-").isdecimal()):
        return "patientunitstayid or noteenteredoffset is no number"
    if stay not in patients:
        return "a stay that patient.csv does not have"
    rows.add("\0".join((stay, entered, kind)), (path, value, text))
    return None


def _text(items: list[tuple[str, str, str]]) -> str:
    """Return a note's text: the sections of the form, each item on a line."""
    lines: list[str] = []
    last = ""
    for path, value, text in items:
        parts = path.split("/")
        words = [word for n, word in enumerate((value, text)) if word and (n == 0 or word != value)]
        if not words:
            continue
        section = parts[_DEPTH] if len(parts) > _DEPTH + 1 else ""
        if section != last and section:
            lines += ["", section]
        last = section
        lines.append(": ".join(words))
    return "\n".join(lines).strip()
