"""Two maps side by side: what is common, what differs, and the page."""

import json

import numpy as np
import pyarrow as pa
import pytest
from panels.overlap import align, by_chapter, moved_most, present
from streamlit.testing.v1 import AppTest

from tests.helpers.explorer_page import PublishMap, area, code_table, opened, words

PAGE = "views/compare.py"


def changed_table() -> pa.Table:
    """``code_table`` backwards, where code 41 has the codes of chapter 5 near it and all others what they had."""
    codes = code_table()
    near = np.stack(codes["neighbours"].to_numpy(zero_copy_only=False))
    near[41] = np.arange(100, 110)
    order = np.arange(codes.num_rows)[::-1]
    turned = (codes.num_rows - 1 - near)[order]
    moved = codes.take(pa.array(order)).drop_columns(["neighbours"])
    return moved.append_column("neighbours", pa.array(turned.tolist(), pa.list_(pa.int32())))


def test_equal_maps_overlap_whole_whatever_their_order() -> None:
    pair = align(code_table(), changed_table())
    assert pair.complete
    assert pair.second["code"].equals(pair.first["code"])
    assert pair.overlap_N[41] == 0
    assert np.delete(pair.overlap_N, 41).tolist() == [1.0] * 419


def test_what_moved_most_comes_first_with_its_neighbours_in_both() -> None:
    table, rows = moved_most(align(code_table(), changed_table()), most=3)
    assert rows[0] == 41
    first = table.to_pylist()[0]
    assert (first["code"], first["overlap"]) == ("102.01", 0)
    assert first["nearest left"] == "102.02, 102.03, 102.04, 102.05, 102.06"
    assert first["nearest right"] == "105.00, 105.01, 105.02, 105.03, 105.04"


def test_equal_overlaps_are_ordered_by_kind_and_closeness() -> None:
    """Three codes keep none of their neighbours: within the chapter, into another chapter, and into another while closer."""
    first = code_table()
    near = np.stack(first["neighbours"].to_numpy(zero_copy_only=False))
    near[6], near[7] = np.arange(60, 70), np.arange(80, 90)
    near[5] = [*np.setdiff1d(np.arange(20), [*first["neighbours"][5].as_py(), 5]), 40]
    second = first.set_column(
        first.column_names.index("neighbours"), "neighbours", pa.array(near.tolist(), pa.list_(pa.int32()))
    )
    similar = np.stack(first["similarities"].to_numpy(zero_copy_only=False))
    similar[7] += 0.005
    second = second.set_column(
        second.column_names.index("similarities"), "similarities", pa.array(similar.tolist(), pa.list_(pa.float32()))
    )
    table, rows = moved_most(align(first, second), most=4)
    assert rows[:3] == [7, 6, 5]
    assert table["overlap"].to_pylist()[:3] == [0, 0, 0]
    assert table["change of kind"].to_pylist()[:2] == [1, 1]


def test_chapters_have_their_purity_in_both() -> None:
    first, *others = by_chapter(align(code_table(), changed_table())).to_pylist()
    assert first["chapter"].startswith("102-102")
    assert (first["purity left"], first["purity right"]) == (1, pytest.approx(19 / 20))
    assert first["difference"] == pytest.approx(-1 / 20)
    assert all(line["difference"] == 0 and line["overlap"] == 1 for line in others)


def test_codes_of_one_map_alone_are_no_common_neighbours() -> None:
    pair = align(changed_table(), code_table().slice(0, 60))
    assert pair.first.num_rows == 60
    assert not pair.complete
    row = pair.first["code"].to_pylist().index("102.01")
    # What is near it in one map, the other map does not hold.
    assert present(pair.near_first_NK[row]) == []
    assert np.flatnonzero(pair.overlap_N < 1).tolist() == [row]
    assert align(code_table(), code_table().slice(0, 0)).first.num_rows == 0


def test_the_page_needs_two_maps_of_one_table(app: AppTest, publish_map: PublishMap) -> None:
    publish_map()
    opened(app, PAGE)
    assert "two maps of one code table" in words(app)
    assert not app.get("bidi_component")


def test_the_page_links_two_maps_and_names_both(app: AppTest, publish_map: PublishMap) -> None:
    ids = {publish_map(name).manifest.id for name in ("first", "second")}
    opened(app, PAGE)
    assert {box.value for box in app.selectbox if "map" in box.label} == ids
    headers = []
    for element in app.get("bidi_component"):
        if element.proto.bytes:
            length = int.from_bytes(element.proto.bytes[:4], "little")
            headers.append(json.loads(element.proto.bytes[4 : 4 + length]))
    left, right = headers
    assert left["link"] == right["link"] == "compare"
    assert left["name"] != right["name"]
    assert (left["legend"], right["legend"]) == (True, False)
    assert [metric.value for metric in app.metric] == ["90.0%", "90.0%", "100.0%", "420"]
    assert {"left", "right"} <= set(app.query_params)
    app.session_state["compare-row"] = 41
    app.session_state["compare-area"] = area(list(range(5, 21)))
    app.run()
    assert not app.exception
    assert words(app).count("Nearest to 102.01") == 2
    assert "**100 codes**" in words(app)
    assert "area-on" not in app.query_params
    # Corners of the right map: the address says so, and another session hands them to that map alone.
    app.session_state["compare-area"] = {**app.session_state["compare-area"], "map": right["name"]}
    app.run()
    assert app.query_params["area-on"] == "right"
    del app.session_state["compare-area"]
    app.run()
    assert app.session_state["compare-area"]["map"] == right["name"]
    assert "**100 codes**" in words(app)


def test_a_link_to_a_map_that_cannot_be_compared_says_so(app: AppTest, publish_map: PublishMap) -> None:
    first, second = (publish_map(name).manifest.id for name in ("first", "second"))
    other = publish_map("other", table="icd10cm").manifest.id
    app.query_params["left"], app.query_params["right"], app.query_params["area"] = first, other, "AQM"
    opened(app, PAGE)
    assert f"asks for `{other}`, which is the left map, or of another code table" in words(app)
    assert "Nothing is selected" in words(app)
    assert app.selectbox(key="compare-right").value == second
    # A choice of its user is no link.
    app.button(key="compare-absent-close").click().run()
    app.selectbox(key="compare-left").set_value(second).run()
    assert "The link asks" not in words(app)


def test_an_empty_store_says_so(app: AppTest) -> None:
    opened(app, PAGE)
    assert "There is no code map" in app.info[0].value
