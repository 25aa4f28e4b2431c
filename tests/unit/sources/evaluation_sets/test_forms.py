"""Forms of the same formats that users' files have: line ends, tag schemes, document marks, ids, relations and grades."""

import io
import tarfile
from pathlib import Path

import pytest
from clinical_modernbert.errors import SourceError
from clinical_modernbert.evaluation.tasks.annotations import read_annotations
from clinical_modernbert.evaluation.tasks.spans import entity_spans
from clinical_modernbert.recipe.tasks import EntitiesTask
from clinical_modernbert.sources.evaluation_sets import evaluation_texts, ner, pmc_patients

NOTE = "Line one\r\nPlan: pneumonia\r\n\r\ntoday pneumonia\r\nand asthma"
TERMS = ("pneumonia", "asthma")


def annotated(text: str) -> str:
    """One T line for each term, with offsets in ``text`` as it is."""
    starts = [(at, term) for term in TERMS for at in range(len(text)) if text.startswith(term, at)]
    return "".join(f"T{n}\tDisease {at} {at + len(term)}\t{term}\r\n" for n, (at, term) in enumerate(starts, start=1))


@pytest.mark.parametrize("as_archive", [False, True])
@pytest.mark.parametrize("counted_as", ["two characters", "one character"])
def test_line_ends_of_brat_files_count_as_one_or_two_characters(
    tmp_path: Path, counted_as: str, as_archive: bool
) -> None:
    annotations = annotated(NOTE if counted_as == "two characters" else NOTE.replace("\r\n", "\n"))
    files = {"1.txt": NOTE.encode(), "1.ann": annotations.encode()}
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
    assert document.num_not_as_stated == 0 and "\r" not in document.text


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


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("query-id\tcorpus-id\tscore\nq\td\t1\n", [(2, "q", "d", 1)]),
        ("q\td\t1.0\nq\te\t-1\n", [(1, "q", "d", 1), (2, "q", "e", -1)]),
        ("q 0 d 2\n\nq Q0 e 0\n", [(1, "q", "d", 2), (3, "q", "e", 0)]),
        ("query\titeration\tdocument\tgrade\nq\t0\td\t1\n", [(2, "q", "d", 1)]),
    ],
)
def test_grades_of_beir_and_of_trec(tmp_path: Path, content: str, expected: list[tuple[int, str, str, int]]) -> None:
    (tmp_path / "qrels.tsv").write_text(content)
    assert list(pmc_patients.read_qrels(tmp_path / "qrels.tsv")) == expected


@pytest.mark.parametrize("line", ["q\td\t0.5", "q\td", "q\td\tnan", "q\t0\td\tx\t1"])
def test_other_grades_are_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "qrels.tsv").write_text(f"q\td\t1\n{line}\n")
    with pytest.raises(SourceError, match=r"qrels.tsv, line 2: expected query<TAB>document<TAB>grade"):
        list(pmc_patients.read_qrels(tmp_path / "qrels.tsv"))
