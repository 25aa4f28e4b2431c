"""The map as a Plotly figure: WebGL points in one trace a chapter, so that the legend filters without asking the server.

A chapter is told by colour and by marker symbol. The six colours stay apart under the two common kinds of colour blindness and
have enough contrast on white (tests/dashboards/test_figure.py measures both); seven symbols give 42 groups their own sign.
"""

import html
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

COLOURS = ("#2080C0", "#E06000", "#00A080", "#000000", "#7030D0", "#802000")
SYMBOLS = ("circle", "x", "triangle-up", "square-open", "cross", "diamond", "star")

# Above this, hovering shows the code alone: descriptions are most of what the browser would have to load.
HOVER_DESCRIPTIONS_MAX = 20_000


def base_figure(codes: pa.Table, *, digest: str) -> go.Figure:
    """Draw every code, without highlights; ``customdata`` of a point is its row in ``codes``."""
    figure = go.Figure()
    rows = np.arange(codes.num_rows, dtype=np.int32)
    chapter_ids = codes["chapter_id"].to_numpy(zero_copy_only=False)
    x, y, texts = codes["x"].to_numpy(), codes["y"].to_numpy(), _hover_texts(codes)
    size = 5 if codes.num_rows < HOVER_DESCRIPTIONS_MAX else 3
    for number, (chapter_id, chapter) in enumerate(chapters(codes)):
        own = rows[chapter_ids == chapter_id]
        figure.add_scattergl(
            x=x[own],
            y=y[own],
            customdata=own,
            text=[texts[row] for row in own],
            name=f"{chapter_id} {_short(chapter)}",
            mode="markers",
            marker={"color": COLOURS[number % len(COLOURS)], "symbol": _symbol(number), "size": size, "opacity": 0.75},
            selected={"marker": {"size": 16, "opacity": 1}},
            unselected={"marker": {"opacity": 0.6}},
            hovertemplate=f"%{{text}}<extra>{html.escape(chapter)}</extra>",
        )
    figure.update_layout(
        height=880,
        margin={"l": 0, "r": 0, "t": 32, "b": 0},
        # Fixed frames, so that hiding a chapter does not move the others.
        xaxis={"visible": False, "range": _frame(x)},
        yaxis={"visible": False, "range": _frame(y), "scaleanchor": "x"},
        template="plotly_white",
        dragmode="pan",
        hovermode="closest",
        uirevision=digest,
        font={"family": '"Source Sans", sans-serif'},
        legend={
            "orientation": "h",
            "y": -0.01,
            "yanchor": "top",
            "entrywidth": 0.5,
            "entrywidthmode": "fraction",
            "itemsizing": "constant",
        },
    )
    return figure


def add_matches(figure: go.Figure, codes: pa.Table, rows: Sequence[int]) -> None:
    """Ring the codes that a search found."""
    _add_signs(figure, codes, rows, name=f"found by the search ({len(rows)})", symbol="circle-open", size=13)


def add_marked(figure: go.Figure, codes: pa.Table, row: int, neighbours: Sequence[int]) -> None:
    """Mark one code and its nearest codes in the original space."""
    _add_signs(figure, codes, neighbours, name="its nearest codes", symbol="square-open", size=13)
    _add_signs(figure, codes, [row], name=codes["code"][row].as_py(), symbol="star", size=18)


def chapters(codes: pa.Table) -> list[tuple[str, str]]:
    """Return (id, name) of every chapter, sorted by id: the order decides each chapter's colour and symbol."""
    groups = (
        codes.select(["chapter_id", "chapter"]).group_by(["chapter_id", "chapter"]).aggregate([]).sort_by("chapter_id")
    )
    return list(zip(groups["chapter_id"].to_pylist(), groups["chapter"].to_pylist(), strict=True))


def _add_signs(figure: go.Figure, codes: pa.Table, rows: Sequence[int], *, name: str, symbol: str, size: int) -> None:
    found = codes.select(["x", "y"]).take(pa.array(rows, pa.int32()))
    figure.add_scattergl(
        x=found["x"].to_numpy(),
        y=found["y"].to_numpy(),
        name=name,
        mode="markers",
        marker={"color": "#000000", "symbol": symbol, "size": size, "line": {"width": 2}},
        hoverinfo="skip",
    )


def _frame(values: NDArray[np.float32]) -> list[float]:
    low, high = float(values.min()), float(values.max())
    margin = 0.03 * (high - low or 1.0)
    return [low - margin, high + margin]


def _hover_texts(codes: pa.Table) -> list[str]:
    if codes.num_rows > HOVER_DESCRIPTIONS_MAX:
        return list(codes["code"].to_pylist())
    joined = pc.binary_join_element_wise(codes["code"], codes["description"], "  ")
    return [html.escape(text, quote=False) for text in joined.to_pylist()]


def _symbol(number: int) -> str:
    return SYMBOLS[number // len(COLOURS) % len(SYMBOLS)]


def _short(chapter: str, *, length: int = 38) -> str:
    return chapter if len(chapter) <= length else f"{chapter[: length - 1].rstrip()}…"
