"""Groups stay whole in splits, no text contains its label, and words keep their tags through any tokenizer."""

import gzip
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clinical_modernbert.errors import SourceError
from clinical_modernbert.evaluation.tasks import load_task, retrieval, sentence_roles
from clinical_modernbert.evaluation.tasks.annotations import read_annotations
from clinical_modernbert.evaluation.tasks.examples import TextExample, WordExample, make_splits
from clinical_modernbert.evaluation.tasks.leaks import telling_words
from clinical_modernbert.evaluation.tasks.retrieval_sets import RetrievalSet
from clinical_modernbert.evaluation.tasks.windows import complete_tags, encode_words, first_tokens, window_starts
from clinical_modernbert.recipe.tasks import (
    DispositionTask,
    EntitiesTask,
    RetrievalTask,
    SentenceRolesTask,
    SplitSection,
)
from clinical_modernbert.sources.evaluation_sets.ed import read_stays
from clinical_modernbert.sources.evaluation_sets.ed_events import read_hosp_stays, read_meds_stays
from clinical_modernbert.tokenizer import load_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

NCBI = [f"ner/NCBI-disease-pubtator/NCBI{part}" for part in ("trainset_corpus.txt.gz", "developset_corpus.txt")]


def texts(groups: list[int]) -> list[TextExample]:
    return [TextExample(f"{i}", f"g{group}", f"text {i}", "ab"[i % 2]) for i, group in enumerate(groups)]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=60, max_size=120))
def test_no_group_lies_on_two_sides(groups: list[int]) -> None:
    splits = make_splits(texts([*groups, *range(31)]), None, None, section=SplitSection(), facts={})
    sides = [{e.group for e in part} for part in (splits.train, splits.development, splits.test)]
    assert not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]
    assert sum(map(len, (splits.train, splits.development, splits.test))) == len(groups) + 31


def test_a_group_of_the_test_file_leaves_the_training_file_and_is_counted() -> None:
    splits = make_splits(texts([0, 0, 1, 2, 3]), texts([2, 9]), texts([0, 7]), section=SplitSection(), facts={})
    assert {e.group for e in splits.train} == {"g1", "g3"}
    assert splits.facts == {"left_out_of_training_for_their_group": 3}


def test_few_shot_examples_follow_the_seed() -> None:
    splits = make_splits(texts(list(range(40))), None, None, section=SplitSection(), facts={})
    a, b, c = (splits.few(8, seed=seed) for seed in (0, 0, 1))
    assert a == b != c and len(a.train) == 8 and a.test == splits.test


def test_conll_sentences_get_the_documents_they_come_from(shared_data: Path) -> None:
    task = EntitiesTask(name="n", type="entities", format="conll", train="x", documents=tuple(NCBI))
    examples, _ = read_annotations(shared_data / "ner/NCBI-disease-IOB/devel.tsv", task, data=shared_data)
    assert len(examples) == 923 and len({e.group for e in examples}) == 100
    assert all(group.isdecimal() for group in {e.group for e in examples})


def test_a_sentence_of_no_document_is_refused(shared_data: Path) -> None:
    task = EntitiesTask(name="n", type="entities", format="conll", train="x", documents=(NCBI[1],))
    with pytest.raises(
        SourceError, match=r"train.tsv.gz, sentence 1: no document of task.documents continues or starts with it"
    ):
        read_annotations(shared_data / "ner/NCBI-disease-IOB/train.tsv.gz", task, data=shared_data)


def test_spans_become_tags_and_what_is_lost_is_counted(tmp_path: Path) -> None:
    (tmp_path / "9.txt").write_text("Acute renal failure (ARF), then sepsis.")
    (tmp_path / "9.ann").write_text(
        "T1\tDisease 0 19\tAcute renal failure\nT2\tOrgan 6 11\trenal\nT3\tDisease 21 24\tARF\nT4\tDisease 32 36\tseps\n"
    )
    task = EntitiesTask(name="n", type="entities", format="brat", train="x")
    (example,), facts = read_annotations(tmp_path, task, data=tmp_path)
    words = [example.text[a:b] for a, b in example.words]
    assert words == ["Acute", "renal", "failure", "(", "ARF", ")", ",", "then", "sepsis", "."]
    assert example.tags == ("B-Disease", "I-Disease", "I-Disease", "O", "B-Disease", "O", "O", "O", "B-Disease", "O")
    assert facts == {"spans_across_words": 1, "spans_inside_others": 1}


def test_one_type_keeps_borders_and_drops_types(shared_data: Path) -> None:
    task = EntitiesTask(name="n", type="entities", format="conll", train="x", one_type=True)
    examples, facts = read_annotations(shared_data / "ner/BC5CDR-IOB/devel.tsv.gz", task, data=shared_data)
    assert {tag for e in examples for tag in e.tags} == {"O", "B-entity", "I-entity"} and "groups" in facts


@pytest.mark.parametrize("architecture", ["modernbert", "bert"])
def test_each_word_is_judged_once_at_its_first_token(architecture: str, encoder_folders: dict[str, Path]) -> None:
    tokenizer = load_tokenizer(encoder_folders[architecture])
    text = "The patient took warfarin 5 mg daily in the ward; creatinine-clearance was measured. " * 6
    words, at = [], 0
    for word in text.split():
        at = text.index(word, at)
        words.append((at, at + len(word)))
        at += len(word)
    example = WordExample("1", "1", text, tuple(words), ("O",) * len(words))
    windows = encode_words(tokenizer, [example], max_tokens=32, stride=0.5)
    assert len(windows) > 3 and all(len(w.ids) <= 32 for w in windows)
    assert sorted(word for window in windows for word in window.words) == list(range(len(words)))
    whole = encode_words(tokenizer, [example], max_tokens=4096, stride=0.5)[0]
    for window in windows:
        for word, position in zip(window.words, window.positions, strict=True):
            assert window.ids[position] == whole.ids[whole.positions[word]]
            # Far from a border that cuts the document: at least a quarter of the window, but for its two ends.
            inside = window is not windows[0] and window is not windows[-1]
            assert not inside or min(position - 1, len(window.ids) - 2 - position) >= 6


def test_windows_cover_all_and_end_with_the_document() -> None:
    assert window_starts(30, 30, 0.5) == [0]
    assert window_starts(31, 30, 0.5) == [0, 1]
    assert window_starts(100, 30, 0.5) == [0, 15, 30, 45, 60, 70]


def test_words_that_share_a_token_or_have_none() -> None:
    # "5mg" as one token (0-3), then nothing for a control character, then a word of two tokens.
    assert first_tokens([(0, 3), (5, 7), (7, 9)], [(0, 1), (1, 3), (4, 5), (5, 9)]) == [0, -1, -1, 1]
    assert complete_tags(["B-A", None, None, "O", None]) == ["B-A", "I-A", "I-A", "O", "O"]


def test_hosp_stays_say_what_was_known_in_an_hour_and_nothing_after(tmp_path: Path) -> None:
    def table(name: str, *lines: str) -> None:
        with gzip.open(tmp_path / f"{name}.csv.gz", "wt") as stream:
            stream.write("\n".join(lines) + "\n")

    table("patients", "subject_id,gender,anchor_age,anchor_year", "1,F,60,2150", "2,M,50,2150")
    table("d_labitems", "itemid,label", "7,Troponin")
    table(
        "transfers",
        "subject_id,hadm_id,transfer_id,eventtype,intime,outtime",
        "1,900,11,ED,2155-01-01 10:00:00,2155-01-01 20:00:00",
        "1,900,12,admit,2155-01-01 20:00:00,",
        "2,,13,ED,2155-01-01 10:00:00,2155-01-01 12:00:00",
    )
    lab = "subject_id,hadm_id,charttime,storetime,itemid,value,valueuom,flag"
    table(
        "labevents",
        lab,
        "1,900,2155-01-01 10:30:00,2155-01-01 10:50:00,7,0.51,ng/mL,abnormal",
        "1,900,2155-01-01 10:40:00,2155-01-01 11:30:00,7,0.77,ng/mL,",
        "1,900,2155-01-01 11:01:00,2155-01-01 11:02:00,7,0.99,ng/mL,",
        "1,900,2155-01-01 09:59:00,2155-01-01 10:02:00,7,0.33,ng/mL,",
        "2,,2155-01-01 10:10:00,2155-01-01 10:20:00,7,0.01,ng/mL,",
    )
    table("emar", "subject_id,hadm_id,charttime,medication,event_txt", "1,900,2155-01-01 10:20:00,Aspirin,Administered")
    stays = {stay.stay_id: stay for stay in read_hosp_stays(tmp_path, minutes=60)}
    assert {key: stay.outcome.disposition for key, stay in stays.items()} == {"11": "ADMITTED", "13": "HOME"}
    text = stays["11"].text
    assert "woman of 65 years" in text and "Troponin 0.51 ng/mL (abnormal)" in text and "Aspirin" in text
    assert "result pending" in text and not any(value in text for value in ("0.77", "0.99", "0.33", "900", "20:00"))
    assert "Troponin 0.01" in stays["13"].text  # joined without an admission
    table("patients", "subject_id,gender,anchor_age,anchor_year", "1,F,sixty,2150")
    with pytest.raises(SourceError, match=r"patients.csv.gz, line 2: anchor_age and anchor_year must be whole numbers"):
        list(read_hosp_stays(tmp_path, minutes=60))
    table("transfers", "subject_id,hadm_id,transfer_id,eventtype,intime,outtime", "1,900,11,ED,yesterday,")
    with pytest.raises(SourceError, match=r"transfers.csv.gz, line 2: intime is not a time; expected YYYY-MM-DD"):
        list(read_hosp_stays(tmp_path, minutes=60))


def meds_file(path: Path, *, leaking: bool = False) -> None:
    """30 subjects with one stay each; every second is admitted, and only those have ED_REGISTRATION, as in MIMIC.

    In a leaking file a laboratory value, which texts show, has that name.
    """
    rows: list[tuple[int, datetime | None, str, float | None]] = []
    for subject in range(30):
        arrival = datetime(2150, 1, 1 + subject % 28, 10)
        rows += [(subject, datetime(2100, 1, 1), "MEDS_BIRTH", None), (subject, None, "GENDER//F", None)]
        rows += [(subject, arrival, "TRANSFER_TO//ED//Emergency Department", None)]
        rows += [(subject, arrival + timedelta(minutes=59), "LAB//1//mg", 4.5)]
        rows += [(subject, arrival + timedelta(minutes=61), "LAB//2//mg", 9.5)]
        if subject % 2:
            rows += [
                (subject, arrival, "LAB//ED_REGISTRATION" if leaking else "ED_REGISTRATION", None),
                (subject, arrival, "DIAGNOSIS//I21", None),
            ]
            rows += [(subject, arrival + timedelta(hours=7), "HOSPITAL_ADMISSION//EW EMER.", None)]
    names = ("subject_id", "time", "code", "numeric_value")
    columns = zip(names, zip(*rows, strict=True), strict=True)
    pq.write_table(pa.table({name: list(column) for name, column in columns}), path)


MEDS = DispositionTask(name="ehr", type="disposition", format="meds", path="meds.parquet")


def test_meds_stays_see_neither_the_admission_nor_its_registration(tmp_path: Path) -> None:
    meds_file(tmp_path / "meds.parquet")
    stays = list(read_meds_stays(tmp_path / "meds.parquet", minutes=60))
    assert [s.outcome.disposition for s in stays[:4]] == ["HOME", "ADMITTED", "HOME", "ADMITTED"]
    assert {stay.text for stay in stays} == {
        "A woman of 50 years came to the emergency department at 10:00.\nRecorded: at 10:59 LAB 1 mg 4.5."
    }


def test_a_text_that_says_its_label_is_caught() -> None:
    labels = ["admitted"] * 50 + ["not admitted"] * 50
    rng = np.random.default_rng(0)
    honest = [f"pulse {rng.integers(50, 120)} troponin taken" for _ in labels]
    assert telling_words(honest, labels) == []
    leaking = [f"{text} {'hadm_id' if label == 'admitted' else ''}" for text, label in zip(honest, labels, strict=True)]
    assert telling_words(leaking, labels) == ["hadm_id"]
    numbered = [
        f"{text} {rng.integers(10**7, 10**8)}" if label == "admitted" else text
        for text, label in zip(honest, labels, strict=True)
    ]
    assert telling_words(numbered, labels) == ["00000000"]


def test_a_leaking_table_stops_the_task(tmp_path: Path) -> None:
    meds_file(tmp_path / "meds.parquet")
    assert load_task(MEDS, str(tmp_path))
    meds_file(tmp_path / "meds.parquet", leaking=True)
    with pytest.raises(SourceError, match="the texts contain their own label: the presence of 'ed_registration' alone"):
        load_task(MEDS, str(tmp_path))


def test_role_sentences_split_by_abstract_and_limits_keep_groups_whole(shared_data: Path) -> None:
    task = SentenceRolesTask(name="r", type="sentence_roles", train="rct/evidence_outcomes_rct_dev.txt")
    whole = sentence_roles.load(task, shared_data)
    cut = sentence_roles.load(task.model_copy(update={"max_test": 50}), shared_data)
    for group in {e.group for e in cut.test}:
        assert [e for e in cut.test if e.group == group] == [e for e in whole.test if e.group == group]
    assert 50 <= len(cut.test) < 80 and cut.train == whole.train


BEIR = {
    "q.jsonl": '{"_id": "q1", "text": "renal failure"}\n{"_id": "q2", "text": "sepsis"}\n',
    "c.jsonl": '{"_id": "d1", "title": "T", "text": "kidney"}\n{"_id": "d2", "title": "", "text": "shock"}\n',
    "qrels.tsv": "query-id\tcorpus-id\tscore\nq1\td1\t2\nq2\td2\t1\n",
}


def beir(tmp_path: Path, **changes: str) -> RetrievalTask:
    for name, content in {**BEIR, **changes}.items():
        (tmp_path / name).write_text(content)
    return RetrievalTask(
        name="p", type="retrieval", format="beir", queries="q.jsonl", corpus="c.jsonl", qrels="qrels.tsv"
    )


def test_beir_files_become_a_retrieval_set(tmp_path: Path) -> None:
    data = retrieval.load(beir(tmp_path), tmp_path)
    assert data.documents == ["T kidney", "shock"] and data.qrels == {"q1": {"d1": 2}, "q2": {"d2": 1}}


def test_few_shot_pairs_follow_the_seed() -> None:
    pairs = [(f"query {number}", f"document {number}") for number in range(40)]
    data = RetrievalSet([], [], [], [], {}, pairs, pairs[:20], {})
    first, again, other = (data.few(8, seed=seed) for seed in (0, 0, 1))
    assert first.train_pairs == again.train_pairs != other.train_pairs
    assert len(first.train_pairs) == len(first.development_pairs) == 8


def test_a_judgement_of_an_unknown_document_and_a_query_on_both_sides_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"qrels.tsv, line 1: document 'd9' is not in the corpus, as 1 of 1 relevant"):
        load_task(beir(tmp_path, **{"qrels.tsv": "q1\td9\t1\n"}), str(tmp_path))
    # As in ArguAna: it counts as not found.
    data = retrieval.load(beir(tmp_path, **{"qrels.tsv": "q1\td1\t2\nq1\td9\t1\nq2\td2\t1\n"}), tmp_path)
    assert data.qrels["q1"] == {"d1": 2, "d9": 1} and data.facts["relevant_documents_not_in_the_corpus"] == 1
    task = beir(tmp_path).model_copy(update={"train_queries": "q.jsonl", "train_qrels": "qrels.tsv"})
    with pytest.raises(SourceError, match=r"qrels.tsv: query 'q1' is also graded in qrels.tsv"):
        load_task(task, str(tmp_path))


def ed_tables(folder: Path, *, disposition: str, admission: str, outtime: str, title: str, late: str) -> None:
    """One stay of MIMIC-IV-ED with its outcome, and a vital sign and a drug after the first hour."""
    folder.mkdir()
    tables = {
        "edstays": (
            "subject_id,hadm_id,stay_id,intime,outtime,gender,race,arrival_transport,disposition",
            f"1,{admission},5,2150-01-01 10:00:00,{outtime},F,WHITE,AMBULANCE,{disposition}",
        ),
        "triage": (
            "subject_id,stay_id,temperature,heartrate,resprate,o2sat,sbp,dbp,pain,acuity,chiefcomplaint",
            "1,5,98.1,80,16,99,120,70,3,2,Dyspnea",
        ),
        "vitalsign": (
            "subject_id,stay_id,charttime,temperature,heartrate,resprate,o2sat,sbp,dbp,rhythm,pain",
            "1,5,2150-01-01 10:40:00,,82,16,98,118,70,,2",
            f"1,5,2150-01-01 11:40:00,,{late},16,98,118,70,,2",
        ),
        "medrecon": ("subject_id,stay_id,charttime,name,etcdescription", "1,5,2150-01-01 10:20:00,aspirin,NSAID"),
        "pyxis": ("subject_id,stay_id,charttime,name", f"1,5,2150-01-01 12:00:00,drug{late}", "1,5,,undated"),
        "diagnosis": (
            "subject_id,stay_id,seq_num,icd_code,icd_version,icd_title",
            f"1,5,1,I50,10,{title}",
        ),
    }
    for name, lines in tables.items():
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")


def test_the_text_of_a_stay_hangs_on_nothing_that_came_later(tmp_path: Path) -> None:
    home = {"disposition": "HOME", "admission": "", "outtime": "2150-01-01 12:30:00", "title": "COUGH", "late": "61"}
    admitted = {
        "disposition": "ADMITTED",
        "admission": "77",
        "outtime": "2150-01-02 01:00:00",
        "title": "HEART FAILURE",
        "late": "140",
    }
    stays = []
    for name, values in (("home", home), ("admitted", admitted)):
        ed_tables(tmp_path / name, **values)
        stays += list(read_stays(tmp_path / name, minutes=60))
    assert stays[0].text == stays[1].text
    assert "Dyspnea" in stays[0].text and "pulse 82" in stays[0].text and "aspirin" in stays[0].text
    assert "undated" not in stays[0].text and stays[0].outcome != stays[1].outcome
    (whole,) = read_stays(tmp_path / "admitted")
    assert "140" in whole.text  # without minutes the whole stay is said
