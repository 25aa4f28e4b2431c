"""Records and files that no reader foresees: each is quarantined or refused, the others are read, no message has their text."""

import base64
import gzip
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clinical_modernbert.corpus.identifiers import mask_identifiers
from clinical_modernbert.corpus.normalise import normalise
from clinical_modernbert.errors import SourceError
from clinical_modernbert.recipe.sources import (
    CodeSource,
    FhirSource,
    MedsSource,
    PubMedSource,
    Source,
    TableSource,
)
from clinical_modernbert.sources import list_units, read_unit
from clinical_modernbert.sources.checked_records import checked_records
from clinical_modernbert.sources.document import Document, Quarantined, Record, Unit
from clinical_modernbert.sources.files import Progress

NAME = "Zebulon"


def read(source: Source, path: Path) -> tuple[list[Record], Progress]:
    progress = Progress()
    records = [*read_unit(source, Unit(source.name, path.name, str(path)), progress=progress)]
    assert NAME not in repr([record for record in records if isinstance(record, Quarantined)])
    return records, progress


def kinds(records: list[Record]) -> str:
    return "".join(type(record).__name__[0] for record in records)


def table(path: Path, **settings: Any) -> TableSource:
    return TableSource(type="table", name="t", path=str(path), text_column="text", id_column="id", **settings)


def resource(**fields: Any) -> str:
    return json.dumps({"resourceType": "DocumentReference", "subject": {"reference": "Patient/1"}, **fields})


def attachment(content_type: str, content: bytes, **fields: Any) -> str:
    data = {"contentType": content_type, "data": base64.b64encode(content).decode()}
    return resource(id="d1", content=[{"attachment": data}], **fields)


@pytest.mark.parametrize(
    "poison",
    [
        "[" * 100_000,
        '{"id": "a1 \\ud83d", "text": "Zebulon", "v": 1}',
        '{"id": "a1", "text": "Zebulon", "v": "99999999999999999999"}',
        '{"id": "Zebulon called", "text": "x", "v": "soon"}',
        '{"id": "a1", "text": ["Zebulon"], "v": 1}',
    ],
    ids=["deep", "half of a character", "large version", "a sentence as id", "no text"],
)
def test_a_poison_row_costs_itself(poison: str, tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    good = '{"id": "g7", "text": "Fine.", "v": 2}'
    path.write_text(f"{good}\n{poison}\n{good}\n")
    records, progress = read(table(path, version_column="v"), path)
    assert kinds(records) == "DQD" and progress.unread_bytes == 0


@pytest.mark.parametrize(
    "poison",
    [
        '{"a":' * 50_000,
        attachment("text/rtf", rb"{\rtf1 Zebulon \u99999999999? }"),
        attachment("text/html", b"<div>" * 5000 + b"Zebulon"),
        attachment("text/plain; charset=undefined", b"Zebulon"),
        attachment("text/plain", b"ok", relatesTo="Zebulon"),
        attachment("text/plain", b"ok", meta={"lastUpdated": "2" * 40}),
        resource(id="d1", content=[{"attachment": {"contentType": "text/plain", "url": "Zebulon\0"}}]),
    ],
)
def test_a_poison_resource_costs_itself(poison: str, tmp_path: Path) -> None:
    path = tmp_path / "DocumentReference.ndjson"
    good = attachment("text/plain", b"Fine.")
    path.write_text(f"{good}\n{poison}\n{good}\n")
    records, _ = read(FhirSource(type="fhir", name="f", path=str(path)), path)
    assert kinds(records) == "DQD"


def test_rtf_writes_one_character_as_two_halves(tmp_path: Path) -> None:
    path = tmp_path / "DocumentReference.ndjson"
    path.write_text(attachment("text/rtf", rb"{\rtf1\ansi\uc1 Fine \u-10179?\u-8704?.}"))
    ((record,), _) = read(FhirSource(type="fhir", name="f", path=str(path)), path)
    assert isinstance(record, Document) and record.text == "Fine \U0001f600."


def article(number: int, body: str, version: str = "1") -> str:
    text = f"<Abstract><AbstractText>{body}</AbstractText></Abstract>"
    return (
        f'<PubmedArticle><MedlineCitation><PMID Version="{version}">{number}</PMID>'
        f"<Article><ArticleTitle>T</ArticleTitle>{text}</Article></MedlineCitation></PubmedArticle>"
    )


@pytest.mark.parametrize(
    "poison",
    [
        article(2, "<q>" * 600 + NAME + "</q>" * 600),
        article(2, NAME, "9" * 5000),
        article(2, "<q/>" + "y " * 5_500_000),
    ],
    ids=["deep", "large version", "long text"],
)
def test_a_poison_citation_costs_itself(poison: str, tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text(f"<PubmedArticleSet>{article(1, 'a')}{poison}{article(3, 'b')}</PubmedArticleSet>")
    records, _ = read(PubMedSource(type="pubmed", name="p", path=str(path)), path)
    assert kinds(records) == "DQD"


@pytest.mark.parametrize(
    ("content", "share"),
    [
        (f"<PubmedArticleSet>{article(1, 'a < b')}{article(2, 'c') * 50}</PubmedArticleSet>", 0.99),
        (f"<{NAME}>{article(2, 'c') * 50}</{NAME}>", 1.0),
        (f"<PubmedArticleSet>{article(2, 'c') * 50}"[:-9], 1.0),
    ],
    ids=["broken at first", "another root", "cut"],
)
def test_what_a_small_broken_file_loses_is_counted(content: str, share: float, tmp_path: Path) -> None:
    """It is shorter than a chunk, so it was read whole; a cut file lacks as much as it has."""
    path = tmp_path / "a.xml"
    path.write_text(content)
    records, progress = read(PubMedSource(type="pubmed", name="p", path=str(path)), path)
    assert kinds(records)[-1] == "Q"
    assert progress.unread_bytes >= share * len(content)


EVENTS: dict[str, Any] = {
    "subject_id": pa.array([1, 1, 2]),
    "time": pa.array([0, 0, 5], pa.timestamp("us")),
    "code": pa.array(["A", "B", "C"]),
    "numeric_value": pa.array([1.0, 2.0, 3.0], pa.float32()),
}
BYTES = pa.Array.from_buffers(
    pa.string(), 3, [None, pa.py_buffer(np.array([0, 2, 4, 6], dtype=np.int32)), pa.py_buffer(b"ok\xff\xfeok")]
)


@pytest.mark.parametrize(
    "column", [{"time": pa.array([0, 2**62, 5], pa.timestamp("us"))}, {"code": BYTES}], ids=["year 148,000", "bytes"]
)
def test_a_poison_event_costs_its_subject(column: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    pq.write_table(pa.table({**EVENTS, **column}), path)
    records, _ = read(MedsSource(type="meds", name="m", path=str(path)), path)
    assert kinds(records) == "QD"


def test_an_infinite_measurement_is_no_number(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    pq.write_table(pa.table({**EVENTS, "numeric_value": pa.array([1.0, float("inf"), 3.0], pa.float32())}), path)
    (first, _), _ = read(MedsSource(type="meds", name="m", path=str(path)), path)
    assert isinstance(first, Document) and first.text == "1970-01-01 00:00: A 1; B"


@pytest.mark.parametrize(
    "columns",
    [
        {"text": BYTES, "v": pa.array([1, 2, 3])},
        {"text": pa.array(["a", "b", "c"]), "v": pa.array([0, 2**62, 5], pa.timestamp("us"))},
    ],
    ids=["bytes", "year 148,000"],
)
def test_a_poison_parquet_row_costs_itself(columns: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"id": pa.array(["1", "2", "3"]), **columns}), path)
    records, _ = read(table(path, version_column="v"), path)
    assert kinds(records) == "DQD"


def bomb(path: Path, head: bytes, unit: bytes) -> Path:
    path.write_bytes(gzip.compress(head) + gzip.compress(unit * (1 << 20)) * 150)
    return path


@pytest.mark.parametrize(
    ("source", "name", "head"),
    [
        (lambda path: table(path), "t.csv.gz", b"id,text\n1,Fine.\n"),
        (lambda path: table(path), "t.jsonl.gz", b'{"id": "1", "text": "Fine."}\n'),
        (lambda path: PubMedSource(type="pubmed", name="p", path=str(path)), "a.xml.gz", b"<PubmedArticleSet><a>"),
        (lambda path: PubMedSource(type="pubmed", name="p", path=str(path)), "b.xml.gz", b"<PubmedArticleSet><!--"),
        (
            lambda path: CodeSource(type="codes", name="c", table="icd10cm", path=str(path)),
            "c.txt.gz",
            b"A000   Fine\n",
        ),
    ],
)
def test_an_archive_that_inflates_without_end_is_refused(
    source: Callable[[Path], Source], name: str, head: bytes, tmp_path: Path
) -> None:
    path = bomb(tmp_path / name, head, b" ")
    records, progress = read(source(path), path)
    last = next(record for record in reversed(records) if isinstance(record, Quarantined))
    assert "inflates" in last.reason or "more than" in last.reason or "without end" in last.reason
    assert progress.unread_bytes > 0.9 * path.stat().st_size


def test_an_empty_file_is_quarantined_whatever_it_should_hold(tmp_path: Path) -> None:
    (path := tmp_path / "t.jsonl").touch()
    assert read(table(path), path)[0] == [Quarantined("t.jsonl", "the whole file", "the file is empty")]


def test_a_reader_that_fails_says_where_and_quotes_nothing() -> None:
    def records() -> Iterator[Record]:
        yield Document("1", "s", "g", "Fine.")
        raise KeyError(f"{NAME} fell")

    with pytest.raises(SourceError) as caught:
        [*checked_records(records(), Unit("s", "f.csv", ""), Progress())]
    assert str(caught.value).startswith(
        "s/f.csv: what follows record 1 cannot be read (KeyError in test_poison.py, line"
    )
    assert NAME not in str(caught.value) and caught.value.__suppress_context__


def test_files_below_links_are_read_and_broken_links_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.xml").write_text("<PubmedArticleSet/>")
    source = PubMedSource(type="pubmed", name="p", path=str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "elsewhere")
    assert [unit.name for unit in list_units(source)] == ["linked/a.xml"]
    (tmp_path / "data" / "b.xml").symlink_to(tmp_path / "absent")
    with pytest.raises(SourceError, match=r"'b\.xml' below .* is a link to no file"):
        list_units(source)
    (tmp_path / "data" / "b.xml").unlink()
    (tmp_path / "data" / "again").symlink_to(tmp_path / "data")
    with pytest.raises(SourceError, match="below its source twice"):
        list_units(source)


def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.xml")).write_text("<PubmedArticleSet/>")
    with pytest.raises(SourceError, match="is not UTF-8; rename"):
        list_units(PubMedSource(type="pubmed", name="p", path=str(tmp_path)))


@pytest.mark.parametrize("text", [" ", "\u00a0", "a.", "9-", "A", "A'", "www.", "Dr ", "mrn "])
def test_no_text_takes_long(text: str) -> None:
    """Each of these took minutes or more: the time of a pattern grew with the square of the length."""
    began = time.process_time()
    long = text * (100_000 // len(text))
    for ending in ("x", "@x", " MD"):
        mask_identifiers(normalise(f"Name: {long}{ending}"))
    assert time.process_time() - began < 10
