"""Figures 2 and 3 on the evaluation page: the maps of all encoders, the three protocols, and files that are absent or damaged."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clinical_modernbert.artifacts import Store
from streamlit.testing.v1 import AppTest

from tests.helpers.explorer_page import area, charts, opened, tables, words
from tests.helpers.explorer_stores import full_store, replace_file
from tests.helpers.reports import figure_2

__all__ = ["full_store"]
FILE = "evaluation/whole-1/figure2.parquet"
PAGE = "figure2-whole-1"


def whole(app: AppTest, *, mode: str = "clinician") -> AppTest:
    """The page of the evaluation that has everything."""
    opened(app, "views/evaluation.py", mode=mode)
    app.selectbox(key="evaluation").set_value("whole-1").run()
    assert not app.exception
    return app


def headers(app: AppTest) -> list[dict[str, Any]]:
    """What the page says about each map that it sends."""
    sent = [element.proto.bytes for element in app.get("bidi_component") if element.proto.bytes]
    return [json.loads(data[4 : 4 + int.from_bytes(data[:4], "little")]) for data in sent]


def parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


def test_the_maps_of_all_encoders_stand_side_by_side_and_are_linked(app: AppTest, full_store: Store) -> None:
    first, second = headers(whole(app))
    assert "**ours**" in words(app) and "**minilm**" in words(app)
    assert first["link"] == second["link"] and first["name"] != second["name"]
    assert (first["legend"], second["legend"]) == (True, False)
    assert first["count"] == second["count"] == 420
    assert len(first["groups"]) == 21 and first["groups"] == second["groups"]
    assert first["label"].endswith("encoder ours") and second["provenance"][-1] == "encoder minilm"
    assert "Selected group" not in words(app)
    app.session_state[f"{PAGE}-row"] = 41
    # The left half of the second map, where the first five chapters lie; on the first map they lie in the right half.
    half, hidden = [0, 0, 32768, 0, 32768, 65535, 0, 65535], list(range(5, 21))
    app.session_state[f"{PAGE}-area"] = {**area(hidden, half), "map": second["name"]}
    app.run()
    assert not app.exception
    assert "102.01  Diabetic KIDNEY disease (type 2)" in words(app)
    columns = {"code", "description", "chapter_id", "chapter"}
    (listed,) = [table for table in tables(app) if table and set(table[0]) == columns]
    assert 95 <= len(listed) <= 100
    assert {row["chapter_id"] for row in listed} == {f"{100 + c}-{100 + c}" for c in range(5)}


def test_a_sample_of_codes_is_called_one(app: AppTest, full_store: Store) -> None:
    manifest = json.loads(full_store.read_bytes("evaluation/whole-1/manifest.json"))
    manifest["recipe"]["codes"] = {"max_codes": 900}
    full_store.write_bytes("evaluation/whole-1/manifest.json", json.dumps(manifest).encode())
    whole(app, mode="clinician")
    assert "900 codes, drawn at random from the table (`max_codes` of the recipe), k=" in words(app)


def test_an_evaluation_without_the_figures_shows_none(app: AppTest, full_store: Store) -> None:
    opened(app, "views/evaluation.py", mode="researcher")
    app.selectbox(key="evaluation").set_value("masks-1").run()
    assert not app.exception and not app.error
    assert not app.get("bidi_component")
    assert "Figure" not in words(app)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no table at all", "is not a Parquet table"),
        (parquet(figure_2().drop_columns(["chapter"])), "has no column chapter"),
        (parquet(figure_2().drop_columns(["ours y", "minilm x"])), "has no column <encoder> x with its y"),
        (parquet(figure_2().slice(0, 0)), "has no rows"),
        (
            parquet(figure_2().set_column(4, "ours x", pa.array([None, *range(419)], pa.float32()))),
            "column ours x must hold a number for each code",
        ),
        (parquet(figure_2().set_column(5, "ours y", pa.array(["a"] * 420))), "column ours y must hold a number"),
    ],
    ids=["no-table", "no-chapter", "no-places", "empty", "a-gap", "no-number"],
)
def test_a_damaged_file_is_named_and_hides_nothing_else(
    app: AppTest, full_store: Store, content: bytes, said: str
) -> None:
    replace_file(full_store, FILE, content)
    whole(app, mode="researcher")
    assert "damaged" in app.error[0].value
    assert FILE in app.code[0].value and said in app.code[0].value
    assert not app.get("bidi_component")
    assert "Figure 3" in words(app)


def test_a_file_that_was_replaced_is_named(app: AppTest, full_store: Store) -> None:
    full_store.write_bytes(FILE, parquet(figure_2().slice(1)))
    whole(app)
    assert FILE in app.code[0].value and "differs from its manifest" in app.code[0].value


def test_an_evaluation_of_figure_3_alone_has_no_empty_table(app: AppTest, full_store: Store) -> None:
    manifest = json.loads(full_store.read_bytes("evaluation/whole-1/manifest.json"))
    manifest["summary"] |= {"tasks": {}, "statistics": {}}
    full_store.write_bytes("evaluation/whole-1/manifest.json", json.dumps(manifest).encode())
    whole(app, mode="researcher")
    assert "Figure 3" in words(app) and "Table 3" not in words(app)


def test_a_report_that_cannot_be_read_is_named(app: AppTest, full_store: Store) -> None:
    manifest = json.loads(full_store.read_bytes("evaluation/whole-1/manifest.json"))
    del manifest["summary"]["codes"]["tfidf"]["silhouette"]
    full_store.write_bytes("evaluation/whole-1/manifest.json", json.dumps(manifest).encode())
    whole(app)
    assert "evaluation/whole-1 is not a report of an evaluation: tfidf.silhouette" in app.code[0].value


def test_a_report_of_an_earlier_version_is_shown(app: AppTest, full_store: Store, repository: Path) -> None:
    manifest = json.loads(full_store.read_bytes("evaluation/whole-1/manifest.json"))
    manifest["summary"] = json.loads((repository / "tests/golden/evaluation_report.json").read_text())
    full_store.write_bytes("evaluation/whole-1/manifest.json", json.dumps(manifest).encode())
    said = words(whole(app, mode="researcher"))
    assert not app.error
    for part in ("Table 3", "Table 4", "Table 6", "Table 7", "Calibration", "Figure 2", "Figure 3"):
        assert part in said


def test_figure_3_has_a_chart_for_each_protocol(app: AppTest, full_store: Store) -> None:
    whole(app, mode="researcher")
    drawn = [chart for chart in charts(app) if chart.get("encoding", {}).get("x", {}).get("field") == "texts"]
    names = ["as the paper's code", "as the paper's text", "fair, each encoder at its best"]
    assert [f"**{name}**" in words(app) for name in names] == [True] * 3
    assert len(drawn) == 3
    for chart in drawn:
        assert [(row["encoder"], row["texts"], row["seconds"]) for row in chart["rows"]] == [
            ("ours", 100, 1.1), ("ours", 200, 1.1),
        ]  # fmt: skip
    (timed,) = [table for table in tables(app) if table and "slowest" in table[0]]
    assert [row["protocol"] for row in timed] == [name for name in names for _ in range(2)]
    assert (timed[0]["fastest"], timed[0]["slowest"]) == (1.0, 1.2)
    assert timed[0]["texts a second"] == pytest.approx(100 / 1.1)
