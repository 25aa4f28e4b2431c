"""The user's list of codes: made from searches, selections and cards, undone step by step, mapped, saved and exported.

There is one list for each code table, in the session, for all pages. It holds codes and nothing that was typed.
"""

from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import streamlit as st
from code_lists import CodeList

from panels.export import Export, offer_exports
from panels.saved_lists import saved_as, show_saved

_STEPS = 20
_OTHER = {"icd9cm": "ICD-10-CM", "icd10cm": "ICD-9-CM"}
_OTHER_TABLE = {"icd9cm": "icd10cm", "icd10cm": "icd9cm"}
_APPROXIMATE = " (approximately)"
_COLUMNS = ("code", "description", "chapter_id", "chapter")


def current_list(table: str) -> CodeList:
    """Return the list of a code table."""
    return _steps(table)[-1]


def set_list(table: str, codes: CodeList) -> None:
    """Replace the list; the last 20 are kept for ``undo``."""
    steps = _steps(table)
    if codes != steps[-1]:
        st.session_state[f"list-{table}"] = [*steps, codes][-_STEPS - 1 :]


def add_codes(table: str, codes: Iterable[str]) -> None:
    """Add codes at the end of the list; those that it has stay where they are."""
    set_list(table, current_list(table).include(codes))


def exclude_codes(table: str, codes: Iterable[str]) -> None:
    """Exclude codes, on the list or not."""
    set_list(table, current_list(table).exclude(codes))


def remove_codes(table: str, codes: Iterable[str]) -> None:
    """Take codes off the list."""
    set_list(table, current_list(table).remove(codes))


def restore_list(table: str, whole: pa.Table, codes: Iterable[str], excluded: Iterable[str]) -> None:
    """Take the list that the browser kept, of codes of the table ``whole``, unless this session has changed its own."""
    if len(_steps(table)) == 1:
        known = set(whole["code"].to_pylist())
        listed = tuple(code for code in dict.fromkeys(codes) if code in known)
        set_list(table, CodeList(listed, frozenset(excluded) & frozenset(listed)))


def undo(table: str) -> None:
    """Return to the list before the last change."""
    st.session_state[f"list-{table}"] = _steps(table)[:-1] or [CodeList()]


def _steps(table: str) -> list[CodeList]:
    steps: list[CodeList] = st.session_state.get(f"list-{table}", [CodeList()])
    return steps


def show_list(whole: pa.Table, table: str, *, provenance: Sequence[str], file: str) -> None:
    """Show the list with its files, its changes, its mapping to the other ICD version, and saved lists.

    ``whole`` is the code table.
    """
    listed = current_list(table)
    with st.container(key="my-list"):
        out = f", {len(listed.excluded):,} excluded" if listed.excluded else ""
        count = len(listed.included)
        st.header(f"My list: {count:,} {'code' if count == 1 else 'codes'}{out}")
        if listed.codes:
            _show_codes(whole, table, provenance=provenance, file=file)
        else:
            st.caption(
                "Search, then press + at a code or a category, or “Add all to list”; or select a group and add it."
            )
            if len(_steps(table)) > 1:
                st.button("Undo", key="list-undo", on_click=undo, args=(table,), icon=":material/undo:")
        show_saved(listed, whole, table, provenance=provenance, take=lambda codes: set_list(table, codes))


def _show_codes(whole: pa.Table, table: str, *, provenance: Sequence[str], file: str) -> None:
    listed = current_list(table)
    known = rows_of_codes(whole, listed.codes)
    shown = known.select(list(_COLUMNS))
    unknown = shown.filter(pc.is_null(shown["description"]))["code"].to_pylist()
    if unknown:
        st.warning(
            f"Not in the map's code table ({len(unknown):,}): {', '.join(unknown[:20])}"
            + (" and others" if len(unknown) > 20 else ""),
            icon=":material/help:",
        )
    if listed.excluded:
        excluded = pc.is_in(shown["code"], value_set=pa.array(sorted(listed.excluded), pa.string()))
        shown = shown.append_column("excluded", excluded)
    saved = saved_as(table, listed)
    origin = saved[1].lines[0] if saved else "chosen by its user"
    lines = [*provenance, f"a list of {len(listed.included)} codes, {origin}"]
    if listed.excluded:
        lines.append(f"{len(listed.excluded)} codes are excluded, and in no file of codes only")
    offer_exports(Export(shown, f"{file}-list", lines, codes_of=table), key="list-export")
    event = st.dataframe(
        shown,
        key=f"list-shown-{hash(listed)}",
        hide_index=True,
        selection_mode="multi-row",
        on_select="rerun",
        height=280,
    )
    _offer_changes(table, shown["code"].take(pa.array(event["selection"]["rows"], pa.int32())).to_pylist())
    with st.expander(f"The list in {_OTHER[table]}"):
        in_list = pc.is_in(known["code"], value_set=pa.array(listed.included, pa.string()))
        mapped = mapped_codes(known.filter(in_list))
        missing = pc.sum(pc.is_null(mapped["counterpart"])).as_py() or 0
        st.dataframe(mapped, hide_index=True)
        st.caption(
            "By CMS's General Equivalence Mappings. A code with several counterparts has a line for each; approximate ones are "
            f"marked. {missing:,} codes have none."
        )
        counterparts = mapped["counterpart"].drop_null().unique().to_pylist()
        st.button(
            f"Add these {len(counterparts):,} codes to my list of {_OTHER[table]}",
            key="list-carry",
            disabled=not counterparts,
            on_click=add_codes,
            args=(_OTHER_TABLE[table], counterparts),
        )
        offer_exports(Export(mapped, f"{file}-list-mapped", lines), key="mapped-export")


def _offer_changes(table: str, chosen: list[str]) -> None:
    """Show the changes to the chosen lines."""
    steps, listed = _steps(table), current_list(table)
    back = bool(chosen) and listed.excluded.issuperset(chosen)
    again = listed.remove(chosen).include(chosen) if back else listed.exclude(chosen)
    with st.container(horizontal=True):
        words = "Include" if back else "Exclude"
        st.button(
            f"{words} {len(chosen)} chosen" if chosen else words,
            key="list-exclude",
            disabled=not chosen,
            on_click=set_list,
            args=(table, again),
            help="An excluded code stays out, also when its category is added later.",
        )
        st.button(
            f"Remove {len(chosen)} chosen" if chosen else "Remove",
            key="list-remove",
            disabled=not chosen,
            on_click=remove_codes,
            args=(table, chosen),
        )
        st.button(
            "Undo", key="list-undo", disabled=len(steps) < 2, on_click=undo, args=(table,), icon=":material/undo:"
        )
        st.button("Clear", key="list-clear", on_click=remove_codes, args=(table, listed.codes))


def rows_of_codes(whole: pa.Table, codes: Sequence[str]) -> pa.Table:
    """Return the rows of ``codes`` in the code table; a code that it lacks has a row without a description."""
    asked = pa.array(codes, pa.string())
    rows = pc.index_in(asked, value_set=whole["code"].combine_chunks())
    return whole.take(rows).set_column(whole.column_names.index("code"), "code", asked)


def mapped_codes(chosen: pa.Table) -> pa.Table:
    """Return a line for each counterpart of each code, and one without a counterpart where there is none."""
    lines = [
        (
            code,
            description,
            other and other.removesuffix(_APPROXIMATE),
            bool(other and other.endswith(_APPROXIMATE)),
            len(others or ()),
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
