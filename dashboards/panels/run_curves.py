"""The curves of training runs: groups of figures over steps, a line a run, and held-out figures by corpus and source.

A dotted line marks where a new phase begins. Corpora, row length and objective may change there, and the later
figures are then of other text; the group ``Corpora`` has those of one corpus.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st
from clinical_modernbert.masking import MASK_KINDS, TOP_K

from panels.charts import Axis, Row, line_chart
from panels.curves import Curve, smooth

# Group -> (field of a point, title). Held-out figures have their own group.
_STEP_FIGURES = {
    "Loss": (("loss", "training loss, nats"), ("gradient_norm", "gradient norm")),
    "Schedules": (
        ("learning_rate", "learning rate"),
        ("mask_rate", "mask rate"),
        ("salience_odds", "odds of clinical tokens"),
    ),
    "Speed": (
        ("tokens_per_second", "tokens a second"),
        ("mfu", "share of the hardware's peak (MFU)"),
        ("data_wait", "share of time waiting for data"),
        ("memory_bytes", "peak memory, bytes"),
    ),
}
GROUPS = ("Loss", "Top-k", "Corpora", "Schedules", "Speed")
_PREDICTED = {**{kind: f"{kind} mask" for kind in MASK_KINDS}, "causal": "next tokens"}
_LOSSES = {f"{kind}_loss": f"held-out loss, {words}, nats" for kind, words in _PREDICTED.items()}
_SHARES = {f"{kind}_top{k}": f"held-out top-{k}, {words}" for kind, words in _PREDICTED.items() for k in TOP_K}
_CODES = {
    "codes_purity": "nearest ten codes of the same chapter",
    "codes_purity_outside": "nearest ten codes of other categories, of the same chapter",
}
_ALL = "all"

# Choice -> field of a point, title.
OVER = {"steps": ("step", "step"), "tokens": ("tokens_so_far", "tokens"), "hours": ("hours_so_far", "hours of steps")}
SMOOTHING = (
    "Running means of the figures of steps: the weight of a point against the next. Held-out figures stay as they are."
)


@dataclass(frozen=True, slots=True)
class Over:
    """What curves are drawn over, and how much figures of steps are smoothed."""

    field: str = "step"
    title: str = "step"
    smoothing: float = 0.0

    def place(self, point: Row) -> float:
        """Return the point's place; steps are counted from 1 on the page."""
        return point[self.field] + (self.field == "step")


_Chart = tuple[str, str, list[Row]]
"""Title, the column that names the lines, and the points."""


def show_curves(curves: list[Curve], group: str, over: Over, *, key: str) -> None:
    """Draw one group of figures; figures that no run measured are left out."""
    found = _by_corpus(curves, over, key) if group == "Corpora" else _of_runs(curves, group, over)
    drawn = [chart for chart in found if chart[2]]
    if not drawn:
        st.info("None of these figures was measured yet.", icon=":material/show_chart:")
        return
    borders = sorted({border[over.field] for curve in curves for border in curve.borders} - {None})
    axis = Axis(over.title, rules=borders)
    width = 4 if group == "Top-k" else 2
    for start in range(0, len(drawn), width):
        for column, (title, series, rows) in zip(st.columns(width), drawn[start : start + width], strict=False):
            with column:
                line_chart(rows, x=axis, y=title, series=series, alt=f"{title} over {over.title}")
    st.caption(
        "Held-out figures use frozen masks on text of patients, citations and codes that are not in the training part."
        + (" A dotted line is where a new phase begins." if borders else "")
    )
    with st.expander("The last figures as a table"):
        st.dataframe([line for chart in drawn for line in _last(chart, over)], hide_index=True)


def _of_runs(curves: list[Curve], group: str, over: Over) -> list[_Chart]:
    charts: list[_Chart] = [
        (title, "run", _rows(curves, "steps", field, title, over)) for field, title in _STEP_FIGURES.get(group, ())
    ]
    held_out = {"Loss": _LOSSES, "Top-k": _SHARES | _CODES}.get(group, {})
    return charts + [(title, "run", _rows(curves, "held_out", field, title, over)) for field, title in held_out.items()]


def _rows(curves: list[Curve], kind: str, field: str, title: str, over: Over) -> list[Row]:
    rows: list[Row] = []
    for curve in curves:
        points = [p for p in getattr(curve, kind) if p.get(field) is not None and p.get(over.field) is not None]
        values = smooth([point[field] for point in points], over.smoothing if kind == "steps" else 0.0)
        rows += [
            {"run": curve.run, over.title: over.place(point), title: value}
            for point, value in zip(points, values, strict=True)
        ]
    return rows


def _by_corpus(curves: list[Curve], over: Over, key: str) -> list[_Chart]:
    """Return a chart for each corpus with a line a run, then one for each run and corpus with a line a source."""
    titles = _LOSSES | _SHARES
    known = {field for curve in curves for point in curve.corpora for field in point}
    fields = [field for field in titles if field in known]
    if not fields:
        return []
    chosen = st.selectbox("Figure", fields, format_func=titles.__getitem__, key=f"{key}-figure") or fields[0]
    points = [
        {**point, "run": curve.run, over.title: over.place(point)}
        for curve in curves
        for point in curve.corpora
        if point.get(chosen) is not None and point.get(over.field) is not None
    ]
    charts: list[_Chart] = []
    for corpus in dict.fromkeys(point["corpus"] for point in points):
        title = f"{corpus}: {titles[chosen]}"
        whole = [point for point in points if (point["corpus"], point["source"]) == (corpus, None)]
        charts.append((title, "run", _cells(whole, ("run", over.title), chosen, title)))
    of_sources = [point for point in points if point["source"] is not None]
    for run, corpus in dict.fromkeys((point["run"], point["corpus"]) for point in of_sources):
        own = [point for point in of_sources if (point["run"], point["corpus"]) == (run, corpus)]
        title = f"{run} on {corpus}: {titles[chosen]}"
        charts.append((title, "source", _cells(own, ("run", "source", over.title), chosen, title)))
    return charts


def _cells(points: Sequence[Row], columns: Sequence[str], field: str, title: str) -> list[Row]:
    return [{**{name: point[name] for name in columns}, title: point[field]} for point in points]


def _last(chart: _Chart, over: Over) -> list[Row]:
    title, series, rows = chart
    newest = {row[series]: row for row in rows}
    return [
        {
            "run": row["run"],
            "source": row.get("source", _ALL),
            "figure": title,
            over.title: row[over.title],
            "value": row[title],
        }
        for row in newest.values()
    ]
