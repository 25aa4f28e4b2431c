"""Forms of the same formats that users' files have: line ends, tag schemes, document marks, ids, relations and grades."""

import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from clinical_modernbert.errors import SourceError
from clinical_modernbert.evaluation.tasks.annotations import read_annotations
from clinical_modernbert.evaluation.tasks.spans import entity_spans
from clinical_modernbert.recipe.tasks import EntitiesTask
from clinical_modernbert.sources.evaluation_sets import evaluation_texts, ner, pmc_patients
from clinical_modernbert.sources.evaluation_sets.bioc import read_bioc
from clinical_modernbert.sources.evaluation_sets.ner import AnnotatedText

NOTE = "Line one\r\nPlan: pneumonia\r\n\r\ntoday pneumonia\r\nand asthma"
TERMS = ("pneumonia", "asthma")


def annotated(text: str) -> str:
    """One T line for each term, with offsets in ``text`` as it is."""
    starts = [(at, term) for term in TERMS for at in range(len(text)) if text.startswith(term, at)]
    return "".join(f"T{n}\tDisease {at} {at + len(term)}\t{term}\r\n" for n, (at, term) in enumerate(starts, start=1))


MARK = "\ufeff"


@pytest.mark.parametrize("as_archive", [False, True])
@pytest.mark.parametrize("mark", ["", MARK])
@pytest.mark.parametrize("counted", [NOTE, NOTE.replace("\r\n", "\n"), MARK + NOTE, MARK + NOTE.replace("\r\n", "\n")])
def test_line_ends_and_marks_of_brat_files_count_as_the_annotations_say(
    tmp_path: Path, counted: str, mark: str, as_archive: bool
) -> None:
    if counted.startswith(MARK) and not mark:
        return
    files = {"1.txt": (mark + NOTE).encode(), "1.ann": (mark + annotated(counted)).encode()}
    if as_archive:
        path = tmp_path / "notes.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    else:
        path = tmp_path
        for name, content in files.items():
            (path / name).write_bytes(content)
    (document,) = ner.read_brat(path)
    assert [document.text[s.start : s.end] for s in document.spans] == ["pneumonia", "pneumonia", "asthma"]
    assert document.num_not_as_stated == 0 and not {"\r", MARK} & set(document.text)


def test_a_brat_document_whose_spans_are_elsewhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "1.txt").write_text("fever and cough and asthma")
    (tmp_path / "1.ann").write_text("T1\tA 0 5\tfever\nT2\tA 9 14\tcough\nT3\tA 19 25\tasthma\n")
    with pytest.raises(SourceError, match=r"^1\.ann, line 2: the span is not the stated text, as for 2 of 3 entities$"):
        list(ner.read_brat(tmp_path))


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("B I O B", {("entity", 0, 1), ("entity", 3, 3)}),
        ("B-X E-X O S-Y", {("X", 0, 1), ("Y", 3, 3)}),
        ("B-X I-X E-X S-X", {("X", 0, 2), ("X", 3, 3)}),
        ("B-X L-X U-X O", {("X", 0, 1), ("X", 2, 2)}),
        ("B E S O", {("entity", 0, 1), ("entity", 2, 2)}),
        ("B-X M-X E-X W-Y", {("X", 0, 2), ("Y", 3, 3)}),
    ],
)
def test_every_tag_scheme_gives_the_same_spans(tmp_path: Path, tags: str, spans: set[tuple[str, int, int]]) -> None:
    path = tmp_path / "x.tsv"
    path.write_text("".join(f"w{n}\t{tag}\n" for n, tag in enumerate(tags.split())))
    (sentence,) = ner.read_conll(path)
    assert entity_spans(sentence.tags) == spans and {tag.partition("-")[0] for tag in sentence.tags} <= {"B", "I", "O"}
    assert list(evaluation_texts(path)) == ["w0 w1 w2 w3"]


@pytest.mark.parametrize(
    ("marks", "groups"),
    [
        (("-DOCSTART-\tO", "-DOCSTART-\tO"), ["x.tsv:#1", "x.tsv:#1", "x.tsv:#2"]),
        (("-DOCSTART- (123)", "-DOCSTART- (9) -X- O O"), ["123", "123", "9"]),
        (("# doc_id = a7", "# newdoc id = b8"), ["a7", "a7", "b8"]),
        (("###MEDLINE:9536", "###MEDLINE:9537"), ["9536", "9536", "9537"]),
        (("# newdoc\n# sent_id = 1\n# text = vitamin B", "# newdoc"), ["x.tsv:#1", "x.tsv:#1", "x.tsv:#2"]),
    ],
)
def test_a_document_that_the_file_begins_is_a_group(tmp_path: Path, marks: tuple[str, str], groups: list[str]) -> None:
    first, second = marks
    (tmp_path / "x.tsv").write_text(f"{first}\n\na\tO\n\nb\tB-X\n\n{second}\n\n#\tO\nc\tO\n")
    task = EntitiesTask(name="n", type="entities", format="conll", train="x.tsv")
    examples, facts = read_annotations(tmp_path / "x.tsv", task, data=tmp_path)
    assert [example.group for example in examples] == groups and facts == {}
    assert " ".join(evaluation_texts(tmp_path / "x.tsv")) == "a b # c"


def test_jnlpbas_abstracts_are_its_groups(shared_data: Path) -> None:
    task = EntitiesTask(name="n", type="entities", format="conll", train="x")
    examples, facts = read_annotations(shared_data / "ner/JNLPBA/devel.tsv.gz", task, data=shared_data)
    assert len({example.group for example in examples}) == 200 and facts == {}


def test_pubtator_of_full_texts_and_with_biored_s_relations(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text(
        "PMC12|t|A title\nPMC12|a|Of asthma\nPMC12\t11\t17\tasthma\tDisease\tD001249\n"
        "PMC12\tAssociation\tD001249\t7157\tNovel\n\n7|t|B\n7|a|C\n7\tCID\tD1\tD2\n"
    )
    first, second = ner.read_pubtator(tmp_path / "x.txt")
    assert (first.id, first.text[11:17], len(first.spans), second.id) == ("PMC12", "asthma", 1, "7")
    assert list(evaluation_texts(tmp_path / "x.txt")) == ["A title Of asthma", "B C"]


def bioc(stated: tuple[str, ...], relation: str = "") -> str:
    """One document "Of asthma and croup" with both annotated, as the file states them."""
    mentions = "".join(
        f'<annotation id="{n}"><infon key="type">Disease</infon><infon key="MESH">D{n}</infon>'
        f'<location offset="{start}" length="{end - start}"/><text>{text}</text></annotation>'
        for n, (start, end, text) in enumerate(zip((3, 14), (9, 19), stated, strict=True))
    )
    passage = f"<passage><offset>0</offset><text>Of asthma and croup</text>{mentions}</passage>"
    return f"<collection><document><id>7</id>{passage}{relation}</document></collection>"


def pubtator(stated: tuple[str, ...]) -> str:
    lines = [f"7\t{a}\t{b}\t{text}\tDisease\tD1" for a, b, text in zip((3, 14), (9, 19), stated, strict=True)]
    return "\n".join(["7|t|Of asthma", "7|a|and croup", *lines, ""])


@pytest.mark.parametrize(("read", "form"), [(ner.read_pubtator, pubtator), (read_bioc, bioc)])
def test_annotations_that_state_another_text_are_counted_and_most_of_them_refused(
    tmp_path: Path, read: Callable[[Path], Iterator[AnnotatedText]], form: Callable[[tuple[str, ...]], str]
) -> None:
    """PubTator states TNF-a for the Greek letter, BC5CDR's BioC has four mentions one character further."""
    path = tmp_path / "x"
    for stated, count in ((("asthma", "croup"), 0), (("asthma", " croup"), 0), (("asthma", "crou\u0440"), 1)):
        path.write_text(form(stated))
        (document,) = read(path)
        assert document.num_not_as_stated == count
        assert [document.text[s.start : s.end] for s in document.spans] == ["asthma", "croup"]
    path.write_text(form(("sthma ", "roup ")))
    with pytest.raises(
        SourceError, match=r"^x, line \d+: characters 3-9 are not the annotated text, as for 2 of 2 ann"
    ):
        list(read(path))


def test_bc5cdrs_relations_in_bioc_are_read(tmp_path: Path) -> None:
    infons = (("relation", "CID"), ("Chemical", "D0"), ("Disease", "D1"))
    relation = "".join(f'<infon key="{key}">{value}</infon>' for key, value in infons)
    (tmp_path / "x.xml").write_text(bioc(("asthma", "croup"), f'<relation id="R0">{relation}</relation>'))
    (document,) = read_bioc(tmp_path / "x.xml")
    assert document.relations == (ner.Relation("CID", "D0", "D1"),) and document.names == (("D0",), ("D1",))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("query-id\tcorpus-id\tscore\nq\td\t1\n", [(2, "q", "d", 1)]),
        ("q\td\t1.0\nq\te\t-1\n", [(1, "q", "d", 1), (2, "q", "e", -1)]),
        ("q 0 d 2\n\nq Q0 e 0\n", [(1, "q", "d", 2), (3, "q", "e", 0)]),
        ('{"query-id": "q", "corpus-id": 7, "score": 2.0}\n', [(1, "q", "7", 2)]),
        ("query\titeration\tdocument\tgrade\nq\t0\td\t1\n", [(2, "q", "d", 1)]),
    ],
)
def test_grades_of_beir_and_of_trec(tmp_path: Path, content: str, expected: list[tuple[int, str, str, int]]) -> None:
    (tmp_path / "qrels.tsv").write_text(content)
    assert list(pmc_patients.read_qrels(tmp_path / "qrels.tsv")) == expected


@pytest.mark.parametrize("line", ["q\td\t0.5", "q\td", "q\td\tnan", "q\t0\td\tx\t1", '{"query-id": 1, "score": 1}'])
def test_other_grades_are_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "qrels.tsv").write_text(f"q\td\t1\n{line}\n")
    with pytest.raises(SourceError, match=r"qrels.tsv, line 2: expected query<TAB>document<TAB>grade"):
        list(pmc_patients.read_qrels(tmp_path / "qrels.tsv"))


@pytest.mark.parametrize("line", ['{"id": 3, "text": "a"}', '{"_id": "3", "title": null, "text": "a", "metadata": {}}'])
def test_entries_of_beir_and_of_mteb(tmp_path: Path, line: str) -> None:
    (tmp_path / "c.jsonl").write_text(f"{line}\n\n")
    assert list(pmc_patients.read_entries(tmp_path / "c.jsonl")) == [pmc_patients.Entry("3", "", "a")]
    (tmp_path / "c.jsonl").write_text('{"_id": "3", "text": null}')
    with pytest.raises(SourceError, match=r'c.jsonl, line 1: expected a JSON object with "_id" and a "text"'):
        list(pmc_patients.read_entries(tmp_path / "c.jsonl"))


@pytest.mark.parametrize("name", ["set.parquet", "set.feather"])
def test_texts_in_lists_and_structs_of_a_table_are_texts(tmp_path: Path, name: str) -> None:
    """As data sets of the hub have abstracts: they were not compared, and the set protected nothing."""
    columns = {
        "id": pa.array([1]),
        "question": pa.array(["Is it so?"]),
        "context": pa.array([{"contexts": ["A first.", "A second."], "numbers": [[3]]}]),
        "entities": pa.array([[{"text": ["heart"], "offsets": [[0, 5]]}]]),
        "answer": pa.array(["maybe"]).dictionary_encode(),
    }
    write = pyarrow.parquet.write_table if name.endswith(".parquet") else pyarrow.feather.write_feather
    write(pa.table(columns), str(tmp_path / name))
    assert list(evaluation_texts(tmp_path)) == ["Is it so? A first. A second. heart maybe"]
    assert list(evaluation_texts(tmp_path, by_cell=True))[1:3] == ["A first.", "A second."]
