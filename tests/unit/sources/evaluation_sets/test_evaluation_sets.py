# ruff: noqa: E501 - records of the formats stay on one line
"""Readers of the evaluation sets' formats: real files where they may lie on the machine, made-up notes for i2b2 and PMC-Patients."""

import json
from pathlib import Path

import pytest
from clinical_modernbert.errors import SourceError
from clinical_modernbert.sources.evaluation_sets import evaluation_texts, i2b2, ner, pmc_patients, rct
from clinical_modernbert.sources.evaluation_sets.ner import AnnotatedText, Span, TaggedSentence


@pytest.mark.parametrize(
    ("path", "abstracts", "sentences"),
    [
        ("rct/evidence_outcomes_rct_dev.txt", 417, 5559),
        ("rct/nicta_piboso/train_clean.txt", 720, 6979),
        ("rct/nicta_piboso/dev_clean.txt", 80, 801),
    ],
)
def test_real_rct_files(shared_data: Path, path: str, abstracts: int, sentences: int) -> None:
    found = list(rct.read_rct(shared_data / path))
    assert (len(found), sum(len(a.sentences) for a in found)) == (abstracts, sentences)
    assert all(len(a.labels) == len(a.sentences) and a.pmid.isdecimal() for a in found)


@pytest.mark.parametrize(
    ("path", "sentences", "entities"),
    [
        ("ner/NCBI-disease-IOB/train.tsv.gz", 5424, 5134),
        ("ner/NCBI-disease-IOB/devel.tsv", 923, 787),
        ("ner/BC5CDR-IOB/devel.tsv.gz", 4581, 5347 + 4246),
        ("ner/JNLPBA/devel.tsv.gz", 1739, 2466 + 1052 + 526 + 400 + 107),
    ],
)
def test_real_conll_files(shared_data: Path, path: str, sentences: int, entities: int) -> None:
    found = list(ner.read_conll(shared_data / path))
    assert len(found) == sentences
    assert sum(tag.startswith("B") for s in found for tag in s.tags) == entities


def test_real_pubtator_files(shared_data: Path) -> None:
    files = ("NCBI-disease-pubtator/NCBItrainset_corpus.txt.gz", "NCBI-disease-pubtator/NCBIdevelopset_corpus.txt")
    assert [len(list(ner.read_pubtator(shared_data / "ner" / f))) for f in files] == [593, 100]
    sample = list(ner.read_pubtator(shared_data / "ner" / "BC5CDR-pubtator" / "CDR_sample.txt"))
    assert len(sample) == 50 and {s.kind for d in sample for s in d.spans} == {"Chemical", "Disease"}


def test_real_brat_archives(shared_data: Path) -> None:
    maccrobat = list(ner.read_brat(shared_data / "ner" / "maccrobat2020_dev.tar.gz"))
    assert len(maccrobat) == 152 and sum(len(d.spans) for d in maccrobat) >= 19_123
    assert len(list(ner.read_brat(shared_data / "rct" / "evidence_outcomes_brat_dev.tar.gz"))) == 488


def test_texts_of_every_real_set(shared_data: Path, tmp_path: Path) -> None:
    assert len(list(evaluation_texts(shared_data / "rct"))) == 417 + 720 + 80 + 488
    # Sentences are joined: alone, those of fewer than 13 words would protect nothing.
    assert [text.count(" ") > 100_000 for text in evaluation_texts(shared_data / "ner" / "BC5CDR-IOB")] == [True, True]
    assert len(list(evaluation_texts(shared_data / "notes" / "aci-bench"))) == 87
    (tmp_path / "x.dat").write_text("a text of no format\n")
    with pytest.raises(SourceError, match=r"x.dat.*not known.*PubMed-RCT"):
        list(evaluation_texts(tmp_path))


@pytest.mark.parametrize(
    ("read", "content", "problem"),
    [
        (rct.read_rct, "###1\nRESULTS no tab\n", "line 2: expected LABEL<TAB>sentence"),
        (rct.read_rct, "RESULTS\tearly\n", "line 1: expected ###PMID"),
        (ner.read_conll, "a\tO\nb\tX-1\n", "line 2: expected token<TAB>tag"),
        (ner.read_pubtator, "1|t|A title\n1|a|Text\n1\t0\t3\tabc\tDisease\tD1\n", "line 3: characters 0-3 are not"),
        (ner.read_pubtator, "1|t|A title\n2\t0\t1\tA\tDisease\tD1\n", "line 2: expected an annotation of the document"),
        (pmc_patients.read_entries, '{"_id": "1", "text": "x"}\n{"_id": 1}\n', 'line 2: expected .*"_id" and a "text"'),
        (pmc_patients.read_qrels, "q\td\tscore\nq\td\n", "line 2: expected query<TAB>document"),
        (pmc_patients.read_patients, "[{]", "line 1: no JSON"),
        (pmc_patients.read_patients, '[{"patient": "x"}]', "record 1: expected patient_uid"),
        (i2b2.read_2006, "<ROOT>\n<RECORD ID='1'/></ROOT>", "line 2: a RECORD without TEXT"),
        (i2b2.read_2006, "<ROOT>", "line 1: broken XML"),
        (i2b2.read_2006, "<ROOT>\nR&D\n\n<RECORD></ROOT>", "line 4: broken XML"),
        (
            i2b2.read_2006,
            "<ROOT>\n<RECORD><TEXT>a</TEXT></RECORD></ROOT>",
            "line 2: expected a RECORD with an ID that no",
        ),
        (rct.read_rct, b"###1\nRESULTS\t\xff\n", "line 2: not UTF-8"),
        (i2b2.read_2006, "<other/>", "expected 'ROOT'"),
    ],
)
def test_bad_input_is_refused_with_file_and_line(tmp_path: Path, read, content: str | bytes, problem: str) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "set.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SourceError, match=rf"set\.txt, {problem}" if problem.startswith(("line", "rec")) else problem):
        list(read(path))


def test_2006_text_touches_its_tags(tmp_path: Path) -> None:
    path = tmp_path / "deid.xml"
    path.write_text(
        '<ROOT><RECORD ID="5"><TEXT>Seen <PHI TYPE="DATE">01/01</PHI>/1995 by <PHI TYPE="DOCTOR">Dr. X</PHI> .</TEXT></RECORD></ROOT>'
    )
    (note,) = i2b2.read_2006(path)
    assert note == AnnotatedText("5", "Seen 01/01/1995 by Dr. X .", (Span(5, 10, "DATE"), Span(19, 24, "DOCTOR")))
    assert list(evaluation_texts(path)) == [note.text]


def test_2010_lines_count_from_one_and_tokens_from_zero(tmp_path: Path) -> None:
    (tmp_path / "concept").mkdir()
    (tmp_path / "a.txt").write_text("Admission note\nHe had Chest  Pain today .\n")
    (tmp_path / "concept" / "a.con").write_text('c="chest pain" 2:2 2:3||t="problem"\n')
    ((name, sentences),) = i2b2.read_2010(tmp_path)
    assert name == "a" and sentences == (
        TaggedSentence(("Admission", "note"), ("O", "O")),
        TaggedSentence(("He", "had", "Chest", "Pain", "today", "."), ("O", "O", "B-problem", "I-problem", "O", "O")),
    )
    assert list(evaluation_texts(tmp_path)) == ["Admission note He had Chest Pain today ."]
    (tmp_path / "concept" / "a.con").write_text('c="chest" 2:3 2:3||t="problem"\n')
    with pytest.raises(SourceError, match=r"a\.con, line 1: line 2, tokens 3-3 of a\.txt are not"):
        list(i2b2.read_2010(tmp_path))


def test_2012_and_2014_offsets(tmp_path: Path) -> None:
    old = tmp_path / "1.xml"
    old.write_text(
        "<ClinicalNarrativeTemporalAnnotation><TEXT><![CDATA[\nGiven aspirin today]]></TEXT><TAGS>"
        '<EVENT id="E0" start="7" end="14" text="aspirin" type="TREATMENT"/><EVENT id="E1" start="1" end="6" text="Given" type="OCCURRENCE"/><EVENT id="E2" start="15" end="20" text="now" type="PROBLEM"/>'
        '<EVENT id="E3" start="15" end="20" text="today" type=" "/><TIMEX3 id="T0" start="15" end="20" text="today" type="DATE"/>'
        '<TLINK id="T" fromID="E0"/></TAGS></ClinicalNarrativeTemporalAnnotation>'
    )
    note = i2b2.read_2012(old)
    assert [(note.text[s.start : s.end], s.kind) for s in note.spans] == [
        ("aspirin", "TREATMENT"),
        ("Given", "OCCURRENCE"),
        ("today", "PROBLEM"),
    ]
    assert note.num_not_as_stated == 1  # "now" for "today"; most are right, so the note is read
    assert note.num_left_out == 2  # a TIMEX3, and an EVENT without a type
    new = tmp_path / "320-03.xml"
    new.write_text(
        "<?xml version='1.0' encoding='UTF-8'?><deIdi2b2><TEXT><![CDATA[Dr. Who came]]></TEXT><TAGS>"
        '<NAME id="P0" start="4" end="7" text="Who" TYPE="DOCTOR" comment=""/></TAGS></deIdi2b2>'
    )
    assert i2b2.read_2014(new).spans == (Span(4, 7, "DOCTOR"),)
    assert sorted(evaluation_texts(tmp_path)) == ["\nGiven aspirin today", "Dr. Who came"]
    new.write_text(new.read_text().replace('start="4"', 'start="5"'))
    with pytest.raises(SourceError, match=r"320-03\.xml, line 1: characters 5-7 are not"):
        i2b2.read_2014(new)


def test_pmc_patients(tmp_path: Path) -> None:
    path = tmp_path / "PMC-Patients.json"
    record = {
        "patient_uid": "7-1",
        "title": "T",
        "patient": "A man.",
        "relevant_articles": {"9": 2},
        "similar_patients": {},
    }
    path.write_text(json.dumps([record]))
    assert list(pmc_patients.read_patients(path)) == [pmc_patients.Patient("7-1", "T", "A man.", (("9", 2),), ())]
    (tmp_path / "corpus.jsonl").write_text('{"_id": "9", "title": "Cases", "text": "Words."}\n')
    (tmp_path / "qrels_test.tsv").write_text("7-1\t9\t2\n")
    assert list(pmc_patients.read_qrels(tmp_path / "qrels_test.tsv")) == [(1, "7-1", "9", 2)]
    assert sorted(evaluation_texts(tmp_path)) == ["A man.", "Cases Words."]


def test_what_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"nowhere does not exist; expected an evaluation set"):
        list(evaluation_texts(tmp_path / "nowhere"))
    with pytest.raises(SourceError, match="holds no evaluation text"):
        list(evaluation_texts(tmp_path))


@pytest.mark.parametrize(
    ("read", "content", "text", "span"),
    [
        (
            i2b2.read_2006,
            '<ROOT><RECORD ID="5"><TEXT>R&D < 5 &amp; <PHI TYPE="DOCTOR">A&B</PHI></TEXT></RECORD></ROOT>',
            "R&D < 5 & A&B",
            Span(10, 13, "DOCTOR"),
        ),
        (
            lambda path: [i2b2.read_2014(path)],
            '<deIdi2b2><TEXT><![CDATA[R&D & A&amp;B]]></TEXT><TAGS><NAME start="6" end="13" text="A & amp B" TYPE="DOCTOR"/></TAGS></deIdi2b2>',
            "R&D & A&amp;B",  # what lies in CDATA is characters already
            Span(6, 13, "DOCTOR"),
        ),
    ],
)
def test_bare_ampersands_and_brackets_are_characters(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    read,  # type: ignore[no-untyped-def]
    content: str,
    text: str,
    span: Span,
) -> None:
    path = tmp_path / "1-01.xml"
    path.write_text(content)
    with caplog.at_level("WARNING"):
        (note,) = read(path)
    assert note.text == text and note.num_not_as_stated <= 1 and note.spans == (span,)
    assert "1-01.xml: " in caplog.text and "are read as characters" in caplog.text
    path.write_text(content.replace("</TEXT>", "</TXT>"))
    with pytest.raises(SourceError, match=r"1-01\.xml, line 1: broken XML"):
        list(read(path))


def test_brat_counts_what_lies_elsewhere_than_stated(tmp_path: Path) -> None:
    (tmp_path / "9.txt").write_text("Acute renal failure, then sepsis.")
    (tmp_path / "9.ann").write_text(
        "T1\tDisease 0 5;12 19\tAcute failure\nT2\tDisease 26 32\tshock\nT3\tDisease 6 11\trenal\nR1\tx Arg1:T1 Arg2:T2\n"
    )
    (note,) = ner.read_brat(tmp_path)
    assert note.num_not_as_stated == 1 and len(note.spans) == 4 and note.num_in_pieces == 1
    (tmp_path / "9.ann").write_text("T1\tDisease 0 20\tAcute renal failure\n")  # a comma too far
    (note,) = ner.read_brat(tmp_path)
    assert note.num_not_as_stated == 1
