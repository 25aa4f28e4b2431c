"""Powers and fractions keep their values in the texts of PubMed and PMC, by the scanner as by lxml."""

import pytest
from clinical_modernbert.recipe.sources import PmcSource, PubMedSource
from clinical_modernbert.sources.document import Document
from clinical_modernbert.sources.pmc import read_articles
from clinical_modernbert.sources.pubmed import read_citations
from clinical_modernbert.sources.pubmed.scan import read_tree, scan_records

M = "<m:math xmlns:m='http://www.w3.org/1998/Math/MathML'>{}</m:math>"
CASES = [
    ("2.5 x 10<sup>18</sup>cm<sup>-3</sup>", "2.5 x 10^18cm-3"),
    ("10<sup>9</sup>/L and 10<sup>\u22126</sup> M", "10^9/L and 10^\u22126 M"),
    ("m<sup>2</sup>, Ca<sup>2+</sup>, CO<sub>2</sub>, <sup>18</sup>F", "m2, Ca2+, CO2, 18F"),
    ("log<sub>10</sub>2 and 5<sub>1</sub>", "log10 2 and 5_1"),
    ("10<sup><i>9</i></sup> cells", "10^9 cells"),
    (f"about {M.format('<m:mfrac><m:mn>1</m:mn><m:mn>2</m:mn></m:mfrac>')} of", "about 1/2 of"),
    (f"{M.format('<m:msup><m:mn>10</m:mn><m:mn>6</m:mn></m:msup>')} cells", "10^6 cells"),
    ("SO<sub>4</sub><sup>2-</sup> and x<sup>2</sup><sub>1</sub>", "SO4^2- and x2_1"),
    ("10<sup>.5</sup> of 10<sup>9</sup>-10<sup>10</sup>", "10^.5 of 10^9-10^10"),
    ("1<sup>1</sup>/<sub>2</sub> tablets", "1 1/2 tablets"),
    *(
        (f"is {M.format(math)} mg", f"is {flat} mg")
        for math, flat in (
            ("<m:msubsup><m:mi>x</m:mi><m:mn>1</m:mn><m:mn>2</m:mn></m:msubsup>", "x1^2"),
            ("<m:munderover><m:mo>\u2211</m:mo><m:mn>1</m:mn><m:mn>10</m:mn></m:munderover>", "\u22111^10"),
            ("<m:mn>2</m:mn><m:mfrac><m:mn>1</m:mn><m:mn>2</m:mn></m:mfrac><m:mn>3</m:mn>", "2 1/2 3"),
            (
                "<m:mtable><m:mtr><m:mtd>1</m:mtd><m:mtd>2</m:mtd></m:mtr><m:mtr><m:mtd>3</m:mtd></m:mtr></m:mtable>",
                "1 2 3",
            ),
            ("<m:mn>2</m:mn><m:mfenced><m:mn>3</m:mn><m:mn>4</m:mn></m:mfenced>", "2(3,4)"),
            (
                "<m:mn>2</m:mn><m:mfenced open='' close='' separators=''><m:mn>3</m:mn></m:mfenced><m:mn>4</m:mn>",
                "2 3 4",
            ),
            ("<m:msqrt><m:mn>2</m:mn></m:msqrt><m:mroot><m:mn>8</m:mn><m:mn>3</m:mn></m:mroot>", "\u221a2\u221a8 3"),
            ("<m:mn>3</m:mn><m:mspace/><m:mn>4</m:mn>", "3 4"),
            ("<m:semantics><m:mn>5</m:mn><m:annotation>MathType@MTEF@5@5@+=fea</m:annotation></m:semantics>", "5"),
        )
    ),
    ("Age <b>30</b><b>Final Diagnosis</b>", "Age 30 Final Diagnosis"),
]


@pytest.mark.parametrize(("markup", "flat"), CASES)
def test_pubmed(markup: str, flat: str) -> None:
    content = (
        "<PubmedArticleSet><PubmedArticle><MedlineCitation><PMID Version='1'>1</PMID><Article><ArticleTitle>T.</ArticleTitle>"
        f"<Abstract><AbstractText>{markup}</AbstractText></Abstract></Article></MedlineCitation></PubmedArticle></PubmedArticleSet>"
    ).encode()
    assert list(scan_records([content])) == list(read_tree([content]))
    source = PubMedSource(type="pubmed", name="s", path="")
    (document,) = read_citations([content], file="f.xml", source=source)
    assert isinstance(document, Document) and document.text == f"T.\n\n{flat}"


@pytest.mark.parametrize(("markup", "flat"), CASES[:-1])
def test_pmc(markup: str, flat: str) -> None:
    content = (
        "<article><front><article-meta><article-id pub-id-type='pmc'>9</article-id></article-meta></front><body>"
        f"<p>{markup}</p></body></article>"
    )
    (document,) = read_articles([content.encode()], file="a", source=PmcSource(type="pmc", name="p", path=""))
    assert isinstance(document, Document) and document.text == flat
