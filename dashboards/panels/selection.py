"""A selected group of rows: its list, its differences from another group, and its export."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import streamlit as st
from numpy.typing import NDArray

from panels.code_list import add_codes, exclude_codes
from panels.cut_table import cut_table
from panels.explain import FALSE_DISCOVERIES, shares, terms
from panels.export import Export, offer_exports

_REST = "everything else"
_KEPT = "the group that you kept"
_LISTED = 500


@dataclass(frozen=True, slots=True)
class Grouping:
    """How a page shows a group of its table."""

    page: str
    unit: str
    """What a row is, in the plural: ``codes``."""
    group_column: str
    """Column whose values are compared, and may be chosen as the other group."""
    listed: Sequence[str]
    """Columns of the list and of the export."""
    text_column: str | None
    """Column whose words are compared."""
    provenance: Sequence[str]
    file: str
    """Name of the export, without its ending."""
    codes_of: str | None = None
    """The code table whose codes the rows are."""
    floor: int = 1
    """Selections of fewer rows, and counts below it, are not shown."""


def show_selection(table: pa.Table, rows: NDArray[np.intp] | None, grouping: Grouping) -> None:
    """Show the selected ``rows`` of ``table``, compared with all other rows, a value of the group column or a kept group."""
    st.header("Selected group")
    if rows is None:
        st.info(
            "Nothing is selected. Draw around points with the lasso (or hold Shift while dragging), or filter the legend and "
            "press “Select shown”.",
            icon=":material/lasso_select:",
        )
        return
    if len(rows) < grouping.floor:
        st.warning(
            f"Fewer than {grouping.floor} {grouping.unit} are selected: small groups are not shown.",
            icon=":material/visibility_off:",
        )
        return
    st.markdown(f"**{len(rows):,} {grouping.unit}**")
    chosen = table.select(list(grouping.listed)).take(pa.array(rows))
    if grouping.codes_of:
        _offer_listing(chosen["code"].to_pylist(), grouping.codes_of, grouping.page)
    _compare(table, rows, grouping)
    with st.expander(f"List of the {len(rows):,} selected {grouping.unit}"):
        cut_table(chosen.slice(0, _LISTED), key=f"{grouping.page}-listed")
        if len(rows) > _LISTED:
            st.caption(f"The first {_LISTED}; the files hold all.")
    lines = [*grouping.provenance, f"{len(rows)} {grouping.unit} selected"]
    export = Export(chosen, f"{grouping.file}-selection", lines, codes_of=grouping.codes_of)
    offer_exports(export, key=f"{grouping.page}-export")


def _offer_listing(codes: list[str], table: str, page: str) -> None:
    with st.container(horizontal=True):
        st.button("Add to my list", key=f"{page}-take", on_click=add_codes, args=(table, codes))
        st.button("Exclude from my list", key=f"{page}-leave", on_click=exclude_codes, args=(table, codes))


def _compare(table: pa.Table, rows: NDArray[np.intp], grouping: Grouping) -> None:
    others, against = _other(table, rows, grouping)
    if len(others) < grouping.floor:
        st.info(
            f"There are fewer than {grouping.floor} {grouping.unit} to compare with.", icon=":material/visibility_off:"
        )
        return
    st.caption(f"Compared with {len(others):,} {grouping.unit} of {against}.")
    left, right = st.columns(2)
    widths = {"value": st.column_config.TextColumn(width="medium")}
    widths |= {name: st.column_config.NumberColumn(format="percent") for name in ("share", "share in the other")}
    with left:
        st.markdown(f"**By {grouping.group_column.replace('_', ' ')}**")
        st.dataframe(
            shares(table[grouping.group_column], rows, others, floor=grouping.floor),
            hide_index=True,
            column_config=widths,
            height=280,
        )
    if grouping.text_column is None:
        return
    with right:
        st.markdown("**Words that are more frequent in this group**")
        found = terms(table[grouping.text_column], rows, others)
        if found.num_rows:
            st.dataframe(found, hide_index=True, column_config=widths, height=280)
        else:
            st.info("Nothing beyond chance.", icon=":material/balance:")
        st.caption(
            f"Words of more {grouping.unit} than chance explains, corrected for the number of words "
            f"(false discoveries below {FALSE_DISCOVERIES:.0%})."
        )


def _other(table: pa.Table, rows: NDArray[np.intp], grouping: Grouping) -> tuple[NDArray[np.intp], str]:
    kept = st.session_state.get(f"{grouping.page}-kept")
    counts = pc.value_counts(table[grouping.group_column].drop_null()).to_pylist()
    values = [item["values"] for item in counts if item["counts"] >= grouping.floor]
    choices = [_REST, *([_KEPT] if kept is not None else []), *sorted(values)]
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    against = left.selectbox("Compare with", choices, key=f"{grouping.page}-against")
    right.button(
        "Keep this group",
        on_click=_keep,
        args=(grouping.page, rows),
        help="Compare the next selection with this group.",
    )
    if against == _KEPT:
        others = np.asarray(kept)
    else:
        others = np.setdiff1d(np.arange(table.num_rows), rows)
        if against != _REST:
            others = others[table[grouping.group_column].to_numpy(zero_copy_only=False)[others] == against]
    return others, against


def _keep(page: str, rows: NDArray[np.intp]) -> None:
    st.session_state[f"{page}-kept"] = rows
