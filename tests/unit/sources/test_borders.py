"""What a layout keeps apart stays apart in flat text, and none of it is lost: blocks of PMC's articles and of HTML."""

import re
from itertools import count

import pytest
from clinical_modernbert.recipe.sources import PmcSource
from clinical_modernbert.sources.document import Document
from clinical_modernbert.sources.notes.attachments import html_text
from clinical_modernbert.sources.pmc import read_articles
from hypothesis import given
from hypothesis import strategies as st

LIST = "<list><list-item><label>1</label><p>one</p></list-item><list-item><p>two</p></list-item></list>"
TABLE = "<table-wrap><label>Table 1</label><caption><title>Doses.</title><p>In mg.</p></caption><table>{}</table></table-wrap>"
ROWS = "<tr><td>1</td><td>2</td></tr><tr><td/><td>3<break/>4</td></tr>"
FLOATS = (
    f"<floats-group>{TABLE.format(ROWS)}<fig-group><caption><p>Both.</p></caption><fig><label>F 1</label><caption><p>A scan.</p>"
    "</caption></fig></fig-group><boxed-text><p>Key points</p></boxed-text></floats-group>"
)


def article(
    body: str, *, after: str = "", title: str = "<article-title>T</article-title>", **settings: str
) -> list[str]:
    content = (
        "<article><front><article-meta><article-id pub-id-type='pmc'>9</article-id>"
        f"<title-group>{title}</title-group></article-meta></front><body>{body}</body>{after}</article>"
    )
    source = PmcSource.model_validate({"type": "pmc", "name": "p", "path": "", **settings})
    (document,) = read_articles([content.encode()], file="a", source=source)
    assert isinstance(document, Document)
    return document.text.split("\n")


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        (f"<p>Before {LIST} after.</p>", ["Before", "one", "two", "after."]),
        (f"<p>An <named-content>aside: {LIST}</named-content></p>", ["An aside:", "one", "two"]),
        (f"<statement><title>Rule</title><p>Of {LIST}</p></statement>", ["Rule", "Of", "one", "two"]),
        (f"<disp-quote><p>Said {LIST}</p><attrib>Osler</attrib></disp-quote>", ["Said", "one", "two", "Osler"]),
        ("<def-list><def-item><term>BMI</term><def><p>body mass</p></def></def-item></def-list>", ["BMI", "body mass"]),
        ("<p>See <array><tbody><tr><td>1</td><td>2</td></tr></tbody></array></p>", ["See", "1\t2"]),
        (f"<p>See</p><table>{ROWS}</table>", ["See", "1\t2", "\t3 4"]),
        ("<p>a<disp-formula><label>(1)</label>E=5</disp-formula>7 b</p>", ["a E=5 7 b"]),
        ("<verse-group><verse-line>a b</verse-line><verse-line>c d</verse-line></verse-group>", ["a b", "c d"]),
        ("<sec><title>S</title><p>a\n  b</p><sec><title>Abstract</title><p>c</p></sec></sec>", ["S", "a b", "", "c"]),
    ],
)  # fmt: skip
def test_blocks_of_an_article_are_lines_of_their_own(body: str, lines: list[str]) -> None:
    assert article(body) == ["T", "", *lines]


ELEMENTS = (
    "p",
    "list",
    "term",
    "td",
    "tr",
    "attrib",
    "disp-formula",
    "title",
    "bold",
    "xref",
    "named-content",
    "unknown",
    "sec",
)
TREES = st.recursive(
    st.just("w"),
    lambda inner: st.tuples(st.sampled_from(ELEMENTS), st.lists(inner, max_size=4)).map(
        lambda part: f"<{part[0]}>{''.join(part[1])}</{part[0]}>"
    ),
    max_leaves=20,
)


@given(st.lists(TREES, min_size=1, max_size=4))
def test_every_word_of_a_body_stays_in_its_order_and_no_block_joins_two(trees: list[str]) -> None:
    numbers = count(1)
    body = re.sub(r"(?<![\w-])w(?![\w-])", lambda _: f"w{next(numbers)}.", f"<p>w</p>{''.join(trees)}")
    words = re.findall(r"w\d+\.", body)
    text = "\n".join(article(body))
    assert re.findall(r"w\d+\.", text) == words
    for first, border, second in re.findall(r"(w\d+\.)((?:</?[\w-]+>)+)(?=(w\d+\.))", body):
        if re.search(r"[</](?:p|list|term|tr|attrib|disp-formula|title|sec)>", border):
            assert f"{first}{second}" not in text


def test_tables_and_captions_are_read_also_after_the_text() -> None:
    table, caption = ["Table 1 Doses. In mg.", "1\t2", "\t3 4"], ["Both.", "F 1 A scan."]
    assert article("<p>x</p>", after=FLOATS) == ["T", "", "x", "Key points"]
    assert article("<p>x</p>", after=FLOATS, tables="keep") == ["T", "", "x", *table, "Key points"]
    assert article("<p>x</p>", after=FLOATS, captions="keep") == ["T", "", "x", *caption, "Key points"]
    assert article(f"<p>x {TABLE.format(ROWS)} y</p>", tables="keep") == ["T", "", "x", *table, "y"]
    assert article(f"<p>x {TABLE.format(ROWS)} y</p>") == ["T", "", "x y"]


def test_a_subtitle_belongs_to_the_title() -> None:
    both = "<article-title>On {}</article-title><subtitle>a <italic>trial</italic></subtitle>"
    assert article("<p>x</p>", title=both.format("asthma"))[0] == "On asthma: a trial"
    assert article("<p>x</p>", title=both.format("asthma?"))[0] == "On asthma? a trial"
    assert article("<p>x</p>", title="") == ["x"]


@pytest.mark.parametrize(
    ("markup", "lines"),
    [
        ("<fieldset><legend>Allergies</legend>Penicillin</fieldset>", ["Allergies", "Penicillin"]),
        ("<details><summary>HPI</summary>Pain</details>", ["HPI", "Pain"]),
        ("<select><option>1</option><option>2</option></select>", ["1", "2"]),
        ("<label>Dose</label><input value='5'><textarea>10 mg</textarea>", ["Dose", "10 mg"]),
        ("<figure>Chest<figcaption>PA</figcaption></figure><aside>Note</aside>end", ["Chest", "PA", "Note", "end"]),
        # Of CDA narratives; the second is that of an exporter.
        ("5<footnote>see 7</footnote>", ["5", "see 7"]),
        (
            "<content><content>SPUTUM (87070)</content></content><content>Reason: <b>1</b>.</content>",
            ["SPUTUM (87070) Reason: 1."],
        ),
    ],
)
def test_blocks_of_html_are_lines_of_their_own(markup: str, lines: list[str]) -> None:
    assert html_text(markup).split("\n") == lines
