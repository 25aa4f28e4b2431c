"""The page of runs: figures of finished runs beside each other, and a run while it trains."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from clinical_modernbert.artifacts import Store
from clinical_modernbert.errors import StoreError
from streamlit.testing.v1 import AppTest

from tests.helpers.explorer_page import charts, opened, tables, words
from tests.helpers.explorer_stores import (
    full_store,
    publish_two_phases,
    replace_file,
    write_progress,
)

__all__ = ["full_store"]
_PAGE = "views/runs.py"


def test_runs_are_compared_with_what_their_recipes_differ_in(app: AppTest, full_store: Store) -> None:
    opened(app, _PAGE, mode="researcher")
    app.multiselect(key="runs").set_value(["first-1", "second-1"]).run()
    assert {"field": "optimizer.learning_rate", "first-1": "0.003", "second-1": "0.001"} in tables(app)[-1]
    (loss,) = [
        chart
        for chart in charts(app)
        if chart["encoding"]["y"]["field"] == "training loss, nats" and len(_runs(chart)) > 1
    ]
    assert _runs(loss) == {"first-1", "second-1"}
    for group, field in (
        ("Top-k", "held-out top-25, entity mask"),
        ("Schedules", "mask rate"),
        ("Speed", "tokens a second"),
    ):
        app.segmented_control(key="group").set_value(group).run()
        assert field in [chart["encoding"]["y"]["field"] for chart in charts(app)]
    assert "share of the hardware's peak (MFU)" not in json.dumps(charts(app))
    # Over tokens and hours: 4,096 tokens a step, 5,000 a second.
    app.segmented_control(key="group").set_value("Loss").run()
    for over, title, most in (("tokens", "tokens", 409_600), ("hours", "hours of steps", 409_600 / 5000 / 3600)):
        app.segmented_control(key="over").set_value(over).run()
        drawn = [chart for chart in charts(app) if chart["encoding"]["x"]["title"] == title]
        assert len(drawn) >= 4
        assert max(row[title] for row in drawn[0]["rows"]) == pytest.approx(most)
    rough = _roughness(charts(app)[-4])
    app.slider(key="smoothing").set_value(0.9).run()
    assert _roughness(charts(app)[-4]) < rough
    assert "rolled back to step 10: the loss is no number" in json.dumps(tables(app))


def _roughness(chart: dict[str, Any]) -> float:
    values = [row["training loss, nats"] for row in chart["rows"] if row["run"] == "first-1"]
    return sum(abs(a - b) for a, b in itertools.pairwise(values))


def test_runs_are_filtered_grouped_and_shown_with_fields_of_their_recipes(app: AppTest, full_store: Store) -> None:
    opened(app, _PAGE, mode="researcher")
    app.text_input(key="run-filter").set_value("learning_rate>0.002 st").run()
    assert "1 of 11 runs" in words(app)
    app.multiselect(key="run-columns").set_value(["optimizer.learning_rate"]).run()
    (line,) = next(table for table in tables(app) if table and "held-out loss" in table[0])
    assert (line["run"], line["optimizer.learning_rate"]) == ("first-1", 0.003)
    app.text_input(key="run-filter").set_value("").run()
    app.selectbox(key="run-group").set_value("optimizer.learning_rate").run()
    groups = next(table for table in tables(app) if table and "least of" in table[0])
    assert {(group["optimizer.learning_rate"], group["runs"]) for group in groups} >= {("0.003", 1)}
    app.text_input(key="run-filter").set_value("nothing.here=1").run()
    assert "no field ends with 'nothing.here'" in words(app)


def test_phases_corpora_and_the_causal_loss_of_a_run_are_shown(app: AppTest, full_store: Store, tmp_path: Path) -> None:
    publish_two_phases(full_store, tmp_path / "two")
    opened(app, _PAGE, mode="researcher")
    app.multiselect(key="runs").set_value(["two-1", "first-1"]).run()

    def drawn() -> dict[str, dict[str, Any]]:
        """Title -> chart, of the finished runs: only theirs have the border between the phases."""
        layered = [chart for chart in charts(app) if "layer" in chart]
        return {chart["title"]["text"]: chart for chart in layered}

    causal = drawn()["held-out loss, next tokens, nats"]
    assert [(row["run"], row["step"]) for row in causal["rows"]] == [("two-1", 20), ("two-1", 40)]
    assert [layer["encoding"]["x"].get("datum") for layer in causal["layer"]] == [None, 40]
    assert "where a new phase begins" in words(app)
    (accounts,) = [table for table in tables(app) if table and "tokens read" in table[0]]
    assert [
        (row["run"], row["phase"], row["objective"], row["corpus"], row["tokens read"]) for row in accounts[:3]
    ] == [
        ("two-1", "1", "causal", "full-1", 4000),
        ("two-1", "2", "masked", "full-1", 1500),
        ("two-1", "2", "masked", "more-1", 4500),
    ]

    app.segmented_control(key="group").set_value("Corpora").run()
    app.selectbox(key="finished-figure").set_value("uniform_top1").run()
    found = drawn()
    assert list(found) == [
        "full-1: held-out top-1, uniform mask",
        "more-1: held-out top-1, uniform mask",
        "two-1 on full-1: held-out top-1, uniform mask",
    ]
    of_more = found["more-1: held-out top-1, uniform mask"]["rows"]
    assert [row["more-1: held-out top-1, uniform mask"] for row in of_more] == [0.5] * 5
    assert {row["source"] for row in found["two-1 on full-1: held-out top-1, uniform mask"]["rows"]} == {
        "wards",
        "abstracts",
    }
    app.selectbox(key="finished-figure").set_value("causal_loss").run()
    assert list(drawn()) == ["full-1: held-out loss, next tokens, nats"]


def _runs(chart: dict[str, Any]) -> set[str]:
    return {row["run"] for row in chart["rows"]}


def test_a_run_is_followed_while_it_trains(app: AppTest, full_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(app, _PAGE, mode="researcher")
    assert "step 40 of 200" in words(app)
    assert "about 2 minutes left" in words(app)
    write_progress(full_store, step=60)
    st.cache_resource.clear()  # as it expires after four seconds
    app.run()
    assert "step 60 of 200" in words(app)
    full_store.write_bytes("model/live-1/manifest.json", full_store.read_bytes("model/first-1/manifest.json"))
    st.cache_resource.clear()
    # The list of running models is older than the state of this one.
    monkeypatch.setattr("panels.curves.running_ids", lambda store: ["live-1"])
    app.run()
    assert "has finished" in words(app)


@pytest.mark.parametrize(
    "content",
    [b"", b'{"step": 1', b"{}", b'{"step": 3, "num_steps": 0, "history": []}', b'{"step": 1, "num_steps": 2}'],
)
def test_a_damaged_record_of_one_run_hides_no_other(app: AppTest, full_store: Store, content: bytes) -> None:
    full_store.write_bytes("work/model/live-0/progress.json", content)
    opened(app, _PAGE, mode="researcher")
    assert "step 40 of 200" in words(app)
    assert "Finished" in words(app)
    assert "live-0" in words(app)


@pytest.mark.parametrize("history", [{"step": 1}, [{"loss": 2.0}], [1]])
def test_an_odd_history_of_one_run_hides_no_other(app: AppTest, full_store: Store, history: object) -> None:
    replace_file(full_store, "model/second-1/history.json", json.dumps(history).encode())
    opened(app, _PAGE, mode="researcher")
    app.multiselect(key="runs").set_value(["first-1", "second-1"]).run()
    assert not app.exception
    assert "model/second-1/history.json does not hold a run's history" in words(app)
    assert any(_runs(chart) == {"first-1"} for chart in charts(app) if "run" in (chart["rows"] or [{}])[0])


def test_a_store_that_fails_while_a_run_is_followed_is_said_so(
    app: AppTest, full_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise StoreError("http://store did not answer")

    monkeypatch.setattr("panels.curves.running", fails)
    opened(app, _PAGE, mode="researcher")
    assert "does not answer" in words(app) and "Finished" in words(app)


def test_run_internals_are_for_researchers(app: AppTest, full_store: Store) -> None:
    app.run()
    app.switch_page(_PAGE).run()
    assert "part of researcher mode" in app.info[0].value
    assert not app.dataframe
    app.button[0].click().run()
    assert app.dataframe
    assert app.query_params["mode"] == "researcher"
