"""PubMed XML -> documents: the real files of NLM, and hand-made records of what they lack."""

import gzip
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from clinical_modernbert.recipe.sources import PubMedSource
from clinical_modernbert.sources import pubmed
from clinical_modernbert.sources.document import Deleted, Document, Dropped, Quarantined
from clinical_modernbert.sources.files import read_chunks

MATH = 'xmlns:mml="http://www.w3.org/1998/Math/MathML"'


Record = Document | Deleted | Dropped | Quarantined


def source(**settings: object) -> PubMedSource:
    return PubMedSource.model_validate({"type": "pubmed", "name": "s", "path": "", **settings})


def read_citations(chunks: Iterable[bytes], *, file: str, source: PubMedSource) -> Iterator[Record]:
    return pubmed.read_citations(chunks, file=file, source=source)


def read(content: bytes | Iterable[bytes], file: str = "f.xml", **settings: object) -> list[Record]:
    chunks = [content] if isinstance(content, bytes) else content
    return list(read_citations(chunks, file=file, source=source(**settings)))


def article(abstract: str, *, pmid: str = "1", title: str = "A title.") -> str:
    body = f"<Abstract>{abstract}</Abstract>" if abstract else ""
    return (
        f"<PubmedArticle><MedlineCitation><PMID Version='1'>{pmid}</PMID><Article><ArticleTitle>{title}</ArticleTitle>{body}"
        "</Article><CommentsCorrectionsList><CommentsCorrections><PMID>77</PMID></CommentsCorrections></CommentsCorrectionsList>"
        "<OtherAbstract><AbstractText>Altro.</AbstractText></OtherAbstract></MedlineCitation></PubmedArticle>"
    )


def article_set(*articles: str) -> bytes:
    return f"<?xml version='1.0'?><PubmedArticleSet>{''.join(articles)}</PubmedArticleSet>".encode()


def only_text(content: bytes) -> str:
    (document,) = read(content)
    assert isinstance(document, Document)
    return document.text


def count(folder: Path) -> Counter[str]:
    found: Counter[str] = Counter()
    for path in folder.rglob("*.xml*") if folder.is_dir() else [folder]:
        for record in read_citations(read_chunks(path), file=path.name, source=source()):
            found[record.reason if isinstance(record, Dropped) else type(record).__name__] += 1
    return found


def test_daily_update_file_with_2016_root(shared_data: Path) -> None:
    assert count(shared_data / "pubmed" / "medline16n0902.xml.gz") == {
        "Document": 526,
        "no_abstract": 78,
        "Deleted": 1,
    }


def test_all_real_files(shared_data: Path) -> None:
    assert count(shared_data / "pubmed") == {"Document": 602, "no_abstract": 87, "Deleted": 1}


def test_text_of_a_real_structured_abstract(shared_data: Path) -> None:
    path = shared_data / "pubmed" / "medline16n0902.xml.gz"
    document = next(iter(read_citations(read_chunks(path), file=path.name, source=source(name="nlm"))))
    assert isinstance(document, Document)
    assert (document.id, document.source, document.group) == ("17942999", "nlm", "pmid:17942999")
    title, body = document.text.split("\n\n")
    assert title.startswith("Neuroplasticity in the processing of pitch dimensions")
    assert [line.split(":")[0] for line in body.split("\n")] == ["PURPOSE", "METHODS", "RESULTS", "CONCLUSIONS"]


def test_inline_markup_and_mathml_of_real_files_stay_text(shared_data: Path) -> None:
    (six,) = read(read_chunks(shared_data / "pubmed" / "biopython" / "pubmed6.xml"))
    assert isinstance(six, Document)
    assert "(LEmin), first described" in six.text
    assert "maximal oxygen uptake ( V.O2max ) 67.6 ± 4.1 ml·kg-1·min-1]" in six.text
    (seven,) = read(read_chunks(shared_data / "pubmed" / "biopython" / "pubmed7.xml"))
    assert isinstance(seven, Document)
    assert "(1) inhaled He3/Xe129 MRI ventilation and apparent diffusion" in seven.text


def test_markup_in_title_and_abstract() -> None:
    content = article_set(
        article("<AbstractText>CO<sub>2</sub> at\n  <i>P</i> &lt; 10<sup>-3</sup>.</AbstractText>", title="<b>A</b> b")
    )
    assert only_text(content) == "A b\n\nCO2 at P < 10^-3."


def test_mathml_layout_is_no_space_but_its_tail_is() -> None:
    math = f"<mml:math {MATH}>\n  <mml:mn>3</mml:mn>\n  <mml:mi>He</mml:mi>\n</mml:math>"
    assert (
        only_text(article_set(article(f"<AbstractText>Of {math}\n gas.</AbstractText>"))) == "A title.\n\nOf 3He gas."
    )


def test_labels_stay_and_empty_sections_go() -> None:
    parts = (
        '<AbstractText Label="BACKGROUND" NlmCategory="BACKGROUND">Why.</AbstractText><AbstractText Label="METHODS"/>'
        '<AbstractText Label="UNLABELLED">Plain.</AbstractText><AbstractText Label="AIM: ">Then.</AbstractText>'
        "<AbstractText NlmCategory='RESULTS'>Found.</AbstractText><CopyrightInformation>(c) X</CopyrightInformation>"
    )
    assert only_text(article_set(article(parts))) == "A title.\n\nBACKGROUND: Why.\nPlain.\nAIM: Then.\nFound."


@pytest.mark.parametrize(
    "notice", ["(ABSTRACT TRUNCATED AT 250 WORDS)", "(ABSTRACT TRUNCATED AT 400 WORDS)", "(ABSTRACT TRUNCATED)"]
)
def test_truncation_notices_go(notice: str) -> None:
    assert only_text(article_set(article(f"<AbstractText>It was seen that {notice}</AbstractText>"))).endswith(
        "It was seen that"
    )
    assert read(article_set(article(f"<AbstractText>{notice}</AbstractText>"))) == [Dropped("no_abstract", "1", 1)]


def test_title_only_deleted_and_untitled() -> None:
    records = read(
        article_set(
            article("", pmid="1"),
            article("<AbstractText>  </AbstractText>", pmid="2"),
            "<DeleteCitation><PMID>3</PMID><PMID>4</PMID></DeleteCitation>",
            article("<AbstractText>Text.</AbstractText>", pmid="5", title="[Not Available]."),
        )
    )
    assert records[:4] == [Dropped("no_abstract", pmid, 1) for pmid in "12"] + [Deleted("3"), Deleted("4")]
    assert records[4:] == [Document("5", "s", "pmid:5", "Text.", 1, record="5")]


def test_book_articles_are_read() -> None:
    book = (
        "<PubmedBookArticle><BookDocument><PMID>9</PMID><Book><BookTitle>A book</BookTitle></Book>{title}<Abstract>"
        "<AbstractText>Chapter text.</AbstractText></Abstract></BookDocument><PubmedBookData/></PubmedBookArticle>"
    )
    assert (
        only_text(article_set(book.format(title="<ArticleTitle>A chapter</ArticleTitle>")))
        == "A chapter\n\nChapter text."
    )
    assert only_text(article_set(book.format(title=""))) == "A book\n\nChapter text."


def test_a_record_without_pmid_is_quarantined_and_the_next_is_read() -> None:
    records = read(
        article_set(
            article("<AbstractText>Text.</AbstractText>", pmid=""), article("<AbstractText>Text.</AbstractText>")
        )
    )
    assert records[0] == Quarantined("f.xml", "record 1", "no PMID")
    assert isinstance(records[1], Document)


def test_truncated_archive_keeps_what_came_before(tmp_path: Path, shared_data: Path) -> None:
    packed = (shared_data / "pubmed" / "medline16n0902.xml.gz").read_bytes()
    path = tmp_path / "cut.xml.gz"
    path.write_bytes(packed[: len(packed) // 2])
    *before, last = read_citations(read_chunks(path), file=path.name, source=source())
    assert len(before) > 200
    whole = read_citations(read_chunks(shared_data / "pubmed" / "medline16n0902.xml.gz"), file="x", source=source())
    assert before == [record for record, _ in zip(whole, before, strict=False)]
    position = f"record {len(before) + 1}, byte {len(packed) // 2}"
    assert isinstance(last, Quarantined) and last.unread_bytes < 20_000
    assert replace(last, unread_bytes=0) == Quarantined("cut.xml.gz", position, "the gzip archive is truncated")


@pytest.mark.parametrize("chunk_bytes", [7, 1 << 20])
@pytest.mark.parametrize("damage", [b"<PubmedArticle><broken</PubmedArticle>", b"</wrong>", b"", b"\xff\xfe &"])
def test_broken_xml_keeps_what_came_before(damage: bytes, chunk_bytes: int) -> None:
    good = article_set(*(article("<AbstractText>Text.</AbstractText>", pmid=str(n)) for n in range(1, 4)))
    content = good.removesuffix(b"</PubmedArticleSet>") + b"\n" + damage
    chunks = [content[i : i + chunk_bytes] for i in range(0, len(content), chunk_bytes)]
    *before, last = read(chunks)
    assert [record.id for record in before if isinstance(record, Document)] == ["1", "2", "3"]
    assert isinstance(last, Quarantined)
    assert last.file == "f.xml" and last.position.startswith("record 4, line ") and "broken XML" in last.reason


def test_other_files_are_quarantined() -> None:
    (record,) = read(b"<article><body>JATS</body></article>")
    assert isinstance(record, Quarantined) and "PubmedArticleSet" in record.reason
    assert "<article>" not in record.reason and record.unread_bytes > 0
    for content in (b"", b" \n"):
        (empty,) = read(content)
        assert isinstance(empty, Quarantined) and (empty.position, empty.reason[:17]) == ("line 1", "the file is empty")
    assert read(article_set()) == []


def test_a_single_citation_needs_no_set_around_it() -> None:
    assert only_text(article("<AbstractText>Text.</AbstractText>").encode()) == "A title.\n\nText."


def test_external_entities_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret words")
    head = f'<!DOCTYPE PubmedArticleSet [<!ENTITY x SYSTEM "file://{tmp_path}/secret"><!ENTITY y "expanded">]>'
    body = article("<AbstractText>Text &x; and &y; end.</AbstractText>")
    (record,) = read(f"{head}<PubmedArticleSet>{body}</PubmedArticleSet>".encode())
    assert record == Document("1", "s", "pmid:1", "A title.\n\nText &x; and &y; end.", 1, record="1")


def test_entities_that_grow_are_not_expanded() -> None:
    grow = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10 if n else "lol"}">' for n in range(12))
    body = article("<AbstractText>Text &l11;</AbstractText>")
    records = read(f"<!DOCTYPE PubmedArticleSet [{grow}]><PubmedArticleSet>{body}</PubmedArticleSet>".encode())
    assert len(records) == 1 and "lollol" not in str(records) and len(str(records)) < 1000


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc (Linux)")
def test_memory_is_flat() -> None:
    one = article("<AbstractText>" + "words and more words " * 100 + "</AbstractText>").encode()
    block = one * 50

    def chunks() -> Iterable[bytes]:
        yield b"<PubmedArticleSet>"
        yield from (block for _ in range(400))
        yield b"</PubmedArticleSet>"

    def resident_pages() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1])

    pages = []
    for number, _ in enumerate(read_citations(chunks(), file="f", source=source())):
        if number % 2000 == 1999:
            pages.append(resident_pages())
    assert len(pages) == 10
    # 18,000 more records are 45 MB of XML; a tree that kept them would need at least as much again.
    assert (pages[-1] - pages[0]) * 4096 < 20_000_000


def test_plain_and_packed_are_the_same(tmp_path: Path) -> None:
    content = article_set(article("<AbstractText>Text.</AbstractText>"))
    (tmp_path / "a.xml").write_bytes(content)
    (tmp_path / "b.xml.gz").write_bytes(gzip.compress(content))
    assert read(read_chunks(tmp_path / "a.xml")) == read(read_chunks(tmp_path / "b.xml.gz"))
