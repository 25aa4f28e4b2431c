"""Notes from CSV files: MIMIC-IV-Note's columns, tables with named columns, and what goes wrong in them."""

import csv
import gzip
import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from clinical_modernbert.errors import SourceError
from clinical_modernbert.recipe.sources import MimicNoteSource, TableSource
from clinical_modernbert.sources import list_units, read_unit
from clinical_modernbert.sources.csv_rows import read_rows
from clinical_modernbert.sources.document import Document, Dropped, Quarantined
from clinical_modernbert.sources.files import read_chunks
from clinical_modernbert.sources.notes.mimic import clean_note, read_notes, unwrap

HEADER = "note_id,subject_id,hadm_id,note_type,note_seq,charttime,storetime,text\n"
LATEST = '10-DS-{0},10,1,DS,{0},2180-01-01 00:00:00,2180-01-02 00:00:00,"Note {0}, with ""quotes""\nand lines"\n'


def notes(body: str | bytes, header: str = HEADER) -> list[Document | Dropped | Quarantined]:
    content = header.encode() + (body if isinstance(body, bytes) else body.encode())
    # One byte a chunk: records, quotes and characters are cut everywhere.
    return list(read_notes((content[i : i + 1] for i in range(len(content))), file="discharge.csv", source="mimic"))


def test_quoted_text_over_several_lines() -> None:
    assert notes(LATEST.format(1) + LATEST.format(2)) == [
        Document(f"10-DS-{n}", "mimic", "patient:10", f'Note {n}, with "quotes"\nand lines', encounter="encounter:1")
        for n in (1, 2)
    ]


def test_columns_may_stand_in_any_order_and_line_ends_may_be_windows() -> None:
    (document,) = notes('"Text a\r\nb",7,1-DS-1\r\n', header="\ufefftext,subject_id,note_id\r\n")
    assert document == Document("1-DS-1", "mimic", "patient:7", "Text a\nb")


def test_empty_text_is_dropped() -> None:
    assert notes('1-DS-1,10,,DS,1,,," \n "\n1-DS-2,10,,DS,1,,,\n') == [Dropped("empty"), Dropped("empty")]


def test_bad_rows_are_quarantined_with_their_line_and_the_next_are_read() -> None:
    records = notes(
        LATEST.format(1)
        + "1-DS-2,10,text\n"
        + "1-DS-3,abc,,DS,1,,,Secret\n"
        + ",10,,DS,1,,,Secret\n"
        + "\n"
        + LATEST.format(2)
    )
    kinds = [(type(r).__name__, getattr(r, "position", None), getattr(r, "reason", None)) for r in records]
    assert kinds == [
        ("Document", None, None),
        ("Quarantined", "line 4", "3 columns where the header has 8"),
        ("Quarantined", "line 5", "subject_id is not a number"),
        ("Quarantined", "line 6", "no note_id"),
        ("Document", None, None),
    ]
    assert "Secret" not in str(records) and "abc" not in str(records)
    assert records[2] == Quarantined("discharge.csv", "line 5", "subject_id is not a number", record_id="1-DS-3")


def test_the_header_of_a_file_that_was_joined_is_no_row() -> None:
    joined = LATEST.format(1) + "\ufeff" + HEADER.replace("\n", "\r\n") + LATEST.format(2) + HEADER + "\x1a"
    assert [type(record) for record in notes(joined)] == [Document, Document]


def test_a_broken_quote_costs_its_neighbourhood_once() -> None:
    broken = '10-DS-2,10,1,DS,2,,,"never closed\nand on\nand on\n'
    records = notes(LATEST.format(1) + broken + LATEST.format(3) + LATEST.format(4))
    assert [record.id for record in records if isinstance(record, Document)] == ["10-DS-1", "10-DS-4"]
    (quarantined,) = [record for record in records if isinstance(record, Quarantined)]
    assert quarantined.position.startswith("lines 4-") and "quoting" in quarantined.reason


def test_a_row_that_is_not_utf8_is_quarantined_alone() -> None:
    body = LATEST.format(1).encode() + b"1-DS-2,10,,DS,1,,,M\xe9ni\xe8re\n" + "1-DS-3,10,,DS,1,,,Ménière\n".encode()
    first, second, third = notes(body)
    assert isinstance(first, Document)
    assert isinstance(second, Quarantined) and (second.position, second.reason) == ("line 4", "the row is not UTF-8")
    assert isinstance(third, Document) and third.text == "Ménière"


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_truncated_archive_keeps_whole_rows(tmp_path: Path, share: float) -> None:
    rows = "".join(LATEST.format(f"{n:05d}{n * 7919 % 10007}") for n in range(5000))
    packed = gzip.compress((HEADER + rows).encode())
    path = tmp_path / "discharge.csv.gz"
    path.write_bytes(packed[: int(len(packed) * share)])
    *before, last = read_notes(read_chunks(path), file=path.name, source="s")
    whole = list(notes_of(gzip.decompress(packed)))
    assert len(before) > 5000 * (share - 0.1) and before == whole[: len(before)]
    position = f"row {len(before) + 1}, byte {int(len(packed) * share)}"
    assert last == Quarantined("discharge.csv.gz", position, "the gzip archive is truncated")


def notes_of(content: bytes) -> Iterator[Document | Dropped | Quarantined]:
    return read_notes([content], file="discharge.csv.gz", source="s")


def test_an_unclosed_quote_at_the_end() -> None:
    *before, last = notes(LATEST.format(1) + '1-DS-2,10,,DS,1,,,"and then')
    assert len(before) == 1 and isinstance(last, Quarantined) and last.position == "lines 4-4"


def test_fields_far_beyond_the_csv_module_s_default_limit() -> None:
    text = "word " * 100_000
    (document,) = read_notes([(HEADER + f"1-DS-1,1,,DS,1,,,{text}\n").encode()], file="f", source="s")
    assert isinstance(document, Document) and len(document.text) == len(text.rstrip())


def test_empty_and_headless_files() -> None:
    assert notes("", header="") == [Quarantined("discharge.csv", "line 1", "the file is empty, expected a CSV header")]
    assert notes("") == []


def test_missing_columns_are_named_with_those_present() -> None:
    with pytest.raises(
        SourceError, match=r"discharge\.csv has no column 'subject_id', 'text'; its columns are 'note_id', 'body'"
    ):
        notes("1,2\n", header="note_id,body\n")


def test_any_csv_text_survives() -> None:
    texts = ['"', "a,b", "\n\n", 'x"\n,"y', "''", "€𝔸\u2028e", "a\rb"]
    buffer = io.StringIO()
    csv.writer(buffer).writerows([["id", "text"], *([str(n), text] for n, text in enumerate(texts))])
    rows = list(read_rows([buffer.getvalue().encode()], file="f", columns=("text", "id")))
    assert [row.values for row in rows if not isinstance(row, Quarantined)] == [
        (text, str(n)) for n, text in enumerate(texts)
    ]


@pytest.mark.parametrize(
    ("mask", "written"), [("___", "___"), ("____", "___"), ("_" * 30, "___"), ("__", "__"), ("a_b", "a_b")]
)
def test_the_mask_has_one_form(mask: str, written: str) -> None:
    assert clean_note(f"Mr. {mask}, seen") == f"Mr. {written}, seen"


WRAPPED = """\
History of Present Illness:
___ is a 61 year old man with a history of heart failure who
presents with dyspnea for two days. He denies chest pain, and
has no fever.
He lives alone.

Medications on Admission:
1. Metoprolol Succinate XL 50 mg PO DAILY and a long remark here
2. Furosemide 40 mg PO DAILY
- a list item that is long enough to fill the whole of the line
Neuro: intact
___ 07:15AM BLOOD WBC-7.1 RBC-4.52 Hgb-13.9 Hct-41.5 MCV-92 MCH
___ 07:20AM BLOOD Glucose-101
Name:  ___                     Unit No:   ___ and something more
Service"""

JOINED = """\
History of Present Illness:
___ is a 61 year old man with a history of heart failure who presents with dyspnea for two days. He denies \
chest pain, and has no fever.
He lives alone.

Medications on Admission:
1. Metoprolol Succinate XL 50 mg PO DAILY and a long remark here
2. Furosemide 40 mg PO DAILY
- a list item that is long enough to fill the whole of the line
Neuro: intact
___ 07:15AM BLOOD WBC-7.1 RBC-4.52 Hgb-13.9 Hct-41.5 MCV-92 MCH
___ 07:20AM BLOOD Glucose-101
Name:  ___                     Unit No:   ___ and something more
Service"""


def test_hard_line_breaks_are_undone_and_structure_stays() -> None:
    assert unwrap(WRAPPED) == JOINED
    assert unwrap(JOINED) == JOINED


def test_medications_without_numbers_keep_their_lines() -> None:
    listed = (
        "Metoprolol Succinate XL 50 mg PO DAILY please take with food at night\n"
        "Aspirin 81 mg Tablet, Delayed Release Sig: One tablet PO once a day now\n"
        "Insulin Glargine 10 units subcutaneously at bedtime every single day"
    )
    assert unwrap(listed) == listed


def test_mimic_folder_takes_notes_and_leaves_details(tmp_path: Path) -> None:
    note = tmp_path / "note"
    note.mkdir()
    for name in ("discharge.csv.gz", "radiology.csv.gz"):
        (note / name).write_bytes(gzip.compress((HEADER + LATEST.format(1)).encode()))
    for name in ("discharge_detail.csv.gz", "radiology_detail.csv.gz", "other.csv"):
        (note / name).write_bytes(gzip.compress(b"note_id,subject_id,field_name,field_value,field_ordinal\n"))
    source = MimicNoteSource(type="mimic_note", name="mimic", path=str(tmp_path))
    units = list_units(source)
    assert [unit.name for unit in units] == ["note/discharge.csv.gz", "note/radiology.csv.gz"]
    assert all(isinstance(record, Document) for unit in units for record in read_unit(source, unit))


def test_notes_of_mimic_iii(tmp_path: Path) -> None:
    (tmp_path / "NOTEEVENTS.csv").write_text(
        "ROW_ID,SUBJECT_ID,HADM_ID,CHARTDATE,CATEGORY,ISERROR,TEXT\n"
        '174,22532,167853,2151-08-04,Discharge summary,,"Admission Date:  [**2151-7-16**]\n'
        'Seen by Dr. [**Last Name (STitle) 2**]."\n'
        "175,22532,,2151-08-04,Nursing,1,Wrong patient\n"
    )
    source = MimicNoteSource(type="mimic_note", name="mimic", path=str(tmp_path))
    (unit,) = list_units(source)
    assert list(read_unit(source, unit)) == [
        Document(
            "174", "mimic", "patient:22532", "Admission Date:  ___\nSeen by Dr. ___.", encounter="encounter:167853"
        ),
        Dropped("error"),
    ]


def read_table(path: Path, **columns: str) -> list[Document | Dropped | Quarantined]:
    source = TableSource(type="table", name="t", path=str(path), **columns)  # type: ignore[arg-type]
    (unit,) = list_units(source)
    return list(read_unit(source, unit))


def test_table_ids_and_groups(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id,patient,body\na,p1,One\nb,p1,Two\n,p2,Three\nd4,,Four\ne,p3,\n")
    assert read_table(path, text_column="body") == [
        *(Document(str(n), "t", f"t:{n}", text) for n, text in enumerate(["One", "Two", "Three", "Four"], start=1)),
        Dropped("empty"),
    ]
    assert read_table(path, text_column="body", id_column="id", group_column="patient") == [
        Document("a", "t", "patient:p1", "One"),
        Document("b", "t", "patient:p1", "Two"),
        Quarantined("t.csv", "line 4", "no id"),
        Quarantined("t.csv", "line 5", "no patient", record_id="d4"),
        Dropped("empty"),
    ]


@pytest.mark.parametrize("delimiter", [",", "\t", "|", ";"])
def test_tables_of_any_delimiter_and_case(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "t.csv"
    rows = [
        ("NOTE_ID", "Body"),
        ("1", '"One, two; three | four\n\tand so on"'),
        ("2", '"open'),
        ("3", "Five"),
        ("4", "Six"),
    ]
    path.write_text("".join(f"{delimiter.join(row)}\n" for row in rows))
    first, *_, last = read_table(path, text_column="body", id_column="note_id")
    assert first == Document("1", "t", "t:1", "One, two; three | four\n\tand so on")
    assert isinstance(last, Quarantined) and last.num_lost == 1
    *_, last = read_table(path, text_column="body", id_column="note_id", quoted=False)  # type: ignore[arg-type]
    assert last == Document("4", "t", "t:4", "Six")


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id,text,text\n1,a,b\n")
    with pytest.raises(SourceError, match=r"t\.csv has the column 'text' 2 times; rename all but one"):
        read_table(path, text_column="text")


def test_revisions_have_a_record_and_a_version(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(
        "id,at,text\na,2180-01-01T08:00,One\na,2180-01-01 09:00:00 UTC,Two\nb,7.0,Three\nc3,soon,Four\nd,1,\n"
    )
    one, two, three, four, empty = read_table(path, text_column="text", id_column="id", version_column="at")
    assert isinstance(one, Document) and isinstance(two, Document) and isinstance(three, Document)
    assert one.record == two.record == "a" and two.version - one.version == 3_600_000_000 and three.version == 7
    assert four == Quarantined("t.csv", "line 5", "at is no number or time", record_id="c3")
    assert empty == Dropped("empty", "d", 1)


def test_table_errors_come_before_any_task(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id,body\n1,a\n")
    with pytest.raises(SourceError, match=r"t\.csv has no column 'text'; its columns are 'id', 'body'"):
        read_table(path, text_column="text")
    with pytest.raises(SourceError, match=r"sources\[t\]\.path: .* is not a file"):
        read_table(tmp_path, text_column="text")


@pytest.mark.parametrize(
    ("path", "columns", "counts"),
    [
        ("aci-bench/train.csv", {"text_column": "note", "id_column": "encounter_id"}, {"Document": 67}),
        ("aci-bench/valid.csv", {"text_column": "dialogue", "id_column": "encounter_id"}, {"Document": 20}),
        (
            "mts-dialog/MTS-Dialog-TrainingSet.csv",
            {"text_column": "section_text", "id_column": "ID"},
            {"Document": 1201},
        ),
        # This copy ends in the middle of its last row.
        (
            "mtsamples/mtsamples_322.csv",
            {"text_column": "transcription"},
            {"Document": 317, "Dropped": 4, "Quarantined": 1},
        ),
    ],
)
def test_real_tables(shared_data: Path, path: str, columns: dict[str, str], counts: dict[str, int]) -> None:
    records = read_table(shared_data / "notes" / path, **columns)
    assert Counter(type(record).__name__ for record in records) == counts
    ids = [record.id for record in records if isinstance(record, Document)]
    assert len(set(ids)) == len(ids)
