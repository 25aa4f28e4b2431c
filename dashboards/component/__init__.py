"""The map in the browser. Points are sent once as bytes, then only marks, texts and areas; row numbers and corners come back.

``encode_points`` makes the bytes (five a point), ``point_map`` shows them and ``companion`` adds what changes. Both are Streamlit
components of plain JavaScript in this folder: no build step, nothing from other hosts, WebGL 2 or a plain canvas.
"""

import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import streamlit as st
from numpy.typing import NDArray

_FOLDER = Path(__file__).parent
SIDE = 65536

# Six colours that colour-blind users can tell apart and that have contrast on white, and six for a dark page
# (tests/dashboards/test_component.py measures both), times seven symbols: 42 groups each have their own mark.
COLOURS = ("#2080C0", "#E06000", "#00A080", "#000000", "#7030D0", "#802000")
DARK_COLOURS = ("#00B8FC", "#FCDC00", "#587070", "#FFFFFF", "#3458FC", "#C44400")
SYMBOLS = ("circle", "x", "triangle-up", "square-open", "cross", "diamond", "star")
MOST_GROUPS = len(COLOURS) * len(SYMBOLS)


Area = dict[str, Any]
"""A selection as the browser sends and reads it: ``turn``, and ``areas`` one after another.

Each has ``corners``, ``hidden`` groups and ``out``: whether its points are taken from the selection or added to it.
"""


@dataclass(frozen=True, slots=True)
class Mark:
    """Rows that are marked on the map."""

    kind: Literal["near", "chosen"]
    rows: Sequence[int]


@dataclass(frozen=True, slots=True)
class Meaning:
    """The answer to a phrase: the nearest rows with their similarities, or why there is none."""

    turn: int
    """Number of the phrase in its session; an answer is shown once."""
    rows: Sequence[int] = ()
    scores: Sequence[float] = ()
    said: str = ""


@dataclass(frozen=True, slots=True)
class KeptList:
    """The user's list as the browser's tab keeps it over the end of a session: by a reload, or a connection lost for long."""

    session: str
    """Differs between sessions: a new one has no list yet, and gets the one that the tab kept."""
    table: str
    codes: Sequence[str]
    excluded: Sequence[str]


@dataclass(frozen=True, slots=True)
class Labels:
    """Texts and settings of one map in the browser."""

    name: str
    """Name of this map among those of the page; its companion refers to it."""
    label: str
    """Description of the map for screen readers."""
    unit: str
    """What a point is, in the plural: ``codes``."""
    file: str
    """Name of a saved picture, without ending."""
    provenance: tuple[str, ...]
    """Lines below a saved picture."""
    link: str = ""
    """Maps with the same link hold the same rows in the same order, and share their selection and their legend."""
    legend: bool = True
    """Show the legend; of linked maps one is enough."""
    height: int = 640
    """Of the map, in CSS pixels."""
    labels: tuple[tuple[str, int, int, int], ...] = ()
    """Names of regions: text, level and place."""
    meaning: bool = False
    """Offer to search by meaning what was typed into the search box."""


def places(
    x_N: NDArray[np.float32], y_N: NDArray[np.float32], *, frame_M2: NDArray[np.float32] | None = None
) -> NDArray[np.uint16]:
    """Return [N, 2] whole numbers below 65536 on one scale for both axes, the smaller axis centred.

    The scale is that of the points themselves, or of the points ``frame_M2``.
    """
    xy_N2 = np.stack([x_N, y_N], axis=1).astype(np.float64)
    frame = xy_N2 if frame_M2 is None else frame_M2.astype(np.float64)
    low, high = frame.min(axis=0), frame.max(axis=0)
    span = max(float((high - low).max()), 1e-9)
    centred = (xy_N2 - (low + high) / 2) / span + 0.5
    return np.clip(np.rint(centred * (SIDE - 1)), 0, SIDE - 1).astype(np.uint16)


def encode_points(
    places_N2: NDArray[np.uint16],
    groups_N: NDArray[np.uint8],
    names: Sequence[str],
    labels: Labels,
    search: bytes = b"",
) -> bytes:
    """Return what ``point_map`` sends: the length of the header, the header as JSON, places, groups and what the search reads.

    Numbers are little-endian. The largest groups have the first colours, so that no two of the six largest look alike.
    """
    if len(names) > MOST_GROUPS:
        raise ValueError(f"names: {len(names)} groups, but only {MOST_GROUPS} symbols; merge the smallest")
    size = np.bincount(groups_N, minlength=len(names))[: len(names)]
    rank = np.argsort(np.lexsort((np.arange(len(names)), -size)))
    groups = [
        {
            "name": name,
            "colour": COLOURS[i % len(COLOURS)],
            "dark": DARK_COLOURS[i % len(COLOURS)],
            "symbol": SYMBOLS[i // len(COLOURS)],
        }
        for name, i in zip(names, rank.tolist(), strict=True)
    ]
    header = json.dumps({**asdict(labels), "count": len(groups_N), "groups": groups}).encode()
    header += b" " * (-len(header) % 4)
    return (
        len(header).to_bytes(4, "little")
        + header
        + places_N2.astype("<u2", copy=False).tobytes()
        + groups_N.astype(np.uint8, copy=False).tobytes()
        + search
    )


def rows_inside(
    places_N2: NDArray[np.uint16], groups_N: NDArray[np.uint8], areas: Sequence[Mapping[str, Any]]
) -> NDArray[np.intp]:
    """Return the selected rows as ``area.js`` counts them: each area adds its points, or takes them out."""
    chosen_N = np.zeros(len(places_N2), bool)
    for area in areas:
        chosen_N[_within(places_N2, groups_N, area["corners"], area["hidden"])] = not area["out"]
    return np.flatnonzero(chosen_N)


def _within(
    places_N2: NDArray[np.uint16], groups_N: NDArray[np.uint8], corners: Sequence[int], hidden: Sequence[int]
) -> NDArray[np.bool_]:
    # As `inside` in geometry.js: even-odd rule in whole numbers; no corners: everywhere.
    x_N, y_N = places_N2[:, 0].astype(np.int64), places_N2[:, 1].astype(np.int64)
    ends = np.asarray(corners, dtype=np.int64).reshape(-1, 2)
    odd_N = np.full(len(x_N), len(ends) == 0)
    for (ax, ay), (bx, by) in zip(ends, np.roll(ends, 1, axis=0), strict=True):
        side_N = (x_N - ax) * (by - ay) - (bx - ax) * (y_N - ay)
        odd_N ^= ((ay > y_N) != (by > y_N)) & ((side_N < 0) if by > ay else (side_N > 0))
    return odd_N & ~np.isin(groups_N, hidden)


def search_bytes(table: Mapping[str, Any], terms: Mapping[str, Any]) -> bytes:
    """Return a table and its terms as ``search.js`` reads them, compressed: 74,044 codes are about 1.5 MB."""
    text = json.dumps({"table": table, "terms": terms}, ensure_ascii=False, separators=(",", ":"))
    return gzip.compress(text.encode(), compresslevel=6, mtime=0)


@dataclass(frozen=True, slots=True)
class Hands:
    """What runs when a user does something on a map; ``st.session_state[key]`` then has what it was."""

    chosen: Callable[[], None]
    """``chosen`` is a row."""
    area: Callable[[], None]
    """``area`` is an ``Area``."""
    listed: Callable[[], None] = lambda: None
    """``list`` has turn, entries of the searched table, and whether they are excluded (``out``); or ``kept``, a ``KeptList``."""
    meaning: Callable[[], None] = lambda: None
    """``meaning`` has turn and the phrase that the user wants to be sent to the endpoint."""


@dataclass(frozen=True, slots=True)
class News:
    """What the server adds to a map."""

    marks: Sequence[Mark]
    texts: Mapping[int, Sequence[str]]
    """Lines of text by row."""
    area: Area
    """Shown if it is newer than the map's own."""
    listed: int | None = None
    """Codes on the user's list; None where the page has no list."""
    kept: KeptList | None = None
    """That list, where the browser has not got it yet."""
    meaning: Meaning | None = None


def point_map(data: bytes, *, key: str, hands: Hands) -> None:
    """Show the points."""
    _map(
        key=key,
        data=data,
        on_chosen_change=hands.chosen,
        on_area_change=hands.area,
        on_list_change=hands.listed,
        on_meaning_change=hands.meaning,
    )


def companion(name: str, *, key: str, news: News, on_wanted: Callable[[], None]) -> None:
    """Add to a map what changes. ``st.session_state[key]["wanted"]`` then has the rows whose texts the browser lacks."""
    data = {
        "name": name,
        "marks": [asdict(mark) for mark in news.marks],
        "texts": {str(row): list(lines) for row, lines in news.texts.items()},
        "area": news.area,
        "listed": news.listed,
        "kept": news.kept and asdict(news.kept),
        "meaning": news.meaning and asdict(news.meaning),
    }
    _companion(key=key, data=data, on_wanted_change=on_wanted)


def _source(*names: str) -> str:
    return "\n".join((_FOLDER / name).read_text(encoding="utf-8") for name in names)


# In this order: a module uses what those before it define.
_MODULES = "geometry area view theme draw density labels vector picture gestures rove codes search results map"

_map = st.components.v2.component(
    "clinical_point_map",
    html=_source("map.html"),
    css=_source("map.css"),
    js=_source(*(f"{name}.js" for name in _MODULES.split())),
)
_companion = st.components.v2.component("clinical_map_companion", js=_source("companion.js"))
