"""Notes of eICU: items of a form become one note of its patient."""

from pathlib import Path

import pytest
from clinical_modernbert.errors import SourceError
from clinical_modernbert.recipe.sources import EicuNoteSource
from clinical_modernbert.sources import list_units, read_unit
from clinical_modernbert.sources.document import Document, Dropped, Quarantined, Record

HEADER = "noteid,patientunitstayid,noteoffset,noteenteredoffset,notetype,notepath,notevalue,notetext\n"
FORM = "notes/Progress Notes"
ROWS = (
    f"1,141,10,12,Admission,{FORM}/Physical Exam/Constitutional/HR,HR Current,88\n"
    f'2,141,10,12,Admission,{FORM}/Assessment and Plan/Plan/text,Plan,"Aspirin, then home"\n'
    f"3,142,-5,-5,Brief Progress,{FORM}/Problem List/Sepsis,Sepsis,Sepsis\n"
    f"4,141,10,12,Admission,{FORM}/Assessment and Plan/Other,,\n"
    f"5,999,10,12,Admission,{FORM}/Problem List/Sepsis,Sepsis,Jane Roe\n"
    f"6,141,x,soon,Admission,{FORM}/Problem List/Sepsis,Sepsis,Jane Roe\n"
    f"7,141,90,90,Admission,{FORM}/Problem List/Other,,\n"
)
PATIENTS = "patientunitstayid,patienthealthsystemstayid,uniquepid\n141,1,002-34851\n142,1,002-34851\n"


def read(folder: Path) -> list[Record]:
    source = EicuNoteSource(type="eicu_note", name="e", path=str(folder))
    (unit,) = list_units(source)
    return list(read_unit(source, unit))


def test_items_are_one_note_of_the_patient_over_all_stays(tmp_path: Path) -> None:
    (tmp_path / "note.csv").write_text(HEADER + ROWS)
    (tmp_path / "patient.csv").write_text(PATIENTS)
    records = read(tmp_path)
    assert [record for record in records if not isinstance(record, Quarantined)] == [
        Document(
            "141-12-Admission",
            "e",
            "patient:002-34851",
            "Admission\nPhysical Exam\nHR Current: 88\n\nAssessment and Plan\nPlan: Aspirin, then home",
            encounter="encounter:141",
        ),
        Dropped("empty"),
        Document(
            "142--5-BriefProgress",
            "e",
            "patient:002-34851",
            "Brief Progress\nProblem List\nSepsis",
            encounter="encounter:142",
        ),
    ]
    assert {(r.position, r.reason) for r in records if isinstance(r, Quarantined)} == {
        ("line 6", "a stay that patient.csv does not have"),
        ("line 7", "patientunitstayid or noteenteredoffset is no number"),
    }
    assert "Jane" not in repr(records)


def test_both_files_are_needed(tmp_path: Path) -> None:
    (tmp_path / "note.csv").write_text(HEADER + ROWS)
    with pytest.raises(SourceError, match=r"no file below .* matches patient\.csv"):
        read(tmp_path)
    (tmp_path / "patient.csv").write_text("patientunitstayid\n141\n")
    with pytest.raises(SourceError, match=r"patient\.csv has no column 'uniquepid'"):
        read(tmp_path)
