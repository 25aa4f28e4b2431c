"""The user's list of codes: made from searches, selections and cards, undone step by step, mapped and exported.

There is one list for each code table, in the session, for all pages. It holds codes and nothing that was typed.
"""

from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import streamlit as st

from panels.export import Export, offer_exports

_STEPS = 20
_OTHER = {"icd9cm": "ICD-10-CM", "icd10cm": "ICD-9-CM"}
_APPROXIMATE = " (approximately)"


def listed_codes(table: str) -> tuple[str, ...]:
    """Return the codes on the list of a code table, in the order in which they were added."""
    steps: list[tuple[str, ...]] = st.session_state.get(f"list-{table}", [()])
    return steps[-1]


def add_codes(table: str, codes: Iterable[str]) -> None:
    """Add codes at the end of the list; those that it has stay where they are."""
    _step(table, tuple(dict.fromkeys([*listed_codes(table), *codes])))


def remove_codes(table: str, codes: Iterable[str]) -> None:
    """Take codes off the list."""
    gone = set(codes)
    _step(table, tuple(code for code in listed_codes(table) if code not in gone))


def undo(table: str) -> None:
    """Return to the list before the last change; the last 20 are kept."""
    steps = st.session_state.get(f"list-{table}", [()])
    st.session_state[f"list-{table}"] = steps[:-1] or [()]


def _step(table: str, codes: tuple[str, ...]) -> None:
    steps = st.session_state.get(f"list-{table}", [()])
    if codes != steps[-1]:
        st.session_state[f"list-{table}"] = [*steps, codes][-_STEPS - 1 :]


def show_list(whole: pa.Table, table: str, *, provenance: Sequence[str], file: str) -> None:
    """Show the list with its changes, its mapping to the other ICD version and its files; ``whole`` is the code table."""
    codes = listed_codes(table)
    steps = len(st.session_state.get(f"list-{table}", [()])) - 1
    st.subheader(f"My list: {len(codes):,} codes")
    if not codes:
        st.caption("Search, then press + at a code or a category, or “Add all to list”; or select a group and add it.")
        if steps:
            st.button("Undo", key="list-undo", on_click=undo, args=(table,), icon=":material/undo:")
        return
    rows = pc.index_in(pa.array(codes, pa.string()), value_set=whole["code"].combine_chunks()).drop_null()
    shown = whole.select(["code", "description", "chapter_id", "chapter"]).take(rows)
    event = st.dataframe(
        shown,
        key=f"list-shown-{hash(codes)}",
        hide_index=True,
        selection_mode="multi-row",
        on_select="rerun",
        height=280,
    )
    chosen = shown["code"].take(pa.array(event["selection"]["rows"], pa.int32())).to_pylist()
    with st.container(horizontal=True):
        st.button(
            f"Remove {len(chosen)} chosen",
            key="list-remove",
            disabled=not chosen,
            on_click=remove_codes,
            args=(table, chosen),
        )
        st.button("Undo", key="list-undo", disabled=not steps, on_click=undo, args=(table,), icon=":material/undo:")
        st.button("Clear", key="list-clear", on_click=remove_codes, args=(table, codes))
    lines = [*provenance, f"a list of {len(codes)} codes, chosen by its user"]
    offer_exports(Export(shown, f"{file}-list", lines, codes_of=table), key="list-export")
    with st.expander(f"The list in {_OTHER[table]}"):
        mapped = mapped_codes(whole.take(rows))
        missing = pc.sum(pc.is_null(mapped["counterpart"])).as_py() or 0
        st.dataframe(mapped, hide_index=True)
        st.caption(
            "By CMS's General Equivalence Mappings. A code with several counterparts has a line for each; approximate ones are "
            f"marked. {missing:,} codes have none."
        )
        offer_exports(Export(mapped, f"{file}-list-mapped", lines), key="mapped-export")


def mapped_codes(chosen: pa.Table) -> pa.Table:
    """Return a line for each counterpart of each code, and one without a counterpart where there is none."""
    lines = [
        (
            code,
            description,
            other and other.removesuffix(_APPROXIMATE),
            bool(other and other.endswith(_APPROXIMATE)),
            len(others),
        )
        for code, description, others in zip(
            *(chosen[name].to_pylist() for name in ("code", "description", "crosswalk")), strict=True
        )
        for other in (others or [None])
    ]
    columns = list(zip(*lines, strict=True)) or [()] * 5
    names = ("code", "description", "counterpart", "approximate", "counterparts of the code")
    types = (pa.string(), pa.string(), pa.string(), pa.bool_(), pa.int64())
    return pa.table({name: pa.array(column, type_) for name, column, type_ in zip(names, columns, types, strict=True)})
