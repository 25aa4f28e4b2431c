"""Reports in the store are read and written without a change, and what does not fit is named."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from clinical_modernbert.errors import ArtifactError
from clinical_modernbert.evaluation.report.schema import read_report, report_json
from clinical_modernbert.evaluation.report.text import render

from tests.helpers.reports import full_report, table_4


@pytest.fixture(scope="module")
def stored(repository: Path) -> str:
    """Parts of reports that the code wrote before it had a schema; a change of it would make stored reports unreadable."""
    return (repository / "tests/golden/evaluation_report.json").read_text()


def test_a_stored_report_is_written_as_it_was_read(stored: str) -> None:
    report = read_report(json.loads(stored), called="golden")
    assert json.dumps(report_json(report), indent=1) + "\n" == stored


@pytest.mark.parametrize("omitted", [("tasks",), ("masks",), ("codes", "efficiency"), ("tasks", "codes", "efficiency")])
def test_a_part_that_was_not_requested_is_none_and_is_not_written(stored: str, omitted: tuple[str, ...]) -> None:
    of_part = {
        "tasks": ("encoders", "skipped", "seeds", "num_resamples", "tuning", "statistics", "tasks"),
        "masks": ("model", "other_masks", "rows", "top_k", "masks"),
    }
    keys = [key for part in omitted for key in of_part.get(part, (part,))]
    values = {key: value for key, value in json.loads(stored).items() if key not in keys}
    report = read_report(values, called="golden")
    assert (report.comparison is None, report.table_4 is None) == ("tasks" in omitted, "masks" in omitted)
    assert report_json(report) == values
    assert render(report).startswith("# Evaluation\n")


def test_predictors_are_attributes_of_one_kind(stored: str) -> None:
    table = read_report(json.loads(stored), called="golden").table_4
    assert table is not None
    uniform = table.masks["uniform"]
    assert list(uniform.shares) == ["model", "unigram", "bigram_left", "bigram_right", "bigram_both"]
    assert uniform.baselines == list(uniform.shares)[1:]
    assert set(uniform.shares["model"]) == set(table.keys)


def test_the_reports_of_the_pages_tests_are_reports() -> None:
    for values in (full_report(), table_4()):
        assert report_json(read_report(values, called="made up")) == values


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("tasks", "ehr", "results", 0, "groups"), None, "tasks.ehr.results.0.groups"),
        (("masks", "uniform", "loss"), "none", "masks.uniform.loss"),
        (("codes", "tfidf", "purity"), {"mean": 1.0}, "tfidf.purity.low"),
    ],
)
def test_a_field_that_does_not_fit_is_named(stored: str, path: tuple[str | int, ...], value: Any, said: str) -> None:
    values = copy.deepcopy(json.loads(stored))
    at = values
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    with pytest.raises(ArtifactError, match=f"evaluation/x is not a report of an evaluation: {said}"):
        read_report(values, called="evaluation/x")
