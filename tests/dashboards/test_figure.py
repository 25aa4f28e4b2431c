"""The palette is measured, not believed: apart for colour-blind eyes, and visible on white."""

import itertools

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from views.figure import COLOURS, HOVER_DESCRIPTIONS_MAX, SYMBOLS, base_figure, chapters

from tests.dashboards.conftest import CODES_PER_CHAPTER, NUM_CHAPTERS, code_table

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


def test_colours_stay_apart_for_colour_blind_eyes() -> None:
    for matrix in SEEN_BY.values():
        seen = [lab(matrix @ linear(colour)) for colour in COLOURS]
        assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 25


def test_colours_have_the_contrast_that_graphics_need_on_white() -> None:
    """WCAG 2.2, 1.4.11: 3 to 1."""
    for colour in COLOURS:
        luminance = np.array([0.2126, 0.7152, 0.0722]) @ linear(colour)
        assert 1.05 / (luminance + 0.05) >= 3, colour


def test_more_than_twenty_chapters_have_a_sign_of_their_own() -> None:
    figure = base_figure(code_table(), digest="d")
    signs = {(trace.marker.color, trace.marker.symbol) for trace in figure.data}
    assert len(figure.data) == len(signs) == NUM_CHAPTERS
    assert len(COLOURS) * len(SYMBOLS) >= 40


def test_every_code_is_drawn_once_with_its_row() -> None:
    codes = code_table()
    figure = base_figure(codes, digest="d")
    rows = np.concatenate([trace.customdata for trace in figure.data])
    assert sorted(rows) == list(range(codes.num_rows))
    for trace, (chapter_id, _) in zip(figure.data, chapters(codes), strict=True):
        assert trace.type == "scattergl"
        assert trace.name.startswith(chapter_id)
        assert len(trace.x) == CODES_PER_CHAPTER
        assert {codes["chapter_id"][int(row)].as_py() for row in trace.customdata} == {chapter_id}
        np.testing.assert_array_equal(trace.x, codes["x"].take(pa.array(trace.customdata)).to_numpy())


def test_hover_shows_code_and_description_as_text() -> None:
    figure = base_figure(code_table(), digest="d")
    assert figure.data[0].text[3] == "100.03  Finding 3 of &lt;organ&gt; *0*"


def test_a_very_large_map_sends_codes_alone() -> None:
    codes = pa.concat_tables([code_table()] * (HOVER_DESCRIPTIONS_MAX // code_table().num_rows + 1))
    figure = base_figure(codes, digest="d")
    assert figure.data[0].text[3] == "100.03"
