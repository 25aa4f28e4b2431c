"""Each set of ``evaluate/paper`` in its real layout, from files to examples, and what is refused with file and line."""

import gzip
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clinical_modernbert.errors import SourceError
from clinical_modernbert.evaluation.fingerprint_inputs import task_inputs
from clinical_modernbert.evaluation.tasks import KINDS, load_task, main_metric
from clinical_modernbert.evaluation.tasks.examples import Splits, TextExample, WordExample
from clinical_modernbert.evaluation.tasks.retrieval_sets import RetrievalSet
from clinical_modernbert.recipe import EvaluateRecipe, load_recipe
from clinical_modernbert.recipe.tasks import DeidentificationTask, DispositionTask, EntitiesTask, Task
from clinical_modernbert.sources.evaluation_sets.ed_events import read_meds_stays

from tests.helpers.paper_sets import write_paper_sets

MEDS = DispositionTask(name="ehr", type="disposition", format="meds", path="meds")
NAMES = ("subject_id", "time", "code", "numeric_value")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("paper")
    write_paper_sets(folder)
    return folder


@pytest.fixture(scope="module")
def tasks(repository: Path) -> dict[str, Task]:
    recipe = load_recipe(EvaluateRecipe, "evaluate/paper", recipes_path=repository / "jobs/recipes")
    return {task.name: task for task in recipe.tasks}


def texts(task: Task, data: Path) -> Splits[TextExample]:
    splits = load_task(task, str(data))
    assert isinstance(splits, Splits) and isinstance(splits.test[0], TextExample)
    return splits  # type: ignore[return-value]


def words(task: Task, data: Path) -> Splits[WordExample]:
    splits = load_task(task, str(data))
    assert isinstance(splits, Splits) and isinstance(splits.test[0], WordExample)
    return splits  # type: ignore[return-value]


def test_emergency_stays_split_by_patient_and_hide_what_came_with_the_outcome(
    data: Path, tasks: dict[str, Task]
) -> None:
    splits = texts(tasks["ehr"], data)
    parts = [splits.train, splits.development, splits.test]
    assert sum(map(len, parts)) == 80
    groups = [{e.group for e in part} for part in parts]
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
    seen = " ".join(e.text for part in parts for e in part)
    assert "Dyspnea" in seen and "pulse" in seen
    for hidden in ("ADMITTED", "HOME", "HEART FAILURE", "I50", "19:00"):
        assert hidden not in seen
    assert {e.label for e in splits.train} == {"admitted", "not admitted"}


@pytest.mark.parametrize(
    ("table", "line", "problem"),
    [
        ("edstays", "1,,5,yesterday,,F,WHITE,WALK IN,HOME", "line 82: intime is not a time; expected YYYY-MM-DD"),
        (
            "edstays",
            "1,,7,2150-01-01 10:00:00,,F,WHITE,WALK IN,HOME",
            "line 82: expected a subject_id and a stay_id that no",
        ),
        ("edstays", "1,,900", "line 82: 3 columns where the header has 9"),
        ("triage", "1,2", "line 82: 2 columns where the header has 11"),
        ("triage", "1,5,,,,,,,,,", "line 82: the stay_id is there twice"),
        ("vitalsign", "1,5,ten past,,,,,,,,", "line 82: charttime is not a time"),
    ],
)
def test_broken_rows_of_a_stay_are_refused_with_file_and_line(
    data: Path, tasks: dict[str, Task], tmp_path: Path, table: str, line: str, problem: str
) -> None:
    folder = tmp_path / "mimic-iv-ed/ed"
    folder.mkdir(parents=True)
    for path in (data / "mimic-iv-ed/ed").iterdir():
        content = gzip.decompress(path.read_bytes()).decode()
        if path.name == f"{table}.csv.gz":
            content = content.replace(",5,2150", ",805,2150") if "yesterday" in line else content
            content += line + "\n"
        (folder / path.name).write_bytes(gzip.compress(content.encode()))
    with pytest.raises(SourceError, match=rf"^{table}\.csv\.gz, {problem}"):
        load_task(tasks["ehr"], str(tmp_path))


def test_retrieval_takes_its_own_development_queries(data: Path, tasks: dict[str, Task]) -> None:
    found = load_task(tasks["pmc-patients"], str(data))
    assert isinstance(found, RetrievalSet)
    assert (len(found.queries), len(found.train_pairs), len(found.development_pairs)) == (20, 30, 10)
    for query, document in found.train_pairs + found.development_pairs:
        assert query.partition(": ")[2] == document.partition(" ")[2].partition(" ")[2]
    carved = load_task(
        tasks["pmc-patients"].model_copy(update={"development_queries": None, "development_qrels": None}), str(data)
    )
    assert isinstance(carved, RetrievalSet)
    assert (len(carved.train_pairs), len(carved.development_pairs)) == (27, 3)
    assert not set(carved.train_pairs) & set(carved.development_pairs)


def test_a_query_of_two_parts_is_refused(data: Path, tasks: dict[str, Task]) -> None:
    same = {
        "development_queries": "pmc-patients/PPR/train_queries.jsonl",
        "development_qrels": "pmc-patients/PPR/qrels_train.tsv",
    }
    with pytest.raises(SourceError, match=r"qrels_train.tsv: query 'q0' is also graded in .*qrels_train.tsv"):
        load_task(tasks["pmc-patients"].model_copy(update=same), str(data))


@pytest.mark.parametrize(
    ("name", "tag", "words_of"),
    [
        ("medner", "B-entity", 10),
        ("i2b2-2006", "B-DOCTOR", 10),
        ("i2b2-2010", "B-treatment", 12),
        ("i2b2-2012", "B-TREATMENT", 10),
        ("i2b2-2014", "B-DOCTOR", 10),
    ],
)
def test_annotated_sets_become_words_with_tags(
    data: Path, tasks: dict[str, Task], name: str, tag: str, words_of: int
) -> None:
    splits = words(tasks[name], data)
    for example in [*splits.train, *splits.test]:
        assert len(example.words) == len(example.tags) == words_of
        (at,) = [number for number, found in enumerate(example.tags) if found != "O"]
        assert example.tags[at] == tag
        start, end = example.words[at]
        assert example.text[start:end] in ("warfarin", "heparin", "insulin", "furosemide")
    groups = [{e.group for e in part} for part in (splits.train, splits.development, splits.test)]
    assert not groups[0] & groups[2] and not groups[1] & groups[2] and not groups[0] & groups[1]
    if name == "i2b2-2014":
        # A note's name is patient and record: the patient is the group.
        assert all(len(group) == 3 and group.isdecimal() for group in groups[0])


def test_what_both_parts_lose_is_added_up(tmp_path: Path) -> None:
    for part, count in (("train", 12), ("test", 2)):
        (tmp_path / part).mkdir()
        for number in range(count):
            (tmp_path / part / f"{part}{number}.txt").write_text("renal failure and fever")
            (tmp_path / part / f"{part}{number}.ann").write_text("T1\tA 0 13\trenal failure\nT2\tB 0 5\trenal\n")
    task = EntitiesTask(name="n", type="entities", format="brat", train="train", test="test")
    assert words(task, tmp_path).facts["spans_inside_others"] == 14


@pytest.mark.parametrize("source", ["mimic_ed", "mimic_hosp"])
def test_a_column_that_says_the_outcome_stops_the_task(
    data: Path, tasks: dict[str, Task], tmp_path: Path, source: str
) -> None:
    if source == "mimic_ed":
        folder = tmp_path / "mimic-iv-ed/ed"
        folder.mkdir(parents=True)
        for path in (data / "mimic-iv-ed/ed").iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        rows = [line.split(",") for line in gzip.decompress((folder / "edstays.csv.gz").read_bytes()).decode().split()]
        stays = [(row[2], bool(row[1])) for row in rows if row[0].isdecimal()]
        lines = [f"0,{stay},98,80,16,99,120,70,3,2,{'ward bed' if admitted else 'pain'}" for stay, admitted in stays]
        head = "subject_id,stay_id,temperature,heartrate,resprate,o2sat,sbp,dbp,pain,acuity,chiefcomplaint"
        (folder / "triage.csv.gz").write_bytes(gzip.compress("\n".join([head, *lines]).encode()))
        task = tasks["ehr"]
    else:
        tables = {
            "patients": ["subject_id,gender,anchor_age,anchor_year", *(f"{i},F,60,2150" for i in range(40))],
            "d_labitems": ["itemid,label", "7,Troponin", "8,Ward admission screen"],
            "transfers": [
                "subject_id,hadm_id,transfer_id,eventtype,intime,outtime",
                *(f"{i},{i + 100 if i % 2 else ''},{i},ED,2150-01-01 10:00:00,2150-01-01 20:00:00" for i in range(40)),
            ],
            "labevents": [
                "subject_id,charttime,storetime,itemid,value,valueuom,flag",
                *(f"{i},2150-01-01 10:30:00,2150-01-01 10:40:00,{7 + i % 2},1,mg," for i in range(40)),
            ],
            "emar": ["subject_id,charttime,medication,event_txt"],
        }
        for name, lines in tables.items():
            (tmp_path / f"{name}.csv").write_text("\n".join(lines) + "\n")
        task = DispositionTask(name="ehr", type="disposition", format="mimic_hosp", path=".")
    with pytest.raises(SourceError, match="the texts contain their own label: the presence of "):
        load_task(task, str(tmp_path))


def shard(path: Path, subjects: range, **changes: Any) -> None:
    """Write subjects with one stay each; every second is admitted."""
    rows: list[tuple[Any, ...]] = []
    for subject in subjects:
        arrival = datetime(2150, 1, 1 + subject % 28, 10)
        rows += [(subject, None, "GENDER//F", None), (subject, datetime(2100, 1, 1), "MEDS_BIRTH", None)]
        rows += [
            (subject, arrival, "TRANSFER_TO//ED", None),
            (subject, arrival + timedelta(minutes=9), "LAB//1//mg", 4.5),
        ]
        if subject % 2:
            rows += [(subject, arrival + timedelta(hours=7), "HOSPITAL_ADMISSION//EW EMER.", None)]
    columns: dict[str, Any] = {name: list(column) for name, column in zip(NAMES, zip(*rows, strict=True), strict=True)}
    for name, change in changes.items():
        columns[name] = change(columns[name])
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({name: column for name, column in columns.items() if column is not None}), path)


def test_a_meds_data_set_is_a_folder_of_shards(tmp_path: Path) -> None:
    shard(tmp_path / "meds/data/train/0.parquet", range(20))
    shard(tmp_path / "meds/data/held_out/0.parquet", range(20, 40))
    pq.write_table(pa.table({"code": ["x"]}), tmp_path / "meds" / "codes.parquet")  # metadata is no shard
    stays = list(read_meds_stays(tmp_path / "meds", minutes=60))
    assert len(stays) == 40 and [s.outcome.disposition for s in stays[:2]] != ["HOME", "HOME"]
    assert {s.text for s in stays} == {
        "A woman of 50 years came to the emergency department at 10:00.\nRecorded: at 10:09 LAB 1 mg 4.5."
    }
    before = task_inputs(MEDS, str(tmp_path))
    shard(tmp_path / "meds/data/tuning/0.parquet", range(40, 44))
    assert task_inputs(MEDS, str(tmp_path)) != before
    (tmp_path / "meds/metadata").mkdir()
    splits = {"subject_id": list(range(43)), "split": ["train"] * 30 + ["tuning"] * 6 + ["held_out"] * 7}
    pq.write_table(pa.table(splits), tmp_path / "meds/metadata/subject_splits.parquet")
    found = texts(MEDS, tmp_path)
    assert [len(part) for part in (found.train, found.development, found.test)] == [30, 6, 7]
    assert found.facts["split"] == "metadata/subject_splits.parquet" and found.facts["stays_of_no_split"] == 1


@pytest.mark.parametrize(
    ("split", "problem"),
    [
        (
            ["train"] * 30 + ["heldout"] * 10,
            "row 31: expected a subject that no other row has, and one of train, tuning",
        ),
        (["train"] * 30 + ["tuning"] * 10, "no stay of a train or of a held_out subject"),
    ],
)
def test_a_split_that_means_nothing_is_refused(tmp_path: Path, split: list[str], problem: str) -> None:
    shard(tmp_path / "meds/data/0.parquet", range(40))
    (tmp_path / "meds/metadata").mkdir()
    path = tmp_path / "meds/metadata/subject_splits.parquet"
    pq.write_table(pa.table({"subject_id": list(range(40)), "split": split}), path)
    with pytest.raises(SourceError, match=rf"subject_splits.parquet(, |: ){problem}"):
        load_task(MEDS, str(tmp_path))
    pq.write_table(pa.table({"subject_id": [0] * 40, "split": ["train"] * 40}), path)
    with pytest.raises(SourceError, match=r"subject_splits.parquet, row 2: expected a subject that no other row has"):
        load_task(MEDS, str(tmp_path))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"subject_id": lambda column: [*column[:3], None, *column[4:]]}, "data/1.parquet, row 4: subject_id is null"),
        ({"code": lambda column: [*column[:2], None, *column[3:]]}, "data/1.parquet, row 3: code is null"),
        ({"code": lambda column: None}, "data/1.parquet, schema: no column code; MEDS has subject_id, time and code"),
        (
            {"time": lambda column: ["now"] * len(column)},
            "data/1.parquet, schema: time is string; MEDS has timestamps there",
        ),
        ({"numeric_value": lambda column: None}, "data/1.parquet, schema: no column numeric_value"),
        ({"numeric_value": lambda column: ["1"] * len(column)}, "data/1.parquet, schema: numeric_value is string"),
        ({"subject_id": lambda column: [0] * len(column)}, "data/1.parquet: a subject is in data/0.parquet too"),
    ],
)
def test_broken_meds_shards_are_refused_with_file_and_row(
    tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    shard(tmp_path / "meds/data/0.parquet", range(4))
    shard(tmp_path / "meds/data/1.parquet", range(4, 8), **changes)
    with pytest.raises(SourceError, match=rf"^{problem}"):
        list(read_meds_stays(tmp_path / "meds", minutes=60))


def test_a_subject_whose_rows_lie_apart_is_put_together(tmp_path: Path) -> None:
    shard(tmp_path / "one.parquet", range(6))
    table = pq.read_table(tmp_path / "one.parquet")
    pq.write_table(table.take(list(range(0, len(table), 2)) + list(range(1, len(table), 2))), tmp_path / "two.parquet")
    apart = {stay.stay_id: stay for stay in read_meds_stays(tmp_path / "two.parquet", minutes=60)}
    assert apart == {stay.stay_id: stay for stay in read_meds_stays(tmp_path / "one.parquet", minutes=60)}


def test_a_folder_without_shards_is_refused(tmp_path: Path) -> None:
    (tmp_path / "meds/data").mkdir(parents=True)
    with pytest.raises(SourceError, match=r"meds: no .parquet below it; expected a MEDS data set"):
        list(read_meds_stays(tmp_path / "meds", minutes=60))


def test_identifiers_are_read_as_entities_and_summed_up_by_words(tasks: dict[str, Task], data: Path) -> None:
    plain = tasks["i2b2-2014"]
    task = DeidentificationTask.model_validate({**plain.model_dump(), "type": "deidentification"})
    splits = words(task, data)
    assert splits.parts() == words(plain, data).parts()
    nothing, dictionary = KINDS["deidentification"].baselines(splits)
    figures = dictionary.scored.figures()
    assert main_metric("deidentification", figures) == "token_f2"
    assert nothing.scored.figures()["token_recall"] == 0 < figures["token_recall"]
