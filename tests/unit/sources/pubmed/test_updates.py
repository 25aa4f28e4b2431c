# ruff: noqa: E501 - records of XML and CSV stay on one line
"""PubMed files as a series: order, checksums, versions, languages; and the scanner against lxml."""

import gzip
import hashlib
import random
from pathlib import Path

import pytest
from clinical_modernbert.errors import SourceError
from clinical_modernbert.recipe.sources import PubMedSource
from clinical_modernbert.sources import list_units, read_unit
from clinical_modernbert.sources.document import Deleted, Document, Dropped, Quarantined
from clinical_modernbert.sources.files import read_chunks
from clinical_modernbert.sources.pubmed import file_order, read_citations
from clinical_modernbert.sources.pubmed.scan import read_tree, scan_records
from pydantic import ValidationError

ITALIAN = (
    "<PubmedArticle><MedlineCitation><PMID Version='{version}'>7</PMID><Article><ArticleTitle>[Heart.]</ArticleTitle>"
    "<Abstract><AbstractText>English text.</AbstractText></Abstract><Language>ita</Language><VernacularTitle>Cuore."
    "</VernacularTitle></Article><OtherAbstract Type='Publisher' Language='ita'><AbstractText Label='SCOPO'>Testo &amp; "
    "altro. (ABSTRACT TRUNCATED AT 250 WORDS)</AbstractText></OtherAbstract><OtherAbstract Type='plain-language-summary' "
    "Language='eng'><AbstractText>In <i>plain</i> words.</AbstractText></OtherAbstract></MedlineCitation></PubmedArticle>"
)


def source(path: Path | str = "", **settings: object) -> PubMedSource:
    return PubMedSource.model_validate({"type": "pubmed", "name": "s", "path": str(path), **settings})


def article_set(*articles: str, prolog: str = "") -> bytes:
    return f"{prolog}<PubmedArticleSet>{''.join(articles)}</PubmedArticleSet>".encode()


def read(content: bytes, **settings: object) -> list[Document | Deleted | Dropped | Quarantined]:
    return list(read_citations([content], file="updates/pubmed26n1301.xml.gz", source=source(**settings)))


def test_files_come_in_the_order_of_nlm(tmp_path: Path) -> None:
    names = ("updates/pubmed26n1301.xml.gz", "base/pubmed26n0002.xml.gz", "old/pubmed25n1999.xml", "zz.xml")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(article_set())
    units = list_units(source(tmp_path))
    assert [u.name for u in units] == [
        "zz.xml",
        "old/pubmed25n1999.xml",
        "base/pubmed26n0002.xml.gz",
        "updates/pubmed26n1301.xml.gz",
    ]
    assert file_order("medline99n0001.xml.gz") < file_order("medline16n0902.xml.gz") < file_order("pubmed26n0001.xml")
    assert file_order("notes.xml") == 0


def test_version_and_order_travel_with_documents_and_deletions() -> None:
    records = read(
        article_set(ITALIAN.format(version=3), "<DeleteCitation><PMID Version='1'>8</PMID></DeleteCitation>")
    )
    assert records == [
        Document("7", "s", "pmid:7", "[Heart.]\n\nEnglish text.", version=3, order=2026_001301, record="7"),
        Deleted("8", order=2026_001301, version=1),
    ]


def test_other_abstracts_are_documents_of_the_same_group_by_rule() -> None:
    content = article_set(ITALIAN.format(version=1))
    assert len(read(content)) == 1
    _, italian, plain = read(content, other_languages=["ita", "eng"])
    assert isinstance(italian, Document) and isinstance(plain, Document)
    assert (italian.id, italian.group, italian.text) == ("7:ita", "pmid:7", "Cuore.\n\nSCOPO: Testo & altro.")
    assert (plain.id, plain.text) == ("7:eng", "[Heart.]\n\nIn plain words.")


def test_an_english_abstract_of_a_partner_stands_for_a_missing_one() -> None:
    record = (
        "<PubmedArticle><MedlineCitation><PMID Version='1'>4</PMID><Article><ArticleTitle>A title.</ArticleTitle></Article>"
        "<OtherAbstract Type='{}' Language='eng'><AbstractText>Of the population.</AbstractText></OtherAbstract>"
        "</MedlineCitation></PubmedArticle>"
    )
    for settings in ({}, {"other_languages": ["eng"]}):
        (document,) = read(article_set(record.format("PIP")), **settings)
        assert isinstance(document, Document) and document.text == "A title.\n\nOf the population."
    (dropped,) = read(article_set(record.format("plain-language-summary")))
    assert isinstance(dropped, Dropped)


def test_languages_are_kept_by_rule() -> None:
    content = article_set(ITALIAN.format(version=1))
    assert read(content, languages=["eng"]) == [Dropped("language", "7", 1, 2026_001301)]
    assert isinstance(read(content, languages=["eng", "ita"])[0], Document)
    with pytest.raises(ValidationError):
        source(languages=["English"])


def test_real_other_abstracts(shared_data: Path) -> None:
    path = shared_data / "pubmed" / "medline16n0902.xml.gz"
    settings = source(other_languages=["pol", "fre"])
    records = [r for r in read_citations(read_chunks(path), file=path.name, source=settings) if isinstance(r, Document)]
    others = [r for r in records if ":" in r.id]
    assert len(records) - len(others) == 526 and len(others) == 21
    assert {r.order for r in records} == {2016_000902} and all(r.group == f"pmid:{r.id[:8]}" for r in others)


def test_titles_alone_are_kept_by_rule() -> None:
    title = "<PubmedArticle><MedlineCitation><PMID>5</PMID><Article><ArticleTitle>{}</ArticleTitle></Article></MedlineCitation></PubmedArticle>"
    content = article_set(title.format("Only a title."), title.format("[Not Available]."))
    assert read(content) == [Dropped("no_abstract", "5", 1, 2026_001301)] * 2
    kept, dropped = read(content, title_only="keep")
    assert (
        isinstance(kept, Document)
        and kept.text == "Only a title."
        and dropped == Dropped("no_abstract", "5", 1, 2026_001301)
    )


def test_a_file_that_differs_from_its_checksum(tmp_path: Path) -> None:
    path = tmp_path / "pubmed26n0001.xml.gz"
    path.write_bytes(gzip.compress(article_set(ITALIAN.format(version=1))))
    right = hashlib.md5(path.read_bytes()).hexdigest()
    companion = tmp_path / "pubmed26n0001.xml.gz.md5"
    companion.write_text(f"MD5(pubmed26n0001.xml.gz)= {right}\n")
    assert len(list_units(source(tmp_path))) == 1
    companion.write_text(f"MD5(pubmed26n0001.xml.gz)= {'0' * 32}\n")
    with pytest.raises(SourceError, match=rf"pubmed26n0001.*{right}.*{'0' * 32}.*checksum_mismatch: quarantine"):
        list_units(source(tmp_path))
    lenient = source(tmp_path, checksum_mismatch="quarantine")
    (unit,) = list_units(lenient)
    (record,) = read_unit(lenient, unit)
    assert isinstance(record, Quarantined) and "MD5" in record.reason
    companion.write_text("nothing")
    with pytest.raises(SourceError, match="holds no MD5 sum"):
        list_units(source(tmp_path))


def test_the_scanner_reads_what_lxml_reads_on_every_real_file(shared_data: Path) -> None:
    files = sorted((shared_data / "pubmed").rglob("*.xml*"))
    assert len(files) == 85
    for path in files:
        assert list(scan_records(read_chunks(path))) == list(read_tree(read_chunks(path))), path.name


HARD = (
    ITALIAN.format(version=1),
    "<!-- <PubmedArticle> --><![CDATA[ <PubmedArticle> ]]><?pi <PubmedArticle>?>",
    "<PubmedArticle><MedlineCitation><!-- </PubmedArticle> --><PMID>2</PMID><Article><ArticleTitle><![CDATA[a </PubmedArticle> b]]>"
    "</ArticleTitle></Article></MedlineCitation></PubmedArticle>",
    "<PubmedArticle/>",
    "<PubmedArticle x='a>b'><MedlineCitation y = \"c>d\" >\n<PMID Version = '2' >3</PMID><Article z='/'><ArticleTitle book='1'>T &#x3b1;&#946;"
    "</ArticleTitle><Abstract><AbstractText Label='A &gt; B' /><AbstractText Label=\"P > 0:\">x &unknown; <i>y</i><sup>2</sup> <b x='1'>z</b>"
    "</AbstractText><AbstractText\n>last\u00a0 one</AbstractText ></Abstract><Language>eng</Language><Language>spa</Language></Article></MedlineCitation></PubmedArticle>",
    "<PubmedArticle><MedlineCitation><DateRevised/><PMID>4</PMID><Article><ArticleTitle/><Abstract/></Article></MedlineCitation></PubmedArticle>",
    "<PubmedArticle><MedlineCitation><Note><PMID>9</PMID></Note></MedlineCitation></PubmedArticle>",
    "<PubmedArticle><MedlineCitation><PMID> </PMID></MedlineCitation></PubmedArticle>",
    "<DeleteCitation>\n<PMID>5</PMID>\n<PMID/></DeleteCitation>",
    "<MedlineCitation><PMID>6</PMID></MedlineCitation>",
)


@pytest.mark.parametrize("size", [1, 2, 7, 64, 100_000])
@pytest.mark.parametrize("prolog", ["", "<?xml version='1.0'?>\n<!DOCTYPE PubmedArticleSet SYSTEM 'x.dtd'>\n"])
def test_the_scanner_reads_what_lxml_reads_on_hard_records(size: int, prolog: str) -> None:
    # Without a DTD an unknown entity is damage; with one it stays text.
    content = article_set(*(r if prolog else r.replace("&unknown;", "") for r in HARD), prolog=prolog)
    chunks = [content[i : i + size] for i in range(0, len(content), size)]
    found = list(scan_records(chunks))
    assert found == list(read_tree(chunks))
    assert len(found) == 10


@pytest.mark.parametrize(
    "prolog",
    [
        "<?xml version='1.0' encoding='iso-8859-1'?>",
        "<!DOCTYPE PubmedArticleSet [<!ENTITY e 'grown'>]>",
    ],
)
def test_unusual_files_go_through_lxml(prolog: str) -> None:
    content = article_set(ITALIAN.format(version=1).replace("text.", "t\u00e9xt &#233;."), prolog=prolog)
    content = content.decode().encode("iso-8859-1" if "iso" in prolog else "utf-8")
    (record,) = read(content)
    assert isinstance(record, Document) and record.text == "[Heart.]\n\nEnglish t\u00e9xt \u00e9."


def test_damage_anywhere_never_invents_a_record(shared_data: Path) -> None:
    path = shared_data / "pubmed" / "biopython" / "pubmed2.xml"
    content = path.read_bytes()
    whole = list(scan_records([content]))
    rng = random.Random(5)
    for _ in range(60):
        at = rng.randrange(200, len(content) - 30)
        torn = content[:at] + b"</x><" + content[at + rng.randrange(1, 20) :]
        found = list(scan_records([torn[i : i + 999] for i in range(0, len(torn), 999)]))
        assert found[:-1] == whole[: len(found) - 1] and type(found[-1]).__name__ == "Damage"
        assert "not read" in found[-1].reason  # type: ignore[union-attr]
