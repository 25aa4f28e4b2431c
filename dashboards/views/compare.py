"""Two models on the same codes: linked maps, and figures from the nearest codes in each model's original space."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import streamlit as st
from clinical_modernbert.artifacts import Artifact
from clinical_modernbert.errors import ArtifactError
from clinical_modernbert.evaluation.codes.report import MapReport
from component import Labels, Mark
from panels import map_panel
from panels.code_list import show_list
from panels.export import provenance
from panels.kept import wanted
from panels.map_panel import Points, make_points, selected_rows, show_points
from panels.map_table import load_table, region_labels, search_with_list, what_search_reads
from panels.overlap import Pair, align, by_chapter, moved_most, present
from panels.search import selectable
from panels.selection import Grouping, show_selection
from store import opened, show_problems, synthetic_note

from views.code_map import chapters, code_texts, list_maps, load_map, map_label, of_all

_PAGE = "compare"
_MOVED = 100
_BELONGS = ("code", "area", "area-on")


def page() -> None:
    """Show two maps of one code table, the nearest codes on each, and the codes that changed most."""
    st.title("Compare")
    left, right = _choose()
    try:
        loaded = [load_map(artifact, artifact.manifest.digest) for artifact in (left, right)]
        digests = left.manifest.digest, right.manifest.digest
        pair = _aligned(loaded[0][0], loaded[1][0], digests)
        if not pair.first.num_rows:
            st.warning("These two maps have no code in common.", icon=":material/join_inner:")
            return
        points = _both_points(left, right, pair, digests)
    except ArtifactError as error:
        show_problems((str(error),))
        return
    map_panel.belong(_PAGE, f"{left.manifest.id} {right.manifest.id}", points[0])
    map_panel.restore_area(_PAGE, on=points[st.query_params.get("area-on") == "right"])
    map_panel.restore_code(_PAGE, pair.first["code"], table=_table(left), where="both maps")
    map_panel.show_absent(_PAGE)
    whole = load_table(left, left.manifest.digest)
    _show_maps((left, right), points, pair, whole)
    st.caption(
        "A selection on one map is made on both; a point under the pointer is ringed on the other. The legend filters both."
    )
    _show_moved(pair)
    _show_figures(pair, loaded[0][1], loaded[1][1])
    drawn = map_panel.map_with_area(points, _PAGE)
    file, lines = f"{left.manifest.id}-{right.manifest.id}", provenance(left, right)
    show_selection(
        pair.first,
        selected_rows(drawn, _PAGE),
        Grouping(
            page=_PAGE,
            unit="codes",
            group_column="chapter",
            listed=("code", "description", "chapter_id", "chapter"),
            text_column="description",
            provenance=lines,
            codes_of=_table(left),
            file=file,
        ),
    )
    show_list(whole, _table(left), provenance=lines, file=file)
    row = map_panel.chosen_row(_PAGE)
    code = None if row is None else pair.first["code"][row].as_py()
    on_right = {"area-on": "right" if drawn is points[1] else None}
    map_panel.keep_in_address(_PAGE, left=left.manifest.id, right=right.manifest.id, **on_right)
    map_panel.keep_code(_PAGE, code, table=_table(left))


def _show_maps(
    artifacts: tuple[Artifact, Artifact], points: tuple[Points, Points], pair: Pair, whole: pa.Table
) -> None:
    row = map_panel.chosen_row(_PAGE)
    near = (pair.near_first_NK, pair.near_second_NK)
    table = _table(artifacts[0])
    for column, artifact, shown, near_NK in zip(st.columns(2), artifacts, points, near, strict=True):
        with column:
            st.markdown(f"**{artifact.summary['model']}** · map `{artifact.manifest.id}`{of_all(artifact)}")
            note = synthetic_note(artifact)
            if note:
                st.caption(note)
            marks: list[Mark] = []
            if row is not None:
                marks = [Mark("near", present(near_NK[row])), Mark("chosen", [row])]
            show_points(
                shown,
                page=_PAGE,
                texts=lambda rows: code_texts(pair.first, rows),
                marks=marks,
                search=search_with_list(whole, table),
            )
            if row is not None:
                _show_near(pair, row, present(near_NK[row]))


def _choose() -> tuple[Artifact, Artifact]:
    maps = list_maps()
    by_id = {artifact.manifest.id: artifact for artifact in maps}
    pairs = [one for one in maps if any(two is not one and _table(two) == _table(one) for two in maps)]
    if not pairs:
        st.info("Comparing needs two maps of one code table: map the same codes with another model.")
        st.code("python jobs/map_codes.py map/demo --set model=OTHER --set name=other", language="bash")
        st.stop()
    columns = st.columns(2)
    first = [one.manifest.id for one in reversed(pairs)]
    _refuse("left", first, by_id, why="is the only map of its code table")
    left = by_id[_pick(columns[0], "left", first, by_id)]
    others = [one.manifest.id for one in maps if one is not left and _table(one) == _table(left)]
    _refuse("right", others, by_id, why="is the left map, or of another code table")
    return opened(left), opened(by_id[_pick(columns[1], "right", others, by_id)])


def _refuse(side: str, ids: list[str], by_id: dict[str, Artifact], *, why: str) -> None:
    # The map that this page wrote itself is no link: its user has chosen another on the other side since.
    asked = st.query_params.get(side)
    if asked not in by_id:
        map_panel.refuse_absent(_PAGE, side, by_id, with_it=_BELONGS)
    elif asked != st.session_state.get(f"kept-{side}"):
        map_panel.refuse_absent(_PAGE, side, ids, with_it=_BELONGS, why=why)


def _pick(column: Any, side: str, ids: list[str], by_id: dict[str, Artifact]) -> str:
    # The map of the page before comes to the left, unless this page was open before.
    asked = wanted(side, ids) or (wanted("map", ids) if side == "left" else None)
    chosen: str = column.selectbox(
        f"{side.capitalize()} map",
        ids,
        index=ids.index(asked) if asked else 0,
        key=f"{_PAGE}-{side}",
        format_func=lambda id_: map_label(by_id[id_]),
    )
    return chosen


def _table(artifact: Artifact) -> str:
    return str(artifact.summary["table"])


@st.cache_resource(max_entries=4, show_spinner="Comparing")
def _aligned(_first: pa.Table, _second: pa.Table, digests: tuple[str, str]) -> Pair:
    return align(_first, _second)


@st.cache_resource(max_entries=4, show_spinner="Drawing the maps")
def _both_points(_left: Artifact, _right: Artifact, _pair: Pair, digests: tuple[str, str]) -> tuple[Points, Points]:
    # Both are coloured by the first table's chapters: a legend that filters both needs the same groups.
    groups = chapters(_pair.first)
    whole = load_table(_left, digests[0])
    rows = pc.index_in(whole["code"].combine_chunks(), value_set=_pair.first["code"].combine_chunks())
    searched = what_search_reads(_left, whole, rows.to_pylist())
    made = []
    for side, artifact, table in (("left", _left, _pair.first), ("right", _right, _pair.second)):
        labels = Labels(
            name=f"{side}-{digests[0][:12]}-{digests[1][:12]}",
            label=f"{side.capitalize()} map of {table.num_rows} codes by chapter, model {artifact.summary['model']}",
            unit="codes",
            file=f"{side}-{artifact.manifest.id}",
            provenance=tuple(provenance(artifact)),
            link="compare",
            legend=side == "left",
            height=520,
            labels=region_labels(artifact, table),
        )
        made.append(make_points(table, groups, labels, search=searched if side == "left" else b""))
    return made[0], made[1]


def _show_figures(pair: Pair, left: MapReport, right: MapReport) -> None:
    st.header("How alike the models are")
    k = pair.near_first_NK.shape[1]
    columns = st.columns(4)
    for column, side, report in zip(columns, ("left", "right"), (left, right), strict=False):
        column.metric(f"Chapter purity@{report.purity.k}, {side}", f"{report.purity.encoder:.1%}")
    columns[2].metric(f"Neighbour overlap@{k}", f"{pair.overlap_N.mean():.1%}")
    columns[3].metric("Codes on both", f"{pair.first.num_rows:,}")
    if not pair.complete:
        st.info(
            "The maps do not hold the same codes. A nearest code that is on one map only counts as different, so the overlap is "
            "a lower bound.",
            icon=":material/info:",
        )
    with st.expander("By chapter"):
        percent = st.column_config.NumberColumn(format="percent")
        shown = ("purity left", "purity right", "difference", "overlap")
        st.dataframe(by_chapter(pair), hide_index=True, column_config=dict.fromkeys(shown, percent))


def _show_near(pair: Pair, row: int, near: list[int]) -> None:
    code = pair.first["code"][row].as_py()
    st.markdown(f"**Nearest to {code}** in this model's original space")
    shown = pair.first.select(["code", "description", "chapter_id"]).take(pa.array(near, pa.int32()))
    st.dataframe(shown, hide_index=True, height=250)


def _show_moved(pair: Pair) -> None:
    st.header("What moved most")
    ties = int((pair.overlap_N == pair.overlap_N.min()).sum())
    st.markdown("Codes whose nearest codes changed most between the two models; choose a line to see it on both maps.")
    st.caption(
        f"{ties:,} codes have the smallest overlap, {pair.overlap_N.min():.0%}. Equal ones are ordered by “change of kind”: how "
        "much less, or more, of its place in the classification a code shares with its nearest codes. Then those with the "
        "closest nearest codes come first."
    )
    table, rows = moved_most(pair, most=_MOVED)
    selectable(f"{_PAGE}-moved", table, rows, cut=True, take=lambda row: map_panel.choose(_PAGE, row))


if __name__ == "__main__":
    page()
