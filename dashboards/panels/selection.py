"""A selected group of rows: its list, its differences from another group, and its export."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import streamlit as st
from numpy.typing import NDArray

from panels.explain import shares, terms
from panels.export import as_csv

_REST = "everything else"
_KEPT = "the group that you kept"
_LISTED = 500


def show_selection(
    table: pa.Table, rows: NDArray[np.intp] | None, *, page: str, unit: str, group_column: str, listed: Sequence[str],
    text_column: str | None, lines: list[str], file: str, floor: int = 1,
) -> None:  # fmt: skip
    """Show the selected ``rows`` of ``table``, compared with all other rows, a value of ``group_column`` or a kept group.

    With ``floor`` above 1 neither a selection of fewer rows nor a count below it is shown.
    """
    st.subheader("Selected group")
    if rows is None:
        st.info(
            "Nothing is selected. Draw around points with the lasso (or hold Shift while dragging), or filter the legend and "
            "press “Select shown”.",
            icon=":material/lasso_select:",
        )
        return
    if len(rows) < floor:
        st.warning(
            f"Fewer than {floor} {unit} are selected: small groups are not shown.", icon=":material/visibility_off:"
        )
        return
    st.markdown(f"**{len(rows):,} {unit}**")
    _compare(table, rows, page=page, unit=unit, group_column=group_column, text_column=text_column, floor=floor)
    chosen = table.select(list(listed)).take(pa.array(rows))
    with st.expander(f"List of the {len(rows):,} selected {unit}"):
        st.dataframe(chosen.slice(0, _LISTED), hide_index=True)
        if len(rows) > _LISTED:
            st.caption(f"The first {_LISTED}; the export holds all.")
    st.download_button(
        "Export as CSV",
        # Made on demand: nothing is held in memory until then.
        data=lambda: as_csv(chosen, [*lines, f"{len(rows)} {unit} selected"]),
        file_name=f"{file}-selection.csv",
        mime="text/csv",
        icon=":material/download:",
        on_click="ignore",
    )


def _compare(
    table: pa.Table, rows: NDArray[np.intp], *, page: str, unit: str, group_column: str, text_column: str | None, floor: int
) -> None:  # fmt: skip
    others, against = _other(table, rows, page=page, group_column=group_column, floor=floor)
    if len(others) < floor:
        st.info(f"There are fewer than {floor} {unit} to compare with.", icon=":material/visibility_off:")
        return
    st.caption(f"Compared with {len(others):,} {unit} of {against}.")
    left, right = st.columns(2)
    widths: dict[str, Any] = {"value": st.column_config.TextColumn(width="medium")}
    widths |= {name: st.column_config.NumberColumn(format="percent") for name in ("share", "share in the other")}
    with left:
        st.markdown(f"**By {group_column.replace('_', ' ')}**")
        st.dataframe(
            shares(table[group_column], rows, others, floor=floor), hide_index=True, column_config=widths, height=280
        )
    if text_column is None:
        return
    with right:
        st.markdown("**Words that are more frequent in this group**")
        z = {"z": st.column_config.NumberColumn(format="%.1f")}
        st.dataframe(terms(table[text_column], rows, others), hide_index=True, column_config=z, height=280)
        st.caption("z: log-odds against the other group, in standard errors. Words above 1.96 are listed.")


def _other(
    table: pa.Table, rows: NDArray[np.intp], *, page: str, group_column: str, floor: int
) -> tuple[NDArray[np.intp], str]:
    kept = st.session_state.get(f"{page}-kept")
    counts = pc.value_counts(table[group_column].drop_null()).to_pylist()
    values = [item["values"] for item in counts if item["counts"] >= floor]
    choices = [_REST, *([_KEPT] if kept is not None else []), *sorted(values)]
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    against = left.selectbox("Compare with", choices, key=f"{page}-against")
    right.button(
        "Keep this group", on_click=_keep, args=(page, rows), help="Compare the next selection with this group."
    )
    if against == _KEPT:
        others = np.asarray(kept)
    else:
        others = np.setdiff1d(np.arange(table.num_rows), rows)
        if against != _REST:
            others = others[table[group_column].to_numpy(zero_copy_only=False)[others] == against]
    return others, against


def _keep(page: str, rows: NDArray[np.intp]) -> None:
    st.session_state[f"{page}-kept"] = rows
