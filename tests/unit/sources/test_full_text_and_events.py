# ruff: noqa: E501 - records of XML and CSV stay on one line
"""PMC full text, MEDS subjects, pseudo-notes of ED stays, and rows in Parquet, JSON lines and data sets."""

import datetime
import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clinical_modernbert.errors import SourceError
from clinical_modernbert.recipe.sources import DatasetSource, MedsSource, PmcSource, TableSource
from clinical_modernbert.sources import list_units, read_unit
from clinical_modernbert.sources.document import Document, Dropped, Quarantined
from clinical_modernbert.sources.evaluation_sets.ed import read_stays
from clinical_modernbert.sources.event_texts import number_text
from clinical_modernbert.sources.notes.meds import read_subjects
from clinical_modernbert.sources.pmc import read_articles

JATS = """<!DOCTYPE article SYSTEM "JATS.dtd">
<article xmlns:xlink="x" xmlns:mml="http://www.w3.org/1998/Math/MathML"><front><article-meta><article-id pub-id-type="pmid">7</article-id>
<article-id pub-id-type="pmc">99</article-id><title-group><article-title>On <italic>H. pylori</italic><fn><p>Gone</p></fn></article-title></title-group>
<abstract><title>Abstract</title><sec><title>Aims</title><p>To see.</p></sec></abstract><abstract abstract-type="graphical"><p>Picture</p></abstract>
<trans-abstract><p>Ziel</p></trans-abstract></article-meta></front>
<body><p>Before.</p><sec><title>Methods</title><p>CO<sub>2</sub> at 10<sup>-3</sup> &unknown; [<xref>1</xref>].<table-wrap><label>Table 1</label><caption>
<p>Doses</p></caption><table><tr><th>Drug</th><td>mg</td></tr></table></table-wrap> After the table.</p><sec><title>Inner</title>
<list><list-item><p>one</p></list-item><list-item><p>two</p></list-item></list><fig><label>Figure 1</label><caption><p>A curve</p></caption></fig>
</sec></sec></body><back><ack><p>Thanks</p></ack><ref-list><title>References</title><ref>Ref text</ref></ref-list></back></article>"""


def pmc(content: str | bytes, **settings: str) -> list[Document | Dropped | Quarantined]:
    source = PmcSource.model_validate({"type": "pmc", "name": "p", "path": "", **settings})
    raw = content.encode() if isinstance(content, str) else content
    return list(read_articles([raw[i : i + 50] for i in range(0, len(raw), 50)], file="a.nxml", source=source))


def test_sections_of_an_article() -> None:
    (document,) = pmc(JATS)
    assert document == Document(
        "PMC99",
        "p",
        "pmid:7",
        "On H. pylori\n\nAbstract\n\nAims\nTo see.\n\nBefore.\n\nMethods\nCO2 at 10^-3 &unknown; [1]. After the table.\n\nInner\none\ntwo",
    )


def test_tables_and_captions_by_rule() -> None:
    (document,) = pmc(JATS, tables="keep", captions="keep")
    assert isinstance(document, Document)
    assert "Table 1 Doses\nDrug\tmg" in document.text and document.text.endswith("two\nFigure 1 A curve")


def test_what_is_no_article() -> None:
    assert isinstance(pmc("<article><body>")[0], Quarantined)
    assert pmc("<html/>") == [Quarantined("a.nxml", "line 1", "the root element is not article")]
    assert pmc(JATS[: JATS.index("<body>")] + "</article>") == [Dropped("no_body")]
    (record,) = pmc("<article><front/><body><p>x</p></body></article>")
    assert isinstance(record, Quarantined) and "no article-id" in record.reason


def test_a_file_of_several_articles_gives_each() -> None:
    """As NCBI answers a request for several."""
    declaration, _, article = JATS.partition("\n")
    several = f"{article}\n<article><front/></article>{article.replace('>99<', '>100<')}"
    found = pmc(f"{declaration}\n<pmc-articleset>{several}</pmc-articleset>")
    assert [record.id for record in found if isinstance(record, Document)] == ["PMC99", "PMC100"]
    (bad,) = (record for record in found if isinstance(record, Quarantined))
    assert bad.position == f"line {JATS.count(chr(10)) + 2}" and "no article-id" in bad.reason


def test_real_articles(shared_data: Path) -> None:
    source = PmcSource(type="pmc", name="p", path=str(shared_data / "pmc_nxml"))
    documents = [record for unit in list_units(source) for record in read_unit(source, unit)]
    assert len(documents) == 5
    for document in documents:
        assert isinstance(document, Document)
        assert document.id.startswith("PMC") and document.group.startswith("pmid:")
        assert 1500 < len(document.text.split()) < 9500 and "\n\nAbstract\n" in document.text
        assert "References" not in document.text.split("\n")


def test_no_paragraph_of_a_real_article_is_lost(shared_data: Path) -> None:
    from lxml import etree

    left_out = ("table-wrap", "fig", "fn", "supplementary-material", "media")
    for path in sorted((shared_data / "pmc_nxml").glob("*.gz")):
        root = etree.fromstring(gzip.decompress(path.read_bytes()))
        (document,) = pmc(gzip.decompress(path.read_bytes()))
        assert isinstance(document, Document)
        for paragraph in root.find("body").iter("p", "title"):
            if any(ancestor.tag in left_out for ancestor in paragraph.iterancestors()):
                continue
            pieces = [paragraph.text or "", *(child.tail or "" for child in paragraph)]
            assert all(" ".join(piece.split()) in document.text for piece in pieces), path.name
        for table in root.find("body").iter("td"):
            words = " ".join("".join(table.itertext()).split())
            assert len(words) < 40 or words not in document.text


def write_events(path: Path, rows: list[tuple[int, int | None, str, float | None, str | None]]) -> None:
    def time(day: int | None) -> datetime.datetime | None:
        return None if day is None else datetime.datetime(2150, 1, day, 8)

    columns = list(zip(*[(s, time(d), c, v, t) for s, d, c, v, t in rows], strict=True))
    types = (pa.int64(), pa.timestamp("us"), pa.string(), pa.float32(), pa.string())
    names = ("subject_id", "time", "code", "numeric_value", "text_value")
    pq.write_table(pa.table({n: pa.array(c, t) for n, c, t in zip(names, columns, types, strict=True)}), path)


def test_meds_subjects_in_time_order(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    rows = [
        (1, 3, "LAB//GLUCOSE//mg/dL", 88.5, None),
        (1, 2, "ADMISSION//ED", None, None),
        (1, None, "GENDER//F", None, None),
        (1, 3, "NOTE", None, "much  better"),
        (1, 4, "DISCHARGE//HOME", None, None),
        (2, 1, "DISCHARGE//DIED", None, None),
    ]
    write_events(path, rows)
    source = MedsSource(type="meds", name="m", path=str(path), leave_out=("DISCHARGE",))
    first, second = read_subjects(path, file="f", source=source)
    assert first == Document(
        "1",
        "m",
        "patient:1",
        "GENDER F\n2150-01-02 08:00: ADMISSION ED\n2150-01-03 08:00: LAB GLUCOSE mg/dL 88.5; NOTE much better",
    )
    assert second == Dropped("empty")
    write_events(path, rows[:2] + rows[5:] + rows[2:5])  # subjects that lie apart are sorted
    assert list(read_subjects(path, file="f", source=source)) == [first, second]
    path.write_bytes(b"no parquet")
    (record,) = read_subjects(path, file="f", source=source)
    assert isinstance(record, Quarantined)


def test_meds_numbers_keep_their_digits_and_events_without_code_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    write_events(path, [(1, None, "A", 1234567.0, None), (1, None, "B", 88.1, None), (1, None, None, 1.0, None)])
    source = MedsSource(type="meds", name="m", path=str(path))
    document, noticed = read_subjects(path, file="f", source=source)
    assert isinstance(document, Document) and document.text == "A 1234567; B 88.1"
    assert noticed == Quarantined("f", "subject 1", "events without a code are left out")
    assert [number_text(n) for n in (16777216.0, 0.1, 1e-9, 123456.789, -3.0)] == [
        "16777216",
        "0.1",
        "1e-09",
        "123456.789",
        "-3",
    ]


def test_meds_leaves_its_metadata_out_of_a_flat_folder(tmp_path: Path) -> None:
    (tmp_path / "metadata").mkdir()
    for name in ("0.parquet", "metadata/codes.parquet"):
        write_events(tmp_path / name, [(1, None, "A", None, None)])
    assert [unit.name for unit in list_units(MedsSource(type="meds", name="m", path=str(tmp_path)))] == ["0.parquet"]


ED = {
    "edstays": "subject_id,hadm_id,stay_id,intime,outtime,gender,race,arrival_transport,disposition\n"
    "5,77,30,2180-01-01 10:00:00,2180-01-01 18:30:00,F,WHITE,AMBULANCE,ADMITTED\n6,,31,2180-02-01 10:00:00,2180-02-01 11:00:00,M,,WALK IN,HOME\n",
    "triage": "subject_id,stay_id,temperature,heartrate,resprate,o2sat,sbp,dbp,pain,acuity,chiefcomplaint\n5,30,98.1,90,18,97,120,,4,2,Chest pain\n",
    "vitalsign": "subject_id,stay_id,charttime,temperature,heartrate,resprate,o2sat,sbp,dbp,rhythm,pain\n5,30,2180-01-01 11:00:00,98,88,16,98,118,70,Sinus,3\n",
    "medrecon": "subject_id,stay_id,charttime,name,gsn,ndc,etc_rn,etccode,etcdescription\n5,30,2180-01-01 10:10:00,aspirin,1,2,1,3,NSAID\n",
    "pyxis": "subject_id,stay_id,charttime,med_rn,name,gsn_rn,gsn\n5,30,2180-01-01 12:00:00,1,Nitroglycerin,1,1\n",
    "diagnosis": "subject_id,stay_id,seq_num,icd_code,icd_version,icd_title\n5,30,2,I10,10,HYPERTENSION\n5,30,1,I214,10,NSTEMI\n",
}


def test_pseudo_notes_keep_the_label_apart(tmp_path: Path) -> None:
    for name, content in ED.items():
        (tmp_path / f"{name}.csv.gz").write_bytes(gzip.compress(content.encode()))
    first, second = read_stays(tmp_path)
    assert (first.stay_id, first.group) == ("30", "subject_id:5")
    assert first.outcome.disposition == "ADMITTED" and first.outcome.hadm_id == "77"
    assert first.outcome.diagnoses == (("10", "I214", "NSTEMI"), ("10", "I10", "HYPERTENSION"))
    for part in (
        "Chest pain",
        "AMBULANCE",
        "acuity level 2",
        "diastolic pressure not recorded",
        "aspirin (NSAID)",
        "Nitroglycerin",
        "Sinus",
    ):
        assert part in first.text, part
    for leak in ("ADMITTED", "18:30", "I214", "NSTEMI", "HYPERTENSION", "77", "disposition", "admitted"):
        assert leak not in first.text, leak
    assert (
        second.outcome.hadm_id is None
        and "Triage: not recorded." in second.text
        and "race: not recorded" in second.text
    )
    (tmp_path / "pyxis.csv.gz").unlink()
    with pytest.raises(SourceError, match=r"no pyxis\.csv or pyxis\.csv\.gz"):
        list(read_stays(tmp_path))


ROWS = [
    {"id": 7, "patient": 1, "note": "First."},
    {"id": 8, "patient": 1, "note": " "},
    {"id": None, "patient": 2, "note": "x"},
]
NAMED = {"text_column": "note", "id_column": "id", "group_column": "patient"}


def expected(name: str, position: str) -> list[Document | Dropped | Quarantined]:
    return [Document("7", "t", "patient:1", "First."), Dropped("empty"), Quarantined(name, position, "no id")]


def table(path: Path) -> list[Document | Dropped | Quarantined]:
    source = TableSource.model_validate({"type": "table", "name": "t", "path": str(path), **NAMED})
    (unit,) = list_units(source)
    return list(read_unit(source, unit))  # type: ignore[arg-type]


def test_the_same_rows_in_three_formats(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text("id,patient,note\n7,1,First.\n8,1, \n,2,x\n")
    upper = [{name.upper(): value for name, value in row.items()} for row in ROWS]
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, [ROWS[0], *upper[1:]])).encode()))
    assert table(tmp_path / "a.parquet") == expected("a.parquet", "row 3")
    assert table(tmp_path / "a.csv") == expected("a.csv", "line 4")
    assert table(tmp_path / "a.jsonl.gz") == expected("a.jsonl.gz", "line 3")


def test_bad_lines_of_json_are_quarantined_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b'{"id":1}\n{broken\n\n["x"]\n{"id":2,"patient":3,"note":5}\n{"id":2,"patient":3,"note":"Good."}\n\xff\n'
    )
    records = table(path)
    assert [r.position for r in records if isinstance(r, Quarantined)] == [f"line {n}" for n in (1, 2, 4, 5, 7)]
    assert [r.text for r in records if isinstance(r, Document)] == ["Good."]


def test_a_parquet_file_that_lacks_a_column(tmp_path: Path) -> None:
    pq.write_table(pa.table({"note": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(SourceError, match=r"a\.parquet has no column 'id', 'patient'; its columns are 'note'"):
        table(tmp_path / "a.parquet")


def dataset(path: str, **settings: object) -> DatasetSource:
    return DatasetSource.model_validate({"type": "dataset", "name": "t", "path": path, **NAMED, **settings})


@pytest.mark.slow
def test_hugging_face_folders(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_list(ROWS).save_to_disk(str(tmp_path / "saved"))
    (tmp_path / "plain").mkdir()
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "plain" / "train.parquet")
    for name in ("saved", "plain"):
        source = dataset(str(tmp_path / name))
        (unit,) = list_units(source)
        assert list(read_unit(source, unit)) == expected(str(tmp_path / name), "row 3")
    with pytest.raises(SourceError, match=r"split 'test', cannot be loaded"):
        list(read_unit(dataset(str(tmp_path / "plain"), split="test"), unit))


@pytest.mark.slow
@pytest.mark.parametrize("second", [b"PAR1 torn", None], ids=["torn", "other columns"])
def test_a_data_set_with_a_broken_shard_is_refused_with_its_name(second: bytes | None, tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "train-0.parquet")
    pq.write_table(pa.table({"other": [1]}), tmp_path / "train-1.parquet")
    if second:
        (tmp_path / "train-1.parquet").write_bytes(second)
    source = dataset(str(tmp_path))
    (unit,) = list_units(source)
    with pytest.raises(SourceError, match=r"after row 3 .*train-1\.parquet"):
        list(read_unit(source, unit))


def test_a_hub_id_needs_its_commit() -> None:
    with pytest.raises(SourceError, match=r"together with revision, its commit"):
        list_units(dataset("owner/nowhere"))
    one, two = (list_units(dataset("owner/nowhere", revision=r))[0].digest for r in ("abc", "abd"))
    assert one != two


def test_a_row_without_a_code_is_left_out_and_one_without_a_subject_ends_the_shard(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    rows = {
        "subject_id": [1, 1, 2, None, 3],
        "time": pa.array([None] * 5, type=pa.timestamp("us")),
        "code": ["A", None, "B", "C", "D"],
    }
    pq.write_table(pa.table(rows), path)
    found = list(read_subjects(path, file="m.parquet", source=MedsSource(type="meds", name="m", path=str(path))))
    assert [(d.id, d.text) for d in found[:2]] == [("1", "A"), ("2", "B")]  # type: ignore[union-attr]
    assert found[2:] == [Quarantined("m.parquet", "row 4", "subject_id is null; MEDS states it for each event")]
