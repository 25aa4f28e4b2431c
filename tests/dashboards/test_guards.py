"""Small counts, the audit line, charts' specifications, and a store that refuses."""

import json
import logging
from typing import Any

import pytest
from audit import NO_LOGIN, record, user_name
from hypothesis import given
from hypothesis import strategies as st
from panels.charts import COLOURS
from panels.counts import FLOOR, WITHHELD, shown_counts, withheld_figures, withhold_small
from panels.curves import MOST_POINTS, at_steps, make_curve, smooth, summed, thinned
from panels.evaluation_tasks import fact_in_words
from streamlit.testing.v1 import AppTest

from tests.helpers.explorer_page import charts, opened, tables, words
from tests.helpers.explorer_stores import history
from tests.helpers.s3_server import S3Server


@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 40)))
def test_no_small_count_can_be_worked_out(counts: dict[str, int]) -> None:
    shown, total = withhold_small(counts)
    hidden = {name for name, value in shown.items() if value is None}
    assert all(not 0 < value < FLOOR for value in shown.values() if value is not None)
    assert all(shown[name] == counts[name] for name in counts.keys() - hidden)
    if hidden and total is not None:
        assert len(hidden) > 1
        assert total - sum(value for value in shown.values() if value is not None) >= FLOOR
    if not any(0 < count < FLOOR for count in counts.values()):
        assert (shown, total) == (counts, sum(counts.values()))


def test_figures_of_records_hold_no_small_count_and_name_no_record() -> None:
    shown = withheld_figures(
        {
            "rows": 503, "embedded": 500, "quarantined": 3, "concepts": True, "model": "m-1", "rows_of_parts": [500],
            "quarantine": [{"file": "a.csv", "position": "row 3", "reason": "no text", "id": "MRN-77"}],
            "spans": {"drug": 400, "rare disease": 2}, "sources": {"notes": {"records": 600, "dropped": {"empty": 4}}},
        }
    )  # fmt: skip
    assert "MRN-77" not in json.dumps(shown)
    assert (shown["rows"], shown["embedded"], shown["quarantined"], shown["concepts"]) == (
        WITHHELD,
        500,
        WITHHELD,
        True,
    )
    assert shown["spans"] == {"drug": WITHHELD, "rare disease": WITHHELD}
    assert shown["sources"]["notes"] == {"records": WITHHELD, "dropped": {"empty": WITHHELD}}
    assert withheld_figures({"rows": 500, "embedded": 500, "quarantined": 0})["rows"] == 500


@pytest.mark.parametrize(
    ("fact", "value", "said"),
    [
        ("texts_of_no_split", "3", "withheld"),
        ("test_part", "3 of 500 examples, whole groups", "withheld of 500 examples, whole groups"),
        ("labels", "3", "3"),
        ("texts_of_no_split", "30", "30"),
        ("groups", "the file names no documents", "the file names no documents"),
    ],
)
def test_a_fact_about_few_examples_is_withheld(fact: str, value: str, said: str) -> None:
    assert fact_in_words(fact, value, public=False) == said
    assert fact_in_words(fact, value, public=True) == value


def test_error_groups_of_few_examples_cannot_be_worked_out() -> None:
    def page(public: bool) -> None:
        from types import SimpleNamespace

        from clinical_modernbert.evaluation.report.schema.errors import ErrorAnalysis
        from panels.evaluation_errors import show_errors

        analysis = ErrorAnalysis.model_validate(
            {
                "by_length": [
                    {"words": [0, 9], "examples": 4, "accuracy": 0.5},
                    {"words": [10, 99], "examples": 40, "accuracy": 0.6},
                    {"words": [100, 999], "examples": 60, "accuracy": 0.7},
                ],
                "label_pairs": [
                    {"gold": "a", "predicted": "b", "examples": 3.0},
                    {"gold": "b", "predicted": "a", "examples": 30.5},
                ],
            }
        )
        show_errors(SimpleNamespace(analyses=[("probe", "ours", analysis)]), public=public)  # type: ignore[arg-type]

    pairs, groups = tables(AppTest.from_function(page, kwargs={"public": False}).run())
    assert [row["examples"] for row in pairs] == ["withheld", "30.5"]
    assert [row["group"] for row in groups] == ["100 to 999 words"]
    pairs, groups = tables(AppTest.from_function(page, kwargs={"public": True}).run())
    assert ([row["examples"] for row in pairs], len(groups)) == ([3.0, 30.5], 3)


def test_public_counts_are_shown_whole() -> None:
    assert shown_counts({"a": 1, "b": 50}, public=True) == ({"a": 1, "b": 50}, 51)


def test_the_audit_line_names_who_what_and_when(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        record("reveal", who="ana@example.org", what="embeddings/notes-1/row 17")
    line = json.loads(caplog.records[-1].getMessage())
    assert {name: line[name] for name in ("event", "who", "what")} == {
        "event": "reveal", "who": "ana@example.org", "what": "embeddings/notes-1/row 17",
    }  # fmt: skip
    assert line["time"].endswith("+00:00")


def test_a_line_that_cannot_be_written_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    record("reveal", who="a", what="b")
    (handler,) = [
        h for h in logging.getLogger("clinical_modernbert.audit").handlers if isinstance(h, logging.StreamHandler)
    ]

    class Full:
        def write(self, text: str) -> None:
            raise OSError("no space left")

        def flush(self) -> None: ...

    monkeypatch.setattr(handler, "stream", Full())
    with pytest.raises(OSError, match="no space left"):
        record("reveal", who="a", what="b")


def test_user_name_comes_from_the_login_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EXPLORER_USER_HEADER", raising=False)
    assert user_name({"X-Forwarded-Email": "forged@example.org"}) == NO_LOGIN
    monkeypatch.setenv("EXPLORER_USER_HEADER", "X-Forwarded-Email")
    assert user_name({"X-Forwarded-Email": "ana@example.org"}) == "ana@example.org"
    assert user_name({}) is None
    assert user_name({"X-Forwarded-Email": ""}) is None


def test_without_a_name_no_text_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    def page() -> None:
        from store import reveal

        reveal("corpus/c/sample/s", lambda: "the text")

    monkeypatch.setenv("EXPLORER_USER_HEADER", "X-Forwarded-Email")
    app = AppTest.from_function(page).run()
    assert "the login proxy sent no user name" in app.info[0].value
    assert not app.button
    monkeypatch.delenv("EXPLORER_USER_HEADER")
    app.run()
    app.button[0].click().run()
    assert app.text[0].value == "the text"


def test_signs_in_a_name_are_no_way_into_an_object() -> None:
    def page() -> None:
        from panels.charts import line_chart

        rows = [
            {"optimizer.rate": 1.0, "arm's loss [nats]": 2.0, "s": "a"},
            {"optimizer.rate": 2.0, "arm's loss [nats]": 1.0, "s": "b"},
        ]
        line_chart(rows, x="optimizer.rate", y="arm's loss [nats]", series="s", alt="Loss over rate.")

    app = AppTest.from_function(page).run()
    (chart,) = charts(app)
    assert chart["encoding"]["x"]["field"] == "optimizer\\.rate"
    assert chart["encoding"]["y"]["field"] == "arm\\'s loss \\[nats\\]"
    assert chart["encoding"]["color"]["scale"]["range"] == list(COLOURS[:2])
    dashes = chart["encoding"]["strokeDash"]["scale"]["range"]
    assert dashes[0] != dashes[1]
    assert chart["rows"][1]["optimizer.rate"] == 2.0


def test_every_bar_and_interval_keeps_its_name() -> None:
    """Vega drops labels that overlap unless it is told not to; a line needs about 20 pixels."""

    def page() -> None:
        from panels.charts import bar_chart, interval_chart

        rows = [{"source": f"source {n}", "value": float(n), "arm": "a", "low": None, "high": None} for n in range(30)]
        bar_chart(rows, x="value", y="source", alt="Bars.")
        interval_chart(rows, x="value", y="source", series="arm", alt="Intervals.")

    app = AppTest.from_function(page).run()
    for chart in charts(app):
        encodings = [layer["encoding"] for layer in chart.get("layer", [chart])]
        assert all(encoding["y"]["axis"]["labelOverlap"] is False for encoding in encodings)
        assert chart["height"] >= 70 + 30 * 24


def test_parallel_axes_place_numbers_by_rank_and_names_by_name() -> None:
    def page() -> None:
        from panels.charts import parallel_chart

        rows = [
            {"a.rate": r, "kind": k, "loss": y} for r, k, y in ((1e-3, "x", 3.0), (1e-2, "y", 2.0), (1.0, "x", 4.0))
        ]
        parallel_chart(rows, axes=["a.rate", "kind"], y="loss", alt="Three trials.")

    (chart,) = charts(AppTest.from_function(page).run())
    lines = {line: [row["place"] for row in chart["rows"] if row["line"] == line] for line in "012"}
    assert lines == {"0": [0, 0, 0.5], "1": [0.5, 1, 0], "2": [1, 0, 1]}
    assert chart["encoding"]["x"]["sort"] == ["a.rate", "kind", "loss"]


def test_tokens_and_hours_are_summed_over_steps_that_are_not_recorded_too() -> None:
    steps = [
        {"step": 0, "loss": 9.0, "tokens": 100, "tokens_per_second": None},
        {"step": 4, "loss": 8.0, "tokens": 100, "tokens_per_second": 10.0},
    ]
    assert [(p["tokens_so_far"], p["hours_so_far"]) for p in summed(steps)] == [
        (100, pytest.approx(10 / 3600)),
        (500, pytest.approx(50 / 3600)),
    ]
    held_out = at_steps([{"step": 3}, {"step": 4}, {"step": 9}], summed(steps))
    assert [point["tokens_so_far"] for point in held_out] == [100, 500, 500]
    assert at_steps([{"step": 3}], [])[0]["tokens_so_far"] == 0


def test_smoothing_keeps_a_constant_and_weighs_earlier_values() -> None:
    assert smooth([2.0, 2.0, 2.0], 0.9) == pytest.approx([2, 2, 2])
    assert smooth([0.0, 1.0], 0.5) == pytest.approx([0, 2 / 3])
    assert smooth([5.0, 1.0], 0.0) == [5, 1]


def test_a_curve_keeps_few_points_and_their_mean() -> None:
    points: list[dict[str, Any]] = [{"step": n, "loss": float(n), "mfu": None} for n in range(10 * MOST_POINTS + 3)]
    thin = thinned(points)
    assert len(thin) <= MOST_POINTS
    assert thin[0] == {"step": 10, "loss": pytest.approx(5.0), "mfu": None}
    assert thin[-1]["step"] == points[-1]["step"]
    assert thinned([]) == []
    assert thinned(points[:7]) == points[:7]


def test_a_curve_tells_steps_held_out_figures_and_notes_apart() -> None:
    curve = make_curve("r", history(100, learning_rate=1e-3))
    assert len(curve.steps) == 100
    assert [point["step"] for point in curve.held_out] == [19, 39, 59, 79, 99]
    assert [note.get("rolled_back_to") for note in curve.notes] == [None, 10]
    assert curve.last["step"] == 99
    assert make_curve("r", []).last == {}


@pytest.mark.s3
@pytest.mark.parametrize("page", ["views/corpus.py", "views/runs.py", "views/lineage.py"])
def test_a_key_without_rights_is_said_so(
    app: AppTest, s3_environment: S3Server, monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    import sys

    monkeypatch.setattr(sys, "argv", ["explorer.py", "--root", f"s3://{s3_environment.bucket}/explorer-rights"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    opened(app, page, mode="researcher")
    assert "may not read this" in app.error[0].value
    assert "Ask your administrator" in words(app)
    assert "another" not in words(app)


def test_rights_that_are_lost_later_are_said_so(app: AppTest, store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store opens, and then refuses to list: the page says so, wherever it happens."""
    from clinical_modernbert.artifacts.file_store import FileStore
    from clinical_modernbert.errors import StoreError

    def refused(self: FileStore, prefix: str) -> list[str]:
        raise StoreError(f"{self.uri}: listing {prefix} failed with AccessDenied: Access Denied.")

    monkeypatch.setattr(FileStore, "names", refused)
    opened(app, "views/corpus.py", mode="researcher")
    assert "may not read this" in app.error[0].value
    monkeypatch.setattr(FileStore, "names", lambda self, prefix: (_ for _ in ()).throw(StoreError("it is away")))
    app.run()
    assert "does not answer" in app.error[0].value
