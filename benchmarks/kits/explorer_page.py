"""One Streamlit page for the row ``explorer``: ``streamlit run benchmarks/kits/explorer_page.py -- ours|plotly|pydeck COUNT``.

Each side gets the same points in 20 groups. Points and drawings are made once and kept by Streamlit's cache.
"""

import sys
from pathlib import Path

import numpy as np
import streamlit as st
from numpy.typing import NDArray

GROUPS = 20


def page(side: str, count: int) -> None:
    """Draw ``count`` points as ``side`` does."""
    st.set_page_config(layout="wide")
    {"ours": _ours, "plotly": _plotly, "pydeck": _pydeck}[side](count)


def _points(count: int) -> tuple[NDArray[np.float32], NDArray[np.int64], list[str]]:
    rng = np.random.default_rng(0)
    group_N = rng.integers(0, GROUPS, count)
    centre = rng.normal(size=(GROUPS, 2)) * 10
    xy_N2 = (centre[group_N] + rng.normal(size=(count, 2)) * 2).astype(np.float32)
    return xy_N2, group_N, [f"{row // 100:03d}.{row % 100:02d}" for row in range(count)]


def _ours(count: int) -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "dashboards"))
    from component import Hands, Labels, News, companion, encode_points, places, point_map

    @st.cache_resource
    def encoded() -> bytes:
        xy_N2, group_N, _ = _points(count)
        labels = Labels(name="bench", label="bench", unit="codes", file="bench", provenance=("bench",))
        names = [f"group {group}" for group in range(GROUPS)]
        return encode_points(places(xy_N2[:, 0], xy_N2[:, 1]), group_N.astype(np.uint8), names, labels)

    point_map(encoded(), key="map", hands=Hands(chosen=lambda: None, area=lambda: None))
    news = News(marks=[], texts={}, area={"turn": -1})
    companion("bench", key="companion", news=news, on_wanted=lambda: None)


def _plotly(count: int) -> None:
    import plotly.graph_objects as go

    @st.cache_resource
    def figure() -> go.Figure:
        xy_N2, group_N, codes = _points(count)
        drawn = go.Figure()
        for group in range(GROUPS):
            own = np.flatnonzero(group_N == group)
            texts = [codes[row] for row in own]
            x, y = xy_N2[own, 0], xy_N2[own, 1]
            drawn.add_scattergl(x=x, y=y, text=texts, name=f"group {group}", mode="markers", marker={"size": 5})
        return drawn.update_layout(height=640)

    st.plotly_chart(figure(), key="map")


def _pydeck(count: int) -> None:
    import pandas as pd
    import pydeck as pdk

    @st.cache_resource
    def deck() -> pdk.Deck:
        xy_N2, group_N, codes = _points(count)
        red, green, blue = np.random.default_rng(1).integers(0, 200, (3, GROUPS))[:, group_N]
        frame = pd.DataFrame({"x": xy_N2[:, 0], "y": xy_N2[:, 1], "code": codes, "r": red, "g": green, "b": blue})
        layer = pdk.Layer(
            "ScatterplotLayer",
            frame,
            get_position=["x", "y"],
            get_fill_color=["r", "g", "b"],
            get_radius=2.5,
            radius_units=pdk.types.String("pixels"),
            pickable=True,
        )
        view = pdk.View(type="OrthographicView", controller=True)
        state = pdk.ViewState(target=[0, 0, 0], zoom=3.5)
        tooltip = {"text": "{code}"}
        return pdk.Deck([layer], views=[view], initial_view_state=state, map_provider=None, tooltip=tooltip)

    st.pydeck_chart(deck(), height=640)


if __name__ == "__main__":
    page(sys.argv[1], int(sys.argv[2]))
