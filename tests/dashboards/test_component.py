"""What is sent to the browser, and the palette: measured, not believed."""

import itertools
import json
import re
import tomllib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from component import COLOURS, DARK_COLOURS, MOST_GROUPS, SYMBOLS, Labels, encode_points, places, rows_inside
from numpy.typing import NDArray
from panels.map_panel import grouped, make_points, read_area, write_area
from views.code_map import chapters

from tests.helpers.explorer_page import CODES_PER_CHAPTER, DASHBOARDS, NUM_CHAPTERS, code_table

LABELS = Labels(name="m", label="A map", unit="codes", file="f", provenance=("from here",))

# Full dichromacy on linear RGB: Machado, Oliveira and Fernandes 2009, table 1, severity 1.0.
SEEN_BY = {
    "everyone": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}


def linear(colour: str) -> NDArray[np.float64]:
    srgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def lab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """CIELAB under D65 from linear RGB."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ np.clip(rgb, 0, 1) / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("colours", [COLOURS, DARK_COLOURS], ids=["light", "dark"])
def test_colours_stay_apart_for_colour_blind_eyes(colours: tuple[str, ...]) -> None:
    for matrix in SEEN_BY.values():
        seen = [lab(matrix @ linear(colour)) for colour in colours]
        assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 25


def luminance(colour: str) -> float:
    return float(np.array([0.2126, 0.7152, 0.0722]) @ linear(colour))


@pytest.mark.parametrize(("theme", "colours"), [("light", COLOURS), ("dark", DARK_COLOURS)])
def test_colours_have_the_contrast_that_graphics_need(theme: str, colours: tuple[str, ...]) -> None:
    """WCAG 2.2, 1.4.11: 3 to 1, on the page's background."""
    settings = tomllib.loads((DASHBOARDS / ".streamlit" / "config.toml").read_text())["theme"]
    behind = luminance(settings[theme]["backgroundColor"])
    for colour in colours:
        low, high = sorted((luminance(colour), behind))
        assert (high + 0.05) / (low + 0.05) >= 3, colour


def decoded(data: bytes) -> tuple[dict[str, object], NDArray[np.uint16], NDArray[np.uint8]]:
    length = int.from_bytes(data[:4], "little")
    header = json.loads(data[4 : 4 + length])
    split = 4 + length + 4 * header["count"]
    return header, np.frombuffer(data[4 + length : split], "<u2").reshape(-1, 2), np.frombuffer(data[split:], np.uint8)


def test_more_than_forty_groups_have_a_sign_of_their_own() -> None:
    header, _, _ = decoded(
        encode_points(np.zeros((1, 2), np.uint16), np.zeros(1, np.uint8), ["g"] * MOST_GROUPS, LABELS)
    )
    signs = {(group["colour"], group["symbol"]) for group in header["groups"]}  # type: ignore[attr-defined]
    assert len(signs) == MOST_GROUPS == len(COLOURS) * len(SYMBOLS) == 42


def test_more_groups_than_signs_are_refused() -> None:
    with pytest.raises(ValueError, match="43 groups"):
        encode_points(np.zeros((1, 2), np.uint16), np.zeros(1, np.uint8), ["g"] * 43, LABELS)


def test_the_largest_groups_have_colours_of_their_own() -> None:
    """Whatever their names: 69 of 100 codes of ICD-10-CM are in four chapters."""
    groups = np.repeat(np.arange(12), [5, 90, 6, 80, 7, 70, 8, 60, 9, 50, 10, 40]).astype(np.uint8)
    header, _, _ = decoded(
        encode_points(np.zeros((len(groups), 2), np.uint16), groups, [f"g{n}" for n in range(12)], LABELS)
    )
    colours = [group["colour"] for group in header["groups"]]  # type: ignore[attr-defined]
    assert {colours[n] for n in (1, 3, 5, 7, 9, 11)} == set(COLOURS)


def test_names_of_regions_are_placed_on_the_scale_of_the_points() -> None:
    x, y = np.array([0, 10, 4], np.float32), np.array([0, 2, 1], np.float32)
    frame = np.stack([x, y], axis=1)
    assert places(x[2:], y[2:], frame_M2=frame).tolist() == places(x, y)[2:].tolist()


def test_every_code_is_sent_once_with_its_chapter_in_five_bytes() -> None:
    codes = code_table()
    points = make_points(codes, chapters(codes), LABELS)
    header, places_N2, groups_N = decoded(points.data)
    assert header["count"] == codes.num_rows == NUM_CHAPTERS * CODES_PER_CHAPTER
    assert len(header["groups"]) == NUM_CHAPTERS  # type: ignore[arg-type]
    assert groups_N.tolist() == np.repeat(np.arange(NUM_CHAPTERS), CODES_PER_CHAPTER).tolist()
    np.testing.assert_array_equal(places_N2, places(codes["x"].to_numpy(), codes["y"].to_numpy()))
    assert not any(text.encode() in points.data for text in codes["description"].to_pylist())
    length = int.from_bytes(points.data[:4], "little")
    assert len(points.data) == 4 + length + 5 * codes.num_rows
    assert length % 4 == 0  # the browser reads the places as whole numbers of two bytes


def test_places_keep_the_shape_of_the_map() -> None:
    placed = places(np.array([0, 10, 5], np.float32), np.array([2, 2, 7], np.float32)).astype(int)
    assert placed[:2, 0].tolist() == [0, 65535]
    assert (placed[2, 1] - placed[0, 1]) == pytest.approx(65535 / 2, abs=1)
    assert (placed[2, 1] + placed[0, 1]) == pytest.approx(65535, abs=2)
    assert places(np.zeros(2, np.float32), np.zeros(2, np.float32)).tolist() == [[32768, 32768]] * 2


def test_groups_beyond_the_signs_or_below_the_floor_are_put_together() -> None:
    values = pa.chunked_array([[f"g{n:02d}" for n in range(50) for _ in range(60 - n)] + [None] * 3])
    many = grouped(values)
    assert len(many.dictionary) == MOST_GROUPS
    assert many.dictionary.to_pylist()[-1] == "all other groups"
    assert many.dictionary.to_pylist()[:2] == ["g00", "g01"]
    assert sum(value == "all other groups" for value in many.to_pylist()) == sum(60 - n for n in range(41, 50)) + 3
    few = grouped(pa.chunked_array([["a"] * 20 + ["b"] * 3 + ["c"] * 12]), floor=11)
    assert few.dictionary.to_pylist() == ["a", "c", "all other groups"]
    assert grouped(pa.chunked_array([["b", "a"]])).to_pylist() == ["b", "a"]


def test_an_area_holds_what_lies_in_it_and_is_not_hidden() -> None:
    grid = np.stack(np.meshgrid(np.arange(10), np.arange(10)), axis=-1).reshape(-1, 2).astype(np.uint16)
    groups = (grid[:, 0] % 2).astype(np.uint8)
    triangle = [1, 1, 8, 1, 1, 8]
    found = rows_inside(grid, groups, [_area(triangle)])
    x, y = grid[found].T.astype(int)
    assert (x >= 1).all() and (y >= 1).all() and (x + y <= 9).all()
    assert len(found) >= 21
    assert (groups[rows_inside(grid, groups, [_area(triangle, [1])])] == 0).all()
    assert len(rows_inside(grid, groups, [_area([], [0])])) == 50
    # Even-odd: the middle of a pentagram is outside.
    star = [50, 0, 80, 95, 2, 36, 98, 36, 20, 95]
    middle = np.array([[50, 50], [50, 20]], np.uint16)
    assert rows_inside(middle, np.zeros(2, np.uint8), [_area(star)]).tolist() == [1]


def test_a_selection_goes_through_the_address_and_nothing_else_does() -> None:
    first, second = _area([0, 65535, 12, 13, 400, 9], [3, 20]), {**_area([1, 2, 3, 4, 5, 6]), "out": True}
    selection = {"turn": 7, "areas": [first, second, _area([])]}
    word = write_area(selection)
    assert word is not None and re.fullmatch(r"[\w~-]+", word)
    assert read_area(word) == {**selection, "turn": 0}
    assert write_area({"turn": 3}) is None
    for wrong in ("", "?", "AAAA", "zzz", "diabetes", f"{word}~aAAAA", f"~a{word}"):
        assert read_area(wrong) is None


def _area(corners: list[int], hidden: Sequence[int] = ()) -> dict[str, Any]:
    return {"corners": corners, "hidden": list(hidden), "out": False}
