"""Notes as hospitals export them: OMOP's NOTE table, and FHIR bulk exports with their forms of attachments."""

import base64
import codecs
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clinical_modernbert.errors import SourceError
from clinical_modernbert.recipe.sources import FhirSource, OmopNoteSource
from clinical_modernbert.sources import list_units, read_unit
from clinical_modernbert.sources.document import Deleted, Document, Dropped, Quarantined, Record
from clinical_modernbert.sources.notes.attachments import attachment_text, html_text

COLUMNS = (
    "note_id", "person_id", "note_date", "note_datetime", "note_type_concept_id", "note_class_concept_id", "note_title",
    "note_text", "encoding_concept_id", "language_concept_id",
)  # fmt: skip
ROW = ("7", "12", "2180-01-01", "", "32817", "706391", "Discharge", 'He said "well".', "32678", "4180186")


def omop(path: Path, **settings: object) -> list[Record]:
    source = OmopNoteSource.model_validate({"type": "omop_note", "name": "omop", "path": str(path), **settings})
    return [record for unit in list_units(source) for record in read_unit(source, unit)]


NOTE = Document("7", "omop", "patient:12", 'He said "well".')


def test_note_tables_of_every_dialect(tmp_path: Path) -> None:
    quoted = ",".join(f'"{value.replace(chr(34), chr(34) * 2)}"' for value in ROW)
    for name, content, settings in (
        ("NOTE.csv", f"{','.join(COLUMNS).upper()}\n{quoted}\n", {}),
        ("note.tsv", "\t".join(COLUMNS) + "\n" + "\t".join(ROW) + "\n", {"quoted": False}),
        ("nOTE.TSV", "\t".join(COLUMNS) + "\n" + "\t".join(ROW) + "\n", {"quoted": False}),
        ("Note.txt", "|".join(COLUMNS) + "\n" + "|".join(ROW) + "\n", {"quoted": False}),
    ):
        folder = tmp_path / name.replace(".", "_")
        folder.mkdir()
        (folder / name).write_text(content)
        (folder / "person.csv").write_text("person_id\n12\n")
        assert omop(folder, **settings) == [NOTE], name
    packed = tmp_path / "packed"
    packed.mkdir()
    (packed / "note.csv.gz").write_bytes(gzip.compress(f"{','.join(COLUMNS)}\n{quoted}\n".encode()))
    assert omop(packed) == [NOTE]


def test_parquet_and_shards(tmp_path: Path) -> None:
    table = pa.table(
        {name.upper(): [int(value) if value.isdigit() else value] for name, value in zip(COLUMNS, ROW, strict=True)}
    )
    pq.write_table(table, tmp_path / "note.parquet")
    assert omop(tmp_path) == [NOTE]
    (tmp_path / "shards" / "note").mkdir(parents=True)
    for n in range(2):
        pq.write_table(table, tmp_path / "shards" / "note" / f"part-{n}.parquet")
    assert omop(tmp_path / "shards") == [NOTE, NOTE]
    spark = tmp_path / "spark" / "note.parquet"
    spark.mkdir(parents=True)
    pq.write_table(table, spark / "part-00000.snappy.parquet")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert omop(spark) == omop(tmp_path / "spark") == [NOTE]
    with pytest.raises(
        SourceError, match=r"^sources\[omop\]\.path: no table note below .*; expected note\.csv, note\.parquet"
    ):
        omop(empty)
    (tmp_path / "note.parquet").unlink()
    (tmp_path / "note.csv").write_text("note_id,note_text\n")
    with pytest.raises(SourceError, match=r"note\.csv has no column 'person_id'"):
        omop(tmp_path)


def encoded(text: str, charset: str = "utf-8") -> str:
    return base64.b64encode(text.encode(charset)).decode()


def reference(number: int, *forms: dict[str, str], **fields: Any) -> dict[str, Any]:
    return {
        "resourceType": "DocumentReference",
        "id": f"d{number}",
        "status": "superseded",
        "subject": {"reference": "Patient/0012"},
        "content": [{"attachment": form} for form in forms],
    } | fields


def fhir(folder: Path, *resources: dict[str, Any], name: str = "1.DocumentReference.000.ndjson") -> list[Record]:
    (folder / name).write_text("".join(f"{json.dumps(resource)}\n" for resource in resources))
    source = FhirSource(type="fhir", name="ehr", path=str(folder))
    return [record for unit in list_units(source) for record in read_unit(source, unit)]


def document(number: int, text: str, version: int = 1) -> Document:
    name = f"DocumentReference/d{number}"
    return Document(name, "ehr", "patient:12", text, version, record=name)


PLAIN = {"contentType": "text/plain; charset=UTF-8", "data": encoded("Seen today.\nWell.")}
HTML = {"contentType": "text/html", "data": encoded("<p>Seen <b>today</b>.</p>")}


def test_the_best_form_is_read(tmp_path: Path) -> None:
    pdf = {"contentType": "application/pdf", "data": encoded("%PDF")}
    latin = {"contentType": "text/plain;charset=iso-8859-1", "data": encoded("Ménière", "latin-1")}
    found = fhir(
        tmp_path,
        reference(1, pdf, HTML, PLAIN),
        reference(2, HTML),
        reference(3, pdf),
        reference(4, latin),
        reference(5),
    )
    assert found == [
        document(1, "Seen today.\nWell."),
        document(2, "Seen today."),
        Dropped("no_text_form", "DocumentReference/d3", 1),
        document(4, "Ménière"),
        Dropped("no_text_form", "DocumentReference/d5", 1),
    ]


def test_pages_in_one_form_are_one_text_and_a_form_without_content_is_none(tmp_path: Path) -> None:
    second = {"contentType": "text/plain", "data": encoded("Page two.")}
    found = fhir(
        tmp_path,
        reference(1, PLAIN, HTML, second, PLAIN),
        reference(2, {"contentType": "text/plain", "title": "Letter"}, HTML),
        reference(3, {"contentType": "text/plain", "title": "Letter"}),
    )
    assert found[:2] == [document(1, "Seen today.\nWell.\n\nPage two."), document(2, "Seen today.")]
    assert isinstance(found[2], Quarantined) and found[2].reason == "the attachment has neither data nor url"


def test_text_in_a_binary_or_in_a_file_of_the_export(tmp_path: Path) -> None:
    binaries = [{"resourceType": "Binary", "id": f"b{n}", "data": encoded(f"Text {n}.")} for n in range(3)]
    (tmp_path / "Binary.ndjson").write_text("".join(f"{json.dumps(binary)}\n" for binary in binaries))
    (tmp_path / "attachments").mkdir()
    (tmp_path / "attachments" / "a.txt").write_text("From a file.")
    secret = tmp_path.parent / "secret.txt"
    secret.write_text("Jane Roe")
    urls = (
        "Binary/b1",
        "https://host/fhir/Binary/b2/_history/3",
        "attachments/a.txt",
        "Binary/none",
        "../secret.txt",
        "https://host/a",
    )
    forms = [{"contentType": "text/plain", "url": url} for url in urls]
    found = fhir(tmp_path, *(reference(n, form) for n, form in enumerate(forms)))
    assert found[:3] == [document(0, "Text 1."), document(1, "Text 2."), document(2, "From a file.")]
    reasons = [record.reason for record in found[3:] if isinstance(record, Quarantined)]
    assert reasons == [
        "the attachment's Binary is not in the export",
        *["the attachment's url is no file below the export"] * 2,
    ]


@pytest.mark.parametrize("form", ["lines", "gzip", "array", "indented", "cut"])
def test_binaries_of_an_export_in_each_form(tmp_path: Path, form: str) -> None:
    binaries = [{"resourceType": "Binary", "id": f"b{n}", "data": encoded(f"Text {n}." * 40)} for n in range(40)]
    lines = "".join(f"{json.dumps(binary)}\n" for binary in binaries).encode()
    name, content = {
        "lines": ("MimicBinary.ndjson", codecs.BOM_UTF8 + lines),
        "gzip": ("Binary.000.ndjson.gz", gzip.compress(lines)),
        "array": ("Binary.json", json.dumps(binaries, indent=1).encode()),
        "indented": ("Binary.ndjson", b"\n".join(json.dumps(binary, indent=1).encode() for binary in binaries)),
        "cut": ("Binary.ndjson.gz", gzip.compress(lines)[:-40]),
    }[form]
    (tmp_path / name).write_bytes(content)
    (tmp_path / "note.txt.gz").write_bytes(gzip.compress(b"From a file."))
    forms = [{"contentType": "text/plain", "url": url} for url in ("Binary/b0", "Binary/b39", "note.txt.gz")]
    found = fhir(tmp_path, *(reference(n, form) for n, form in enumerate(forms)))
    assert (found[0], found[2]) == (document(0, "Text 0." * 40), document(2, "From a file."))
    if form == "cut":
        assert isinstance(found[1], Quarantined) and "Binary is not in the export" in found[1].reason
    else:
        assert found[1] == document(1, "Text 39." * 40)


def test_a_file_of_an_export_is_not_there_in_two_forms(tmp_path: Path) -> None:
    for name in ("Binary", "Patient"):
        for path, content in ((f"{name}.ndjson", b""), (f"{name}.ndjson.gz", gzip.compress(b""))):
            (tmp_path / path).write_bytes(content)
        with pytest.raises(SourceError, match=rf"^sources\[ehr\]\.path: '{name}\.ndjson' .* both plain and as \.gz"):
            fhir(tmp_path, reference(1, PLAIN))
        (tmp_path / f"{name}.ndjson.gz").unlink()


def test_revisions_and_withdrawn_notes(tmp_path: Path) -> None:
    found = fhir(
        tmp_path,
        reference(1, PLAIN, meta={"lastUpdated": "2180-01-01T00:00:00.000Z"}),
        reference(2, PLAIN, relatesTo=[{"code": "replaces", "target": {"reference": "DocumentReference/d1"}}]),
        reference(3, PLAIN, relatesTo=[{"code": "appends", "target": {"reference": "DocumentReference/d2"}}]),
        reference(4, PLAIN, status="entered-in-error"),
    )
    assert isinstance(found[0], Document) and found[0].version == 6_626_966_400_000_000
    assert found[1:] == [
        document(2, "Seen today.\nWell."),
        Deleted("DocumentReference/d1"),
        document(3, "Seen today.\nWell."),
        Dropped("withdrawn", "DocumentReference/d4", 1),
    ]


def test_reports_have_a_form_or_a_conclusion(tmp_path: Path) -> None:
    report = {
        "resourceType": "DiagnosticReport",
        "id": "r",
        "subject": {"reference": "urn:uuid:ab-1"},
        "status": "final",
    }
    found = fhir(
        tmp_path,
        report | {"presentedForm": [HTML]},
        report | {"conclusion": "No fracture."},
        name="DiagnosticReport.ndjson",
    )
    assert [(r.text, r.group) for r in found if isinstance(r, Document)] == [
        ("Seen today.", "patient:ab-1"),
        ("No fracture.", "patient:ab-1"),
    ]


def test_what_is_not_fhir_is_quarantined_without_its_text(tmp_path: Path) -> None:
    found = fhir(
        tmp_path,
        {"resourceType": "Patient", "id": "Jane Roe"},
        reference(1, PLAIN, subject=None),
        reference(2, {"contentType": "text/plain", "data": "Jane*"}),
        reference(3, {"contentType": "text/plain", "data": encoded("é", "latin-1")}),
        reference(4, content="Jane Roe"),
        reference(5, {"contentType": "text/plain"}),
    )
    assert [record.reason for record in found if isinstance(record, Quarantined)] == [
        "expected a resource of type DocumentReference or DiagnosticReport",
        "no subject that is a patient",
        "the attachment is no base64",
        "the attachment is not of its character set",
        "not of FHIR R4's structure",
        "the attachment has neither data nor url",
    ]
    assert "Jane" not in str(found)


def test_html_keeps_lines_and_cells() -> None:
    markup = (
        "<?xml version='1.0' encoding='latin-1'?><html><head><title>No</title><style>p{}</style></head><body><h1>Labs</h1>"
        "<table><tr><th>Na</th><td> 140 </td></tr><tr><th>K</th><td>4.1</td></tr></table><p>Seen\n  at 5&nbsp;pm,<br>well&lt;3."
        "<script>x()</script></p><div>One<div>Two</div></div><pre>a  b\n c</pre>Ménière</body></html>"
    )
    assert html_text(markup).split("\n") == [
        "Labs", "Na\t140", "K\t4.1", "Seen at 5 pm,", "well<3.", "", "One", "Two", "a  b", "c", "Ménière",
    ]  # fmt: skip
    assert html_text("WBC 10<sup>9</sup>/L, CO<sub>2</sub>, Ca<sup>2+</sup>") == "WBC 10^9/L, CO2, Ca2+"
    assert html_text(" ") == html_text("<!-- x -->") == ""


def test_rtf() -> None:
    pytest.importorskip("striprtf")
    content = rb"{\rtf1\ansi\ansicpg1252{\fonttbl{\f0 Arial;}}\f0 Seen \b today\b0 .\par M\'e9ni\'e8re \endash  5\u8211?10 mg}"
    assert attachment_text(content, "application/rtf").split("\n") == ["Seen today.", "Ménière – 5–10 mg"]


SYMBOLS = (
    r"{\rtf1\ansi\ansicpg1252\uc1{\fonttbl{\f0\fnil\fcharset0 Arial;}"
    r"{\f3\froman\fcharset2\fprq2{\*\panose 05050102}Symbol;}{\f7\fnil\fcharset2 Wingdings;}}\f0 "
)


# A shape is there twice: the second time for old readers.
BOX = (
    r"Seen {{\shp{{\*\shpinst\shpleft1{{\sp{{\sn x}}{{\sv 1}}}}{0}}}"
    r"{{\shprslt{{\*\do{{\dptxbx{{\dptxbxtext Allergic}}}}}}}}}}today.\par End"
)


@pytest.mark.parametrize(
    ("rtf", "text"),
    [
        (r"Give 5 {\f3 m}g, BP {\f3\'b3}90, 38{\f3\'b0}C, \f3 a\f0 1", "Give 5 µg, BP ≥90, 38°C, α1"),
        (r"5 {\f3\u-3987\'6d}g \u8211\'96 {\f3\uc0\u-3917 }90", "5 µg – ≥90"),
        (r'5 {\field{\*\fldinst SYMBOL 109 \\f "Symbol" \\s 11}{\fldrslt\f3\fs22}}g', "5 µg"),
        (r'BP {\field{\*\fldinst {SYMBOL 179 \\f "Symbol" \\s 11}}{\fldrslt{\f3\fs22}}}90', "BP ≥90"),
        (r"{\f7\'fe} yes {\f7 o} no {\f7\'a7} item", "☑ yes ☐ no • item"),
        (
            r"10{\super 9}/L, H{\sub 2}O, 10\super 9\nosupersub /L, m{\super 2}, 10{\super 9}5",
            "10^9/L, H2O, 10^9/L, m2, 10^9 5",
        ),
        (r"no {\deleted old }{\v hidden }{\strike }text\v x\v0 s\plain .", "no texts."),
        (r"{\header 1{\super 9}}{\stylesheet{\s1\super x;}}1{\sub 2}\par 3", "1_2\n3"),
        (r"{\f0 a\{b\}\\c}", "a{b}\\c"),
    ],
)
def test_rtf_keeps_symbols_numbers_and_what_is_shown(rtf: str, text: str) -> None:
    pytest.importorskip("striprtf")
    assert attachment_text((SYMBOLS + rtf + "}").encode("latin-1"), "text/rtf") == text


@pytest.mark.parametrize(
    ("rtf", "lines"),
    [
        (
            BOX.format(r"{\shptxt\pard Allergic to {\f3 m}.\par 10{\super 9}}"),
            ["Seen today.", "Allergic to µ.", "10^9", "End"],
        ),
        (
            BOX.format(r"{\shptxt Outer{\shp{\*\shpinst{\shptxt Inner}}}\par Rest}"),
            ["Seen today.", "Outer", "Inner", "Rest", "End"],
        ),
        (
            r"Aspirin{\super\chftn{\footnote\pard{\super\chftn} Held on 3/4.}} daily.",
            ["Aspirin daily.", "Held on 3/4."],
        ),
        (
            r"A{\*\do{\dptxbx{\dptxbxtext In Word 6}}} B{\object{\*\objdata 00ff}{\result Sheet}}",
            ["A B", "In Word 6", "Sheet"],
        ),
        (r"A{\header{\shp{\*\shpinst{\shptxt Page}}}}{\footer{\footnote x}}{\deleted{\footnote old}}B", ["AB"]),
        (r"Cut {\shp{\*\shpinst{\shptxt in a box", ["Cut", "in a box"]),
    ],
)
def test_rtf_keeps_text_boxes_and_footnotes(rtf: str, lines: list[str]) -> None:
    pytest.importorskip("striprtf")
    for end in ("}", ""):
        text = attachment_text((SYMBOLS + rtf + end).encode("latin-1"), "text/rtf")
        assert [line.strip() for line in text.splitlines() if line.strip()] == lines
