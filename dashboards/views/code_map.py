"""The code map: every code of a table as a point, its card, and the figures that say how far to trust the picture.

Nearest codes come from the map artifact, where they were taken in the original space: a distance on the map means little. A
click on the map leaves the figure as it is, so that zoom and legend stay; a choice in a list marks the code on the map.
"""

import json
from typing import Any

import plotly.graph_objects as go
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import streamlit as st
from clinical_modernbert.artifacts import Artifact
from clinical_modernbert.errors import ArtifactError

from views.figure import add_marked, add_matches, base_figure
from views.reading import list_kind, show_problems, store_or_stop, synthetic_sources

_MATCHES_SHOWN = 200
_BASELINES = {
    "untrained": "Same encoder, untrained",
    "tfidf": "Shared words alone (TF-IDF)",
    "permutation": "Chance",
}


def page() -> None:
    """Show the newest map, or the one chosen."""
    st.title("Code map")
    artifact = _choose_map()
    try:
        codes, report = _loaded(artifact, artifact.manifest.digest)
    except ArtifactError as error:
        show_problems((str(error),))
        return
    _show_provenance(artifact, codes.num_rows)
    query = st.text_input(
        "Search by code or words",
        placeholder="250.4   or   diabetes renal",
        key="query",
        help="The beginning of a code, or words that all stand in the description. Nothing typed here is stored.",
    )
    matches = find_codes(codes, query) if query.strip() else []
    chart_column, card_column = st.columns([7, 3])
    with chart_column:
        _show_map(artifact, codes, matches)
    with card_column:
        _show_card(artifact, codes)
    if query.strip():
        _show_matches(artifact, codes, matches)
    _show_purity(report["purity"])


def find_codes(codes: pa.Table, query: str) -> list[int]:
    """Return the rows whose code begins with ``query``, or whose description holds all its words; case does not count."""
    bare = pc.utf8_lower(pc.replace_substring(codes["code"], ".", ""))
    # "250." asks for codes as "250" does; a full stop alone asks for none of them.
    by_code = pc.starts_with(bare, query.strip().lower().replace(".", "") or ".")
    description = pc.utf8_lower(codes["description"])
    by_words = pa.chunked_array([pa.array([True] * codes.num_rows)])
    for word in query.lower().split():
        by_words = pc.and_(by_words, pc.match_substring(description, word))
    return list(pc.indices_nonzero(pc.or_(by_code, by_words)).to_pylist())


def _choose_map() -> Artifact:
    store = store_or_stop()
    listing = list_kind(store, "map")
    show_problems(listing.problems)
    if not listing.artifacts:
        st.info(f"There is no code map in {store.uri} yet.", icon=":material/inbox:")
        st.markdown("Make a model and its map, then reload this page:")
        st.code(
            "make demo\n# or, for a model of your own:\npython jobs/map_codes.py map/demo --set model=NAME",
            language="bash",
        )
        st.stop()
    by_id = {artifact.manifest.id: artifact for artifact in listing.artifacts}
    if len(by_id) == 1:
        return listing.artifacts[0]
    chosen = st.selectbox("Map", list(by_id), key="map", on_change=_forget, format_func=lambda id_: _label(by_id[id_]))
    return by_id[chosen]


def _label(artifact: Artifact) -> str:
    return f"{artifact.manifest.id} (model {artifact.summary['model']}, {artifact.manifest.created_at[:10]})"


@st.cache_resource(max_entries=4, show_spinner="Reading and checking the map")
def _loaded(_artifact: Artifact, digest: str) -> tuple[pa.Table, dict[str, Any]]:
    codes = pq.read_table(_artifact.file("codes.parquet"))
    return codes.combine_chunks(), json.loads(_artifact.file("report.json").read_text(encoding="utf-8"))


@st.cache_data(max_entries=4, show_spinner="Drawing the map")
def _drawn(_codes: pa.Table, digest: str) -> go.Figure:
    return base_figure(_codes, digest=digest)


def _show_provenance(artifact: Artifact, num_codes: int) -> None:
    manifest = artifact.manifest
    facts = [
        f"model `{artifact.summary['model']}`",
        f"map `{manifest.id}`",
        f"fingerprint `{manifest.fingerprint}`",
        f"made {manifest.created_at[:10]}",
        f"{num_codes:,} {str(artifact.summary['table']).upper()} codes",
    ]
    generated = synthetic_sources(artifact)
    facts += [f"**trained in part on synthetic text** ({', '.join(generated)})"] if generated else []
    st.caption(" · ".join(facts))


def _show_map(artifact: Artifact, codes: pa.Table, matches: list[int]) -> None:
    figure = _drawn(codes, artifact.manifest.digest)
    if matches:
        add_matches(figure, codes, matches)
    marked = st.session_state.get("marked")
    if marked is not None:
        add_marked(figure, codes, marked, codes["neighbours"][marked].as_py())
    st.plotly_chart(
        figure,
        theme=None,
        key="chart",
        on_select=_take_click,
        selection_mode="points",
        config={
            "scrollZoom": True,
            "displaylogo": False,
            "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
        },
    )
    st.caption(
        "Each point is a code, placed by t-SNE. A click in the legend hides a chapter, a double click shows it alone. Only who "
        "stands close together means something: the distance between far groups, their size and their direction do not."
    )


def _show_card(artifact: Artifact, codes: pa.Table) -> None:
    row = st.session_state.get("row")
    if row is None:
        st.info("Choose a code: click a point, or search and pick a line.", icon=":material/touch_app:")
        return
    code = codes.slice(row, 1).to_pylist()[0]
    st.subheader(code["code"])
    st.text(code["description"])
    st.caption(f"Chapter {code['chapter_id']}: {code['chapter']}")
    if code["held_out"]:
        st.caption("Held out: the model never saw this code's concept in training.")
    nearest = codes.take(pa.array(code["neighbours"], pa.int32()))
    st.markdown("**Nearest codes**, in the model's own space (not on the map)")
    shown = pa.table(
        {
            "similarity": pa.array(code["similarities"], pa.float32()),
            "code": nearest["code"],
            "description": nearest["description"],
            "same chapter": pc.equal(nearest["chapter_id"], code["chapter_id"]),
        }
    )
    _selectable(f"nearest-{artifact.manifest.id}-{row}", shown, code["neighbours"])


def _show_matches(artifact: Artifact, codes: pa.Table, matches: list[int]) -> None:
    if not matches:
        st.info("No code begins with that, and no description holds all of these words.", icon=":material/search_off:")
        return
    note = f", the first {_MATCHES_SHOWN} are listed" if len(matches) > _MATCHES_SHOWN else ""
    st.markdown(f"**{len(matches):,} found**{note}")
    rows = matches[:_MATCHES_SHOWN]
    shown = codes.select(["code", "description", "chapter"]).take(pa.array(rows, pa.int32()))
    _selectable(f"matches-{artifact.manifest.id}-{hash(tuple(rows))}", shown, rows)


def _selectable(key: str, shown: pa.Table, rows: list[int]) -> None:
    st.dataframe(
        shown,
        key=key,
        hide_index=True,
        selection_mode="single-row",
        on_select=lambda: _take_line(key, rows),
        column_config={"similarity": st.column_config.NumberColumn(format="%.3f")},
    )


def _show_purity(purity: dict[str, float]) -> None:
    st.subheader("How far to trust the groups")
    st.markdown(
        f"Share of a code's {purity['k']:.0f} nearest codes that are of its own chapter, measured in the model's own space. "
        "A model has learnt clinical meaning where it is above all three baselines."
    )
    columns = st.columns(1 + len(_BASELINES))
    columns[0].metric("This model", f"{purity['encoder']:.1%}")
    for column, (name, label) in zip(columns[1:], _BASELINES.items(), strict=True):
        column.metric(label, f"{purity[name]:.1%}")
    above = [label for name, label in _BASELINES.items() if purity[name] >= purity["encoder"]]
    if above:
        st.warning(f"This model is not better than: {', '.join(above)}.", icon=":material/trending_down:")


def _take_click() -> None:
    points = st.session_state["chart"]["selection"]["points"]
    if points:
        row = points[0]["customdata"]
        st.session_state["row"] = int(row[0] if isinstance(row, list) else row)


def _take_line(key: str, rows: list[int]) -> None:
    lines = st.session_state[key]["selection"]["rows"]
    if lines:
        st.session_state["row"] = st.session_state["marked"] = rows[lines[0]]


def _forget() -> None:
    """Rows are of one map; another map starts without a choice."""
    st.session_state["row"] = st.session_state["marked"] = None


if __name__ == "__main__":
    page()
