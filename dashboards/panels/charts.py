"""Small charts as Vega-Lite specifications, drawn by the library that comes with Streamlit: nothing is loaded from other hosts.

A series is marked by colour and by dash or shape, never by colour alone. The colours are those of the map, whose contrast is
tested. Every chart has alt text, and its numbers are in a table nearby.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import streamlit as st
from component import COLOURS

_DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [4, 4], [12, 3])
_SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
MOST_SERIES = len(COLOURS)
_MOST_DOTS = 60
_SHORT_NAME = 22
_LINE = 26  # pixels that a name needs, so that none covers the next

# Streamlit's own grey has too little contrast for text (WCAG 1.4.3). Charts are on white, also on a dark page: Streamlit does not
# know from the start which of the two a page is.
_INK = {"labelColor": "#31333F", "titleColor": "#31333F"}
_LINES = {"gridColor": "#E6E9EF", "domainColor": "#A3A8B4", "tickColor": "#A3A8B4"}
_CONFIG = {"background": "#FFFFFF", "axis": {**_INK, **_LINES}, "legend": _INK, "title": {"color": "#31333F"}}
_MARGIN = dict.fromkeys(("left", "right", "top", "bottom"), 8)  # pixels to the page, which can be dark

Row = dict[str, Any]
"""One line of a table or one point of a chart: column -> value."""
Rows = Sequence[Row]
Channel = dict[str, Any]
"""A fragment of a Vega-Lite specification."""


@dataclass(frozen=True, slots=True)
class Axis:
    """The horizontal axis of a line chart, where it is more than a column."""

    column: str
    log: bool = False
    rules: Sequence[float] = ()
    """Places with a dotted line; the page says what they are, because they are hidden from screen readers."""


def line_chart(rows: Rows, *, x: str | Axis, y: str, series: str, alt: str, detail: str | None = None) -> None:
    """Draw ``y`` over ``x``, a line for each value of ``series``; ``detail`` separates several lines of one series."""
    axis, names = x if isinstance(x, Axis) else Axis(x), _names(rows, series)
    scale_x: Channel = {"type": "log"} if axis.log else {"zero": False}
    dashes = {"domain": names, "range": _cycle(_DASHES, names)}
    encoding: Channel = {
        "x": _number(axis.column, scale=scale_x),
        "y": {**_number(y, scale={"zero": False}), "axis": {"title": None}},
        "color": _colour(series, names, symbol="stroke"),
        "strokeDash": {**_name(series), "scale": dashes, "legend": _legend(names, symbol="stroke")},
        "tooltip": [_field(name) for name in dict.fromkeys((series, detail or series, axis.column, y))],
        **({"detail": _name(detail)} if detail else {}),
    }
    mark = {"type": "line", "strokeWidth": 2, "point": len(rows) <= _MOST_DOTS * len(names)}
    # Above the chart: next to a small axis it would be cut off.
    title = {"text": y, "anchor": "start", "fontSize": 13, "fontWeight": "normal"}
    height = 250 + 22 * _legend_lines(names)
    lines: Channel = {"mark": mark, "encoding": encoding}
    dotted = {"type": "rule", "strokeDash": [1, 3], "color": "#31333F", "aria": False}
    layers = [lines, *({"mark": dotted, "encoding": {"x": {"datum": place}}} for place in axis.rules)]
    _draw(rows, {"title": title, **({"layer": layers} if axis.rules else lines)}, alt=alt, height=height)


def bar_chart(rows: Rows, *, x: str, y: str, alt: str, series: str | None = None) -> None:
    """Draw horizontal bars of ``x`` for each ``y``, in the order of the rows; side by side where there are several series."""
    encoding: Channel = {"x": _number(x), "y": _place(y), "tooltip": [_field(y), _field(x)]}
    num_bars, num_legend = len(_names(rows, y)), 0
    if series:
        names = _names(rows, series)
        encoding |= {"color": _colour(series, names), "yOffset": {**_name(series), "sort": names}}
        encoding["tooltip"].append(_field(series))
        num_bars, num_legend = num_bars * len(names), _legend_lines(names)
    _draw(
        rows,
        {"mark": {"type": "bar", "color": COLOURS[0]}, "encoding": encoding},
        alt=alt,
        height=70 + _LINE * (num_bars + num_legend),
    )


def column_chart(rows: Rows, *, x: str, y: str, series: str, alt: str) -> None:
    """Draw columns of ``y`` for each ``x`` in the order of the rows, the series side by side."""
    names = _names(rows, series)
    encoding: Channel = {
        "x": {**_name(x), "sort": _names(rows, x), "axis": {"labelAngle": 0}},
        "xOffset": {**_name(series), "sort": names},
        "y": _number(y),
        "color": _colour(series, names),
        "tooltip": [_field(name) for name in (series, x, y)],
    }
    _draw(rows, {"mark": "bar", "encoding": encoding}, alt=alt, height=270 + 22 * _legend_lines(names))


def interval_chart(rows: Rows, *, x: str, y: str, series: str, alt: str, zero_rule: bool = False) -> None:
    """Draw points with their ``low`` to ``high``; rows without an interval (None) are points alone."""
    names = _names(rows, series)
    common = {"y": _place(y), "yOffset": {**_name(series), "sort": names}, "color": _colour(series, names)}
    shape = {**_name(series), "scale": {"domain": names, "range": _cycle(_SHAPES, names)}, "legend": _legend(names)}
    axis = _number(x, scale={"zero": False})
    layers: list[Channel] = [
        {
            "transform": [{"filter": "isValid(datum.low)"}],
            "mark": {"type": "rule", "strokeWidth": 2},
            "encoding": {**common, "x": {**axis, "field": "low"}, "x2": {"field": "high"}},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
            "encoding": {
                **common,
                "x": axis,
                "shape": shape,
                "tooltip": [_field(n) for n in (y, series, x, "low", "high")],
            },
        },
    ]
    if zero_rule:
        rule: Channel = {
            "mark": {"type": "rule", "strokeDash": [3, 3], "aria": False},
            "encoding": {"x": {"datum": 0}},
        }
        layers.insert(0, rule)
    num_lines = len({(row[y], row[series]) for row in rows})
    _draw(rows, {"layer": layers}, alt=alt, height=90 + _LINE * (num_lines + _legend_lines(names)))


def parallel_chart(rows: Rows, *, axes: Sequence[str], y: str, alt: str) -> None:
    """Draw a line for each row through its place on every axis, from 0 to 1, and ``y`` as the last axis and the colour.

    Numbers are placed by their rank among the rows, other values by name; the tooltip shows them.
    """
    ends = [*axes, y]
    places = {axis: _ranks([row[axis] for row in rows]) for axis in ends}
    lines = [
        {"axis": axis, "place": places[axis][number], "value": str(row[axis]), "line": str(number), y: row[y]}
        for number, row in enumerate(rows)
        for axis in ends
    ]
    encoding: Channel = {
        "x": {**_name("axis"), "sort": ends, "axis": {"labelAngle": 0, "title": None}},
        "y": {**_number("place"), "axis": None},
        "detail": _name("line"),
        "color": {**_number(y), "scale": {"scheme": "viridis"}},
        "tooltip": [_field(name) for name in ("axis", "value", y)],
    }
    mark = {"type": "line", "strokeWidth": 2, "point": True, "opacity": 0.8}
    _draw(lines, {"mark": mark, "encoding": encoding}, alt=alt, height=320)


def _ranks(values: Sequence[Any]) -> list[float]:
    """Return each value's rank among the different ones, from 0 to 1."""
    numbers = all(isinstance(value, int | float) for value in values)
    order = sorted(set(values), key=(lambda value: value) if numbers else str)
    return [order.index(value) / max(len(order) - 1, 1) for value in values]


def _names(rows: Rows, field: str) -> list[str]:
    return list(dict.fromkeys(row[field] for row in rows))


def _field(name: str) -> Channel:
    # Vega-Lite reads full stops, brackets and quotes in a name as a path into an object.
    escaped = re.sub(r"([\\.\[\]'\"])", r"\\\1", name)
    return {"field": escaped, "title": name}


def _number(name: str, *, scale: Channel | None = None) -> Channel:
    return {**_field(name), "type": "quantitative", **({"scale": scale} if scale else {})}


def _name(name: str) -> Channel:
    return {**_field(name), "type": "nominal"}


def _place(name: str) -> Channel:
    return {**_name(name), "title": None, "sort": None, "axis": {"labelLimit": 260, "labelOverlap": False}}


def _colour(series: str, names: Sequence[str], *, symbol: str | None = None) -> Channel:
    scale: Channel = {"domain": list(names), "range": _cycle(COLOURS, names)}
    return {**_name(series), "scale": scale, "legend": _legend(names, symbol=symbol)}


def _legend(names: Sequence[str], *, symbol: str | None = None) -> Channel | None:
    if len(names) < 2:
        return None
    legend: Channel = {"orient": "bottom", "columns": _legend_columns(names), "labelLimit": 420, "title": None}
    return {**legend, "symbolType": symbol} if symbol else legend


def _legend_columns(names: Sequence[str]) -> int:
    return 2 if max(map(len, names)) <= _SHORT_NAME else 1


def _legend_lines(names: Sequence[str]) -> int:
    return -(-len(names) // _legend_columns(names)) if len(names) > 1 else 0


def _cycle(choices: Sequence[Any], names: Sequence[str]) -> list[Any]:
    return [choices[number % len(choices)] for number in range(len(names))]


def _draw(rows: Rows, spec: Channel, *, alt: str, height: int) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    # Streamlit sends Arrow as it is; it would convert a list of dicts through pandas.
    table = pa.table({name: [row.get(name) for row in rows] for name in names})
    st.vega_lite_chart(
        table, {**spec, "height": height, "padding": _MARGIN, "config": _CONFIG}, width="stretch", alt=alt
    )
