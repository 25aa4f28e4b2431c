"""Modules of the map in Node: the browser counts a selection as the server does; hexagons, views and SVG are what they say."""

import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest
from component import COLOURS, Labels, encode_points, rows_inside
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.component_js import run_js

_UNPACK = "const points = unpack(Uint8Array.from(data.bytes)); "


def sent(places: Any, groups: Any, *, unit: str = "codes") -> list[int]:
    labels = Labels(name="m", label="A <map> & more", unit=unit, file="f", provenance=('from "here"', "a < b"))
    names = [f"group <{number}>" for number in range(int(max(groups)) + 1)]
    return list(encode_points(np.asarray(places, np.uint16), np.asarray(groups, np.uint8), names, labels))


AREAS = st.lists(
    st.fixed_dictionaries(
        {
            "corners": st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=6).map(
                lambda some: sum(some, ())
            ),
            "hidden": st.lists(st.integers(0, 2), max_size=2),
            "out": st.booleans(),
        }
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=15, deadline=None)
@given(st.lists(AREAS, min_size=20, max_size=20))
def test_browser_and_server_select_the_same_rows(selections: list[list[dict[str, Any]]]) -> None:
    grid = np.stack(np.meshgrid(np.arange(21), np.arange(21)), axis=-1).reshape(-1, 2)
    groups = np.arange(len(grid)) % 3
    body = _UNPACK + "return data.selections.map((areas) => [...selectedBy(points, areas)]);"
    found = run_js("geometry area", body, {"bytes": sent(grid, groups), "selections": selections})
    for areas, flags in zip(selections, found, strict=True):
        assert np.flatnonzero(flags).tolist() == rows_inside(grid, groups, areas).tolist()


@pytest.mark.parametrize(
    ("before", "how", "outs"),
    [
        (None, "new", [False]),
        (None, "add", [False]),
        (None, "subtract", [False, True]),  # from all that is shown
        (2, "new", [False]),
        (2, "add", [False, False, False]),
        (2, "subtract", [False, False, True]),
        (20, "add", None),
    ],
)
def test_an_area_replaces_adds_or_subtracts(before: int | None, how: str, outs: list[bool] | None) -> None:
    areas = before and [{"corners": [1, 2], "hidden": [], "out": False}] * before
    found = run_js("geometry area", "return withArea(data.areas, [3, 4], [7], data.how);", {"areas": areas, "how": how})
    assert (found and [area["out"] for area in found]) == outs
    if outs:
        assert found[-1] == {"corners": [3, 4], "hidden": [7], "out": how == "subtract"}


def test_the_last_twenty_selections_can_be_undone() -> None:
    body = "const past = makeHistory(); for (let i = 0; i < 25; i++) past.keep([i]); const back = []; "
    body += "while (past.steps) back.push(past.undo()[0]); return back;"
    assert run_js("geometry area", body, None) == list(range(24, 4, -1))


def test_hexagons_count_each_shown_point_once_in_the_nearest_middle() -> None:
    rng = np.random.default_rng(0)
    places, groups = rng.integers(0, 65536, (2000, 2)), rng.integers(0, 3, 2000)
    body = _UNPACK + "const all = [0, 0, 65535, 65535]; const flags = points.groups.map((_, i) => i % 2); "
    body += "const of = (hidden, flags) => hexagons(points, { radius: 3000, hidden: new Set(hidden), flags, within: all }); "
    body += "return [of([], null), of([1], null), of([], flags)];"
    whole, some, flagged = run_js("geometry density", body, {"bytes": sent(places, groups)})
    assert sum(one["count"] for one in whole) == 2000
    assert sum(one["count"] for one in some) == (groups != 1).sum()
    assert sum(one["count"] for one in flagged) == 1000
    middles = np.array([(one["x"], one["y"]) for one in whole])
    distance = np.linalg.norm(places[:, None] - middles[None], axis=2)
    assert np.bincount(distance.argmin(axis=1), minlength=len(whole)).tolist() == [one["count"] for one in whole]
    assert distance.min(axis=1).max() <= 3000


def test_a_view_shows_what_was_found_and_comes_back_unless_it_was_moved() -> None:
    body = """
const moved = []; const view = makeView(() => moved.push(1));
view.resize(800, 600, 1);
const whole = [view.x, view.y, view.zoom];
view.fitTo(data.places, [0, 1]);
const seen = [0, 1].map((row) => view.onScreen(data.places[2 * row], data.places[2 * row + 1])).flat(), close = view.zoom;
view.back();
const back = [view.x, view.y, view.zoom];
view.fitTo(data.places, [0, 1]);
view.pan(10, 0);
const panned = view.x;
view.back();
while (view.zoomBy(2)) {}
return { whole, seen, close, back, kept: view.x === panned, most: view.zoom, still: view.zoomBy(2) };"""
    found = run_js("geometry view", body, {"places": [30000, 30000, 31000, 30500, 60000, 60000]})
    assert found["whole"] == found["back"] == [32768, 32768, 1]
    assert all(0 < found["seen"][axis] < limit for axis, limit in ((0, 800), (1, 600), (2, 800), (3, 600)))
    assert found["close"] > 5
    assert found["kept"]
    assert (round(found["most"]), found["still"]) == (200, False)


def svg(**settings: Any) -> ET.Element:
    data = {"bytes": sent([[0, 0], [65535, 65535], [100, 100]], [0, 1, 0]), **settings}
    body = (
        _UNPACK
        + """
const view = { x: 32768, y: 32768, scale: 400 / 65536, size: 9 };
const looks = looksOf(points.header.groups, new Set(data.hidden ?? []), LIGHT);
const names = [{ text: "Eye & <ear>", x: 10, y: 20, level: 0 }];
const all = { radius: HEXAGON / view.scale, hidden: new Set(), flags: null, within: [0, 0, 65535, 65535] };
const hexes = data.dense ? hexagons(points, all) : null;
const flags = data.flags && Uint8Array.from(data.flags);
return svgOf({ points, header: points.header, looks, view, width: 500, height: 400, flags, hexes, names, rings: [[5, 6]] });"""
    )
    return ET.fromstring(run_js("geometry view theme draw density labels vector", body, data))


def test_an_svg_holds_points_names_legend_and_provenance() -> None:
    root, at = svg(), "{http://www.w3.org/2000/svg}"
    assert len(root.findall(f".//{at}use")) == 3
    texts = [text.text for text in root.iter(f"{at}text")]
    assert {"Eye & <ear>", "group <0>", "group <1>", 'from "here"', "a < b"} <= set(texts)
    assert root.findtext(f"{at}title") == "A <map> & more"
    assert {group.get("fill") for group in root.iter(f"{at}g")} >= set(COLOURS[:2])
    assert len(list(root.iter(f"{at}circle"))) == 1
    assert len(svg(hidden=[0]).findall(f".//{at}use")) == 1
    faint = [group.get("opacity") for group in svg(flags=[1, 0, 0]).iter(f"{at}g") if group.get("opacity")]
    assert faint == ["0.1", "0.1", "0.8"]
    dense = svg(dense=True)
    assert not dense.findall(f".//{at}use") and len(dense.findall(f"{at}g/{at}path")) == 2
