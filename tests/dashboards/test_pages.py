"""Corpus, runs, sweeps, evaluation and lineage: each with an empty, a damaged and a full store, as Streamlit runs it."""

import json
from pathlib import Path

import pytest
from clinical_modernbert.artifacts import Store
from streamlit.testing.v1 import AppTest

from tests.helpers.explorer_page import EXPLORER, charts, opened, publish_bare, tables, words
from tests.helpers.explorer_stores import (
    SAMPLE,
    full_store,
    publish_corpus,
    publish_sweep,
    publish_vector_sweep,
    search_of,
)

__all__ = ["full_store"]
PAGES = {
    "corpus": "views/corpus.py",
    "runs": "views/runs.py",
    "sweeps": "views/sweeps.py",
    "evaluation": "views/evaluation.py",
    "lineage": "views/lineage.py",
}
EVERY_PAGE = pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)


@EVERY_PAGE
@pytest.mark.parametrize("mode", ["clinician", "researcher"])
def test_every_page_shows_a_full_store(app: AppTest, full_store: Store, page: str, mode: str) -> None:
    opened(app, page, mode=mode)
    assert app.warning[0].value == "Research use, not for care."
    assert not app.error
    assert not app.subheader  # a heading of the third level has no place below one of the first
    if mode == "researcher":
        assert app.dataframe


@EVERY_PAGE
def test_an_empty_store_says_so(app: AppTest, store: Store, page: str) -> None:
    opened(app, page, mode="researcher")
    assert store.uri in app.info[0].value
    assert not app.dataframe and not app.error


@pytest.mark.parametrize(
    ("page", "damaged"),
    [
        ("runs", "model/first-1/history.json"),
        ("sweeps", "sweep/arms-1/curves.json"),
        ("corpus", "corpus/full-1/manifest.json"),
        ("evaluation", "evaluation/whole-1/manifest.json"),
        ("lineage", "evaluation/whole-1/manifest.json"),
    ],
)
def test_what_is_damaged_is_named_and_not_shown(app: AppTest, full_store: Store, page: str, damaged: str) -> None:
    full_store.write_bytes(damaged, b"{}")
    if page == "runs":
        opened(app, PAGES[page], mode="researcher")
        app.multiselect(key="runs").set_value(["first-1"]).run()
    elif page == "sweeps":
        opened(app, PAGES[page], mode="researcher")
        app.selectbox(key="sweep").set_value("arms-1").run()
    else:
        opened(app, PAGES[page], mode="researcher")
    assert not app.exception
    assert "damaged" in app.error[0].value
    assert damaged in app.code[0].value


def test_another_format_version_is_named_and_left_out(app: AppTest, full_store: Store) -> None:
    manifest = json.loads(full_store.read_bytes("sweep/arms-1/manifest.json"))
    full_store.write_bytes("sweep/arms-1/manifest.json", json.dumps({**manifest, "format_version": 0}).encode())
    opened(app, PAGES["sweeps"], mode="researcher")
    assert "another version of the platform wrote them: arms-1" in words(app)
    assert not app.selectbox


def test_small_groups_of_a_hospital_are_withheld_and_cannot_be_worked_out(app: AppTest, full_store: Store) -> None:
    opened(app, PAGES["corpus"], mode="researcher")
    said = tables(app)
    sources = {row["source"]: row for row in said[0]}
    assert sources["abstracts"]["records"] == "615"
    assert sources["abstracts"]["held out"] == "40"
    # 4 too short and 2 quarantined are small; with 30 held-out documents what is missing is no small sum.
    assert [sources["wards"][column] for column in ("train", "held out", "records")] == ["400", "withheld", "556"]
    dropped = {row["reason"].partition(" (")[0]: row for row in said[1]}
    assert dropped["too short"] == {
        "reason": "too short (too_short)", "abstracts": "7", "wards": "withheld", "notes": "0", "all sources": "> 7"
    }  # fmt: skip
    assert dropped["nearly the same text as another"]["wards"] == "70"
    assert [metric.value for metric in app.metric][2] == "> 60"
    everything = json.dumps(said, default=str) + words(app)
    assert "patient-77" not in everything
    assert "row 7" not in everything and "Not shown for wards" in everything  # the lines would count what is withheld
    assert "None" not in everything


def test_what_was_left_out_is_sorted_and_summed(app: AppTest, full_store: Store) -> None:
    opened(app, PAGES["corpus"], mode="clinician")
    left_out = tables(app)[1]
    assert [row["reason"] for row in left_out] == [
        "nearly the same text as another",
        "the same text as another",
        "part of an evaluation set",
        "too short",
        "all reasons",
        "share of the records",
    ]
    assert [row["all sources"] for row in left_out[:5]] == ["70", "60", "58", "> 7", "> 195"]
    assert (left_out[5]["abstracts"], left_out[5]["wards"]) == ("12.2%", "withheld")


def test_a_steward_sees_leaks_languages_identifiers_and_losses(app: AppTest, full_store: Store) -> None:
    opened(app, PAGES["corpus"], mode="clinician")
    _, _, leaks, lengths, languages, identified, kinds, damaged = tables(app)
    assert leaks[0] == {
        "set": "rct", "compared by": "13 words in a row", "texts or ids": 2500, "sequences": 40_000,
        "abstracts": "8", "wards": "50", "notes": "0", "all sources": "58",
    }  # fmt: skip
    assert (leaks[1]["abstracts"], leaks[2]["compared by"]) == ("3", "ids")
    assert lengths
    assert [row["language"] for row in languages] == ["en", "too short to tell"]
    assert languages[1]["wards"] == "30"
    assert identified[1] == {"source": "wards", "documents with identifiers": "41"}
    assert (kinds[0]["kind"], kinds[0]["abstracts"], kinds[0]["wards"]) == ("date", "40", "withheld")
    assert damaged == [
        {
            "source": "wards",
            "quarantined records": "withheld",
            "lost records, estimated": "40",
            "bytes after damage": 34,
        }
    ]


def test_two_corpora_are_shown_side_by_side(app: AppTest, full_store: Store, tmp_path: Path) -> None:
    publish_corpus(full_store, tmp_path / "full", artifact_id="other-1", more=100)
    opened(app, PAGES["corpus"], mode="clinician")
    app.selectbox(key="corpus").set_value("full-1").run()
    app.selectbox(key="corpus-other").set_value("other-1").run()
    assert not app.exception
    pair, differences, *_ = tables(app)
    (trained,) = [row for row in pair if (row["source"], row["what"]) == ("abstracts", "documents to train on")]
    assert (trained["full-1"], trained["other-1"]) == ("500", "600")
    assert differences == [{"field": "seed", "full-1": "0", "other-1": "100"}]
    by_what = {(row["source"], row["what"]): row["full-1"] for row in pair}
    assert by_what["abstracts", "left out for rct"] == "8"
    assert by_what["abstracts", "documents with identifiers"] == "41"
    assert by_what["wards", "lost, estimated"] == "40"
    assert by_what["notes", "language en"] == "300"
    assert "None" not in json.dumps(pair)


def test_a_clinician_sees_no_quarantined_record_and_no_rows(app: AppTest, full_store: Store) -> None:
    opened(app, PAGES["corpus"], mode="clinician")
    assert "Packed rows" not in words(app)
    assert "row 7" not in json.dumps(tables(app), default=str)


def test_a_sample_is_shown_by_a_click_that_is_recorded(
    app: AppTest, full_store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    opened(app, PAGES["corpus"], mode="researcher")
    assert SAMPLE not in words(app)
    with caplog.at_level("DEBUG"):
        app.button(key="reveal corpus/full-1/sample/abstracts").click().run()
        assert SAMPLE in words(app)
        app.run()
    (line,) = [json.loads(r.getMessage()) for r in caplog.records if r.name == "clinical_modernbert.audit"]
    assert line["event"] == "reveal"
    assert line["what"] == "corpus/full-1/sample/abstracts"
    assert line["time"] and line["who"]
    assert SAMPLE not in caplog.text
    app.button(key="hide corpus/full-1/sample/abstracts").click().run()
    assert SAMPLE not in words(app)


def test_table_5_stands_with_intervals_beside_the_reported_one(app: AppTest, full_store: Store) -> None:
    opened(app, PAGES["sweeps"], mode="researcher")
    app.selectbox(key="sweep").set_value("arms-1").run()
    assert not app.exception
    arms, reported, verdicts, differences, *_ = tables(app)
    assert [row["arm"] for row in arms] == ["token-aware (baseline)", "uniform", "broken"]
    assert arms[0]["top-1"] == pytest.approx(0.3, abs=0.01)
    assert reported[0]["top-1"] == 63.31
    assert [(row["arm"], row["verdict"]) for row in verdicts] == [("uniform", "worse")]
    assert 0 < verdicts[0]["p (Holm)"] < 0.05
    assert [row["seed"] for row in differences] == ["seed 0", "seed 1", "seed 2", "mean over seeds"]
    assert all(row["low"] < row["top-1 minus the baseline"] < row["high"] < 0 for row in differences)
    assert "3 of 9 trials failed" in words(app)
    figure_4 = [chart for chart in charts(app) if chart.get("encoding", {}).get("detail")]
    assert {chart["encoding"]["y"]["field"] for chart in figure_4} == {"top-1", "top-5", "top-10", "top-25", "loss"}


def test_a_search_names_its_best_trial(app: AppTest, full_store: Store) -> None:
    opened(app, PAGES["sweeps"], mode="researcher")
    app.selectbox(key="sweep").set_value("search-1").run()
    assert "`optimizer.learning_rate=0.001`, held-out loss 4.0000" in words(app)
    assert [row["held-out loss"] for row in tables(app)[-1]] == [4.0, 4.1, 4.2]


def test_a_search_of_several_fields_has_parallel_axes(app: AppTest, store: Store, tmp_path: Path) -> None:
    publish_corpus(store, tmp_path / "made")
    grid = {"optimizer.learning_rate": [0.001, 0.003], "optimizer.weight_decay": [0.0, 0.01]}
    publish_sweep(store, tmp_path / "made", search_of("grid", grid), trial_names="grid")
    opened(app, PAGES["sweeps"], mode="researcher")
    (parallel,) = (chart for chart in charts(app) if chart["encoding"]["x"].get("field") == "axis")
    assert parallel["encoding"]["x"]["sort"] == [*grid, "held-out loss"]
    assert len({row["line"] for row in parallel["rows"]}) == 4


def test_a_sweep_of_vectors_shows_each_source_of_pairs(app: AppTest, store: Store, tmp_path: Path) -> None:
    publish_vector_sweep(store, tmp_path / "vectors")
    opened(app, PAGES["sweeps"], mode="researcher")
    assert not app.exception and "As reported in the paper" not in words(app)
    assert "crosswalk pairs: 800 pairs of 80 categories" in words(app)
    arms, verdicts, differences, *_, trials = tables(app)
    assert list(arms[0]) == ["arm", "seeds", "recall@1", "recall@10", "MRR", "overrides"]
    assert [(row["arm"], row["verdict"]) for row in verdicts] == [("cold", "better")]
    assert all(row["low"] < row["recall@1 minus the baseline"] < row["high"] for row in differences)
    assert "pairs at each step, number of training pairs, pair set, held-out pairs" in words(app)
    assert trials[0]["held-out recall@1"] > trials[-1]["held-out recall@1"]
    curves = [chart for chart in charts(app) if chart.get("encoding", {}).get("detail")]
    assert [chart["encoding"]["y"]["field"] for chart in curves] == ["recall@1"]
    assert app.code[0].value.startswith("python jobs/contrast.py contrast/demo --set")


def test_ours_stand_beside_reported_figures(app: AppTest, full_store: Store) -> None:
    opened(app, PAGES["evaluation"], mode="researcher")
    app.selectbox(key="evaluation").set_value("whole-1").run()
    assert not app.exception
    said = words(app)
    assert "first guess is right for **39**" in said
    assert "This model is not better than: guess from both neighbours." in said
    table_4 = tables(app)[0]
    assert table_4[-1]["predictor"] == "reported, under its own mask"
    assert table_4[-1]["1"] == pytest.approx(0.6331)
    drawn = json.dumps(charts(app))
    assert '"reported"' in drawn and "0.9769" in drawn
    assert "Table 8: long context" in said and "i2b2/2014 does not exist" in said
    assert "Figure 3" in said and "729 s" in said
    errors = [row for table in tables(app) for row in table if "taken for" in row]
    assert [row["examples"] for row in errors[:2]] == ["40", "withheld"]
    assert [row["examples"] for row in errors[2:4]] == [40, 4]
    assert table_4[-2]["predictor"] == "sibling"
    (private, public, *_) = [
        [row for row in table if row["encoder"] == "ours"]
        for table in tables(app)
        if "figure" in table[0] and "of" in table[0]
    ]
    # Four patients are not shown, nor the 40 from which they follow.
    assert [row["group"] for row in private] == ["entity never"]
    assert [row["of"] for row in public] == [40, 4, 30]
    shares = [row["value"] for table in tables(app) for row in table if row.get("figure") == "share"]
    assert set(shares) == {0.75, 0.25}
    # Chance has its range beside every figure of the codes, not the purity alone.
    for metric in ("purity", "neighbour_agreement", "silhouette"):
        app.session_state["codes-metric"] = metric
        app.run()
        (chance,) = [row for table in tables(app) for row in table if row.get("codes of") == "chance"]
        assert chance["value"] == 0.05 and chance["low"] < 0.05 < chance["high"]


def test_a_clinician_reads_the_evaluation_in_plain_words(app: AppTest, full_store: Store) -> None:
    opened(app, PAGES["evaluation"], mode="clinician")
    app.selectbox(key="evaluation").set_value("whole-1").run()
    said = words(app)
    assert "Tell from the first hours in the emergency department who will be admitted." in said
    assert "Tests over seeds" not in said and "Calibration" not in said and "Figure 3" not in said


def test_only_whole_evaluations_are_listed(app: AppTest, full_store: Store) -> None:
    opened(app, PAGES["evaluation"], mode="researcher")
    assert not any("probe-1" in option for option in app.selectbox(key="evaluation").options)


def test_lineage_goes_up_to_the_sources_and_down_to_what_was_made(app: AppTest, full_store: Store) -> None:
    opened(app, PAGES["lineage"], mode="researcher")
    app.selectbox(key="artifact").set_value("model/first-1").run()
    drawn = app.get("graphviz_chart")[0].proto.spec
    assert '"corpus/full-1" -> "model/first-1";' in drawn
    assert '"wards" -> "corpus/full-1";' in drawn
    app.selectbox(key="artifact").set_value("corpus/full-1").run()
    made = [row for table in tables(app) for row in table if "artifact" in row]
    assert {"artifact": "model/first-1", "when": made[0]["when"], "from": "this content"} in made


def test_lineage_names_no_record_that_could_not_be_read(app: AppTest, full_store: Store) -> None:
    bad = {"file": "a.csv", "position": "row 3", "reason": "no text", "id": "MRN-77"}
    summary: dict[str, object] = {"rows": 503, "embedded": 500, "quarantined": 3, "quarantine": [bad]}
    publish_bare(full_store, "embeddings", "notes-1", inputs=(), recipe={}, summary=summary)
    opened(app, PAGES["lineage"], mode="researcher")
    app.selectbox(key="artifact").set_value("embeddings/notes-1").run()
    assert "MRN-77" not in json.dumps([element.value for element in app.json])
    assert any("not shown: it names records" in element.value for element in app.json)


def test_a_link_or_the_deployment_chooses_the_mode(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    assert app.run().radio(key="mode").value == "clinician"
    linked = AppTest.from_file(EXPLORER, default_timeout=30)
    linked.query_params["mode"] = "researcher"
    assert linked.run().radio(key="mode").value == "researcher"
    monkeypatch.setenv("EXPLORER_MODE", "researcher")
    assert AppTest.from_file(EXPLORER, default_timeout=30).run().radio(key="mode").value == "researcher"
