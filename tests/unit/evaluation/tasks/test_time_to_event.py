"""An event within a horizon from MEDS events: texts end at the time of prediction, censoring is honest, metrics are the usual."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clinical_modernbert.errors import SourceError
from clinical_modernbert.evaluation.report.calibration import calibration
from clinical_modernbert.evaluation.runs import read_scored, run
from clinical_modernbert.evaluation.tasks import KINDS, load_task, time_to_event
from clinical_modernbert.evaluation.tasks.examples import Splits
from clinical_modernbert.evaluation.tasks.time_to_event import TimedExample, average_precision, harrells_c
from clinical_modernbert.recipe import FineTuneRecipe, ProbeRecipe, RunRecipe
from clinical_modernbert.recipe.tasks import TimeToEventTask
from clinical_modernbert.sources.evaluation_sets.event_horizons import Prediction, read_predictions
from sklearn.metrics import average_precision_score

from tests.helpers.runs import tiny_run_plan
from tests.helpers.tiny import DRUGS

START = datetime(2150, 1, 1, 10)
Row = tuple[int, datetime | None, str, float | None]
TASK = {
    "name": "readmission",
    "type": "time_to_event",
    "path": "meds",
    "predict_at": ["HOSPITAL_DISCHARGE"],
    "event": ["HOSPITAL_ADMISSION"],
}


def write(folder: Path, rows: list[Row]) -> Path:
    columns = dict(zip(("subject_id", "time", "code", "numeric_value"), zip(*rows, strict=True), strict=True))
    (folder / "meds/data").mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({name: list(column) for name, column in columns.items()}), folder / "meds/data/0.parquet")
    return folder


def after(**duration: float) -> datetime:
    return START + timedelta(**duration)


def stay(subject: int, *later: tuple[float, str]) -> list[Row]:
    """A stay of three days that ends at ``START``, and what is recorded ``later`` (days, code)."""
    return [
        (subject, None, "GENDER//F", None),
        (subject, datetime(2100, 1, 1), "MEDS_BIRTH", None),
        (subject, after(days=-3), "HOSPITAL_ADMISSION//URGENT", None),
        (subject, after(minutes=-90), "LAB//50912//mg/dL", 1.5),
        (subject, after(minutes=-20), "LAB//50971//mEq/L", 4.0),
        (subject, START, "HOSPITAL_DISCHARGE//HOME", None),
        *((subject, after(days=days), code, None) for days, code in later),
    ]


def predictions(folder: Path, **fields: Any) -> list[Prediction]:
    return list(read_predictions(folder / "meds", TimeToEventTask.model_validate(TASK | fields)))


ADMISSION = "HOSPITAL_ADMISSION//URGENT"
STAYS = [
    stay(0, (10, ADMISSION), (12, "HOSPITAL_DISCHARGE//HOME")),
    stay(1, (50, ADMISSION)),
    stay(2, (12, "LAB//1//x")),
    stay(3, (100, "LAB//1//x")),
    stay(4, (5, "MEDS_DEATH"), (9, "DRG//470")),
    stay(5, (0, "MEDS_DEATH")),
    stay(6),
    # A record after the death is none of the subject's.
    stay(7, (5, "MEDS_DEATH"), (6, ADMISSION)),
]


def test_what_ends_the_follow_up_of_each_prediction(tmp_path: Path) -> None:
    write(tmp_path, [row for rows in STAYS for row in rows])
    found = {p.id: (p.end, p.days) for p in predictions(tmp_path)}
    assert found == {
        "0-0": ("event", 10),
        "0-1": ("before", 0),
        "1-0": ("event", 50),
        "2-0": ("record", 12),
        "3-0": ("record", 100),
        "4-0": ("death", 5),
        "5-0": ("before", 0),
        "6-0": ("before", 0),
        "7-0": ("death", 5),
    }
    complete = {p.id: (p.end, p.days) for p in predictions(tmp_path, follow_up="complete")}
    assert complete == found | {"0-1": ("record", 30), "2-0": ("record", 30), "6-0": ("record", 30)}
    late = {p.id: (p.end, p.days) for p in predictions(tmp_path, delay_hours=264)}  # 11 days
    assert late["0-0"] == late["4-0"] == ("before", 0) and late["1-0"] == ("event", 39) and late["2-0"] == ("record", 1)
    dead = {p.id: (p.end, p.days) for p in predictions(tmp_path, event=["MEDS_DEATH"])}
    assert dead["4-0"] == ("event", 5) and dead["5-0"] == ("before", 0) and dead["0-0"] == ("record", 12)


def test_a_text_has_the_newest_events_first_and_nothing_after_the_prediction(tmp_path: Path) -> None:
    rows = STAYS[0]
    write(tmp_path, rows)
    whole = (
        "age 50\nGENDER F\n0 min before: HOSPITAL_DISCHARGE HOME\n20 min before: LAB 50971 mEq/L 4\n"
        "1 h before: LAB 50912 mg/dL 1.5\n3 days before: HOSPITAL_ADMISSION URGENT"
    )
    assert [p.text for p in predictions(tmp_path)] == [whole, ""]
    # No event after the time of prediction changes the text, and the one at that time is part of it.
    write(tmp_path, [*rows, (0, after(seconds=1), "LAB//9//x", 7.0), (0, START, "WEIGHT", None)])
    assert predictions(tmp_path)[0].text == whole.replace(
        ": HOSPITAL_DISCHARGE HOME", ": WEIGHT; HOSPITAL_DISCHARGE HOME"
    )
    write(tmp_path, rows)
    assert predictions(tmp_path, max_events=2)[0].text == "\n".join(whole.split("\n")[:4])
    assert predictions(tmp_path, history_days=1)[0].text == "\n".join(whole.split("\n")[:5])
    hidden = predictions(tmp_path, leave_out=["LAB", "GENDER"])[0].text
    assert "LAB" not in hidden and "GENDER" not in hidden and "ADMISSION" in hidden


def test_average_precision_and_c_equal_their_definitions_with_ties_and_weights() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        labels, scores = rng.integers(-1, 2, 60), rng.integers(0, 9, 60) / 9
        days, happened = rng.integers(1, 9, 60).astype(float), rng.random(60) < 0.4
        weights = rng.integers(0, 4, 60).astype(float)
        known = labels >= 0
        assert average_precision(labels, scores, weights) == pytest.approx(
            average_precision_score(labels[known], scores[known], sample_weight=weights[known])
        )
        drawn = np.repeat(np.arange(60), weights.astype(int))
        right = pairs = 0.0
        for a in drawn:
            for b in drawn:
                if happened[a] and (days[a] < days[b] or (days[a] == days[b] and not happened[b])):
                    pairs += 1
                    right += 1.0 if scores[a] > scores[b] else 0.5 * (scores[a] == scores[b])
        assert harrells_c(days, happened, scores, weights) == pytest.approx(right / pairs)
    # Three patients: the event after 2 days, an end of follow-up after 3, the event after 5.
    times = np.array([2.0, 3, 5]), np.array([True, False, True])
    assert harrells_c(*times, np.array([0.9, 0.1, 0.5]), np.ones(3)) == 1
    assert harrells_c(*times, np.array([0.5, 0.9, 0.1]), np.ones(3)) == 0.5
    assert np.isnan(harrells_c(times[0], np.zeros(3, dtype=bool), np.ones(3), np.ones(3)))


@pytest.fixture(scope="module")
def wards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """160 subjects: on one drug most return within 30 days, on another few; every fifth record ends after a week."""
    rng, rows = np.random.default_rng(2), []
    for subject in range(160):
        drug = subject % 2
        rows += [*stay(subject)[:5], (subject, after(hours=-1), f"MEDICATION//{DRUGS[drug]}", None)]
        rows += [(subject, START, "HOSPITAL_DISCHARGE//HOME", None)]
        days = rng.exponential(15 if drug else 150)
        if subject % 5 == 0:
            rows.append((subject, after(days=7), "LAB//1//x", 1.0))
            days = np.inf if days > 7 else days
        rows.append((subject, after(days=400), "LAB//1//x", 1.0) if subject % 5 else rows.pop())
        if np.isfinite(days) and days < 400:
            rows.append((subject, after(days=days), ADMISSION, None))
    return write(tmp_path_factory.mktemp("wards"), rows)


def load(folder: Path, **fields: Any) -> Splits[TimedExample]:
    splits = load_task(TimeToEventTask.model_validate(TASK | fields), str(folder))
    assert isinstance(splits, Splits)
    return splits


def test_censored_examples_are_reported_and_do_not_train(wards: Path) -> None:
    splits = load(wards)
    assert {e.label for e in splits.train + splits.development} == {"event", "no event"}
    censored = [e for e in splits.test if e.label == "censored"]
    assert censored and all(e.days == 7 and not e.happened for e in censored)
    assert int(splits.facts["censored_before_the_horizon"]) > len(censored)
    assert all((e.label == "event") == (e.happened and e.days <= 30) for e in splits.test)
    assert any(e.happened and e.label == "no event" for e in splits.test)


@pytest.mark.parametrize("recipe", [FineTuneRecipe, ProbeRecipe])
def test_an_encoder_ranks_patients_by_risk(
    recipe: type[RunRecipe], wards: Path, encoder_folders: dict[str, Path], tmp_path: Path
) -> None:
    # The tiny encoder reads 64 tokens.
    task = TASK | {"leave_out": ["HOSPITAL_DISCHARGE", "LAB", "GENDER"]}
    plan = tiny_run_plan(recipe, task, encoder_folders["modernbert"], wards, str(tmp_path))
    artifact = run(plan)
    figures = artifact.summary["metrics"]
    assert set(figures) == {"auroc", "auprc", "c_index"} and min(figures.values()) > 0.6
    scored, splits = read_scored(artifact), load(wards, **task)
    known = [e for e in splits.test if e.label != "censored"]
    found = calibration([scored], num_resamples=20)
    assert sum(point.examples for point in found.curve) == len(known) < len(splits.test)
    assert 0 <= found.brier <= 1
    (trivial,) = (b for b in KINDS["time_to_event"].baselines(splits) if b.name.startswith("TF-IDF"))
    assert trivial.scored.figures()["c_index"] > 0.6
    labels = ["no event", "event"]
    outcome = type("Outcome", (), {"labels": labels, "arrays": {"probabilities": scored.values["probabilities"]}})
    analysis = KINDS["time_to_event"].errors(splits, [outcome()], num_resamples=10, shown=False)
    assert sum(bucket.examples for bucket in analysis.by_length or []) == len(known)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"predict_at": ["DISCHARGE"]}, r"meds: no event of predict_at \(DISCHARGE\) that the subject's record"),
        ({"event": ["TRANSPLANT"]}, r"meds: the train part needs examples with and without an event of TRANSPLANT"),
    ],
)
def test_a_task_without_examples_of_both_kinds_is_refused(fields: dict[str, Any], problem: str, wards: Path) -> None:
    with pytest.raises(SourceError, match=problem):
        load(wards, **fields)


def test_a_code_that_tells_the_outcome_is_refused_and_can_be_left_out(wards: Path, tmp_path: Path) -> None:
    table = pq.read_table(wards / "meds/data/0.parquet").to_pylist()
    early = {row["subject_id"] for row in table if row["code"] == ADMISSION and START < row["time"] <= after(days=30)}
    rows: list[Row] = [(row["subject_id"], row["time"], row["code"], row["numeric_value"]) for row in table]
    write(tmp_path, rows + [(subject, after(hours=-2), "NEXT_HADM//77", None) for subject in early])
    with pytest.raises(SourceError, match=r"the texts contain their own label: the presence of '.*next_hadm'"):
        load(tmp_path)
    assert load(tmp_path, leave_out=["NEXT_HADM"]).test == load(wards).test
    assert time_to_event.paths(TimeToEventTask.model_validate(TASK)) == ("meds",)
