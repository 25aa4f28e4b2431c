"""Lists in the store: the current one is saved, another is opened or compared, and a link opens one.

A link holds the id of a saved list, which is a hash: no name, no code and nothing else that was typed.
"""

import re
from collections.abc import Callable, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import streamlit as st
from audit import NO_LOGIN, record, user_name
from clinical_modernbert.artifacts import Store
from clinical_modernbert.errors import ArtifactError, StoreError, UserError
from code_lists import CodeList, SavedList, compared, list_ids, make_saved, read_list, save_list
from store import each, store_or_stop

from panels.export import Export, offer_exports
from panels.kept import keep

_ID = re.compile(r"[0-9a-f]{12}")
_TITLES = {"icd9cm": "ICD-9-CM", "icd10cm": "ICD-10-CM"}
_NAMES_S = 10

Take = Callable[[CodeList], None]


def show_saved(listed: CodeList, whole: pa.Table, table: str, *, provenance: Sequence[str], take: Take) -> None:
    """Show the field that saves ``listed``, and the saved lists of the code table. An opened list is passed to ``take``."""
    store = store_or_stop()
    open_, problems = _restored(store, table, take)
    with st.expander("Save, open and compare lists", expanded=open_):
        for problem in problems:
            st.warning(problem, icon=":material/link_off:")
        if listed.codes:
            _show_saving(store, listed, table, provenance)
        saved, damaged = _all_saved(store, store.uri, table, _ids(store, store.uri, table))
        for text in damaged:
            st.error(text, icon=":material/broken_image:")
        if saved:
            _show_one(saved, listed, whole, take)
        else:
            st.caption("No list of this code table is saved yet.")
    same = saved_as(table, listed)
    keep("list", f"{table}-{same[0]}" if same else None)


def _show_saving(store: Store, listed: CodeList, table: str, provenance: Sequence[str]) -> None:
    author = user_name(st.context.headers)
    if author is None:
        st.info("Lists are saved for logged-in users, and the login proxy sent no user name.", icon=":material/lock:")
        return
    left, right = st.columns([4, 1], vertical_alignment="bottom")
    left.text_input("Name of the list", key="list-name", max_chars=80, placeholder="diabetes with kidney disease")
    right.button("Save", key="list-save", on_click=_save, args=(store, listed, table, author, tuple(provenance)))
    said = st.session_state.pop("list-said", None)
    if said:
        st.markdown(said)


def _save(store: Store, listed: CodeList, table: str, author: str, provenance: Sequence[str]) -> None:
    known = "an unknown user (no login)" if author == NO_LOGIN else author
    name = st.session_state.get("list-name", "")
    try:
        saved = make_saved(listed, name=name, table=table, author=known, provenance=provenance)
        list_id = save_list(store, saved)
    except (StoreError, OSError) as error:
        said = f"The list is not saved. The explorer needs the right to write `list/`; the store says: {error}"
    except UserError as error:
        said = str(error)
    else:
        record("save list", who=author, what=f"list/{table}/{list_id}")
        _ids.clear()
        st.session_state[f"saved-{table}"] = list_id, saved
        said = f"Saved as `{list_id}`. The page's address now opens this list."
    st.session_state["list-said"] = said


def _show_one(saved: dict[str, SavedList], listed: CodeList, whole: pa.Table, take: Take) -> None:
    chosen = st.selectbox(
        f"Saved lists ({len(saved):,})",
        list(saved),
        index=None,
        key="list-saved",
        placeholder="Choose one to open or compare it",
        format_func=lambda list_id: _title(saved[list_id]),
    )
    if chosen is None:
        return
    other = saved[chosen]
    st.text("\n".join(other.lines))
    st.button("Open as my list", key="list-open", on_click=_open, args=(other, chosen, take))
    if not listed.codes:
        return
    parts = compared(listed, other.content)
    st.markdown(
        f"**Compared with my list:** {len(parts['both']):,} codes on both, {len(parts['first']):,} on mine only, "
        f"{len(parts['second']):,} on the saved one only."
    )
    where = {"both": "both", "first": "my list only", "second": "saved list only"}
    lines = [(code, where[part]) for part in ("first", "second", "both") for code in parts[part]]
    codes = pa.array([code for code, _ in lines], pa.string())
    rows = pc.index_in(codes, value_set=whole["code"].combine_chunks())
    table = pa.table({"code": codes, "description": whole["description"].take(rows), "on": [part for _, part in lines]})
    st.dataframe(table, hide_index=True, height=240)
    origin = [f"my list compared with: {line}" for line in other.lines[:1]]
    offer_exports(Export(table, f"compared-{chosen}", origin), key="compared-export")


def _open(saved: SavedList, list_id: str, take: Take) -> None:
    take(saved.content)
    st.session_state[f"saved-{saved.table}"] = list_id, saved


def _restored(store: Store, table: str, take: Take) -> tuple[bool, list[str]]:
    """Open the list that the address names, once a session; return whether to show it, and what cannot be opened."""
    asked = st.query_params.get("list")
    if "list-restored" in st.session_state or not asked:
        st.session_state.setdefault("list-restored", "")
        said = st.session_state["list-restored"]
        return bool(said), [said] if said else []
    st.session_state["list-restored"] = ""
    of_table, _, list_id = asked.partition("-")
    try:
        if of_table not in _TITLES or not _ID.fullmatch(list_id):
            raise KeyError(asked)
        saved = read_list(store, of_table, list_id)
    except (KeyError, ArtifactError):
        said = "The link asks for a saved list that is not in this store."
    else:
        if saved.table == table:
            _open(saved, list_id, take)
            st.rerun()
        said = f"The link's list is of {_TITLES[of_table]} codes: choose a map of that table and open it there."
    st.session_state["list-restored"] = said
    return True, [said]


def saved_as(table: str, listed: CodeList) -> tuple[str, SavedList] | None:
    """Return the id and the saved list that ``listed`` is, if it was saved or opened and not changed since."""
    found: tuple[str, SavedList] | None = st.session_state.get(f"saved-{table}")
    return found if found and found[1].content == listed else None


@st.cache_resource(ttl=_NAMES_S, max_entries=8, show_spinner=False)
def _ids(_store: Store, uri: str, table: str) -> tuple[str, ...]:
    return tuple(list_ids(_store, table))


@st.cache_resource(max_entries=8, show_spinner="Reading the saved lists")
def _all_saved(_store: Store, uri: str, table: str, ids: Sequence[str]) -> tuple[dict[str, SavedList], list[str]]:
    """Return the saved lists by id, newest first, and what is wrong with files that are none."""
    found: dict[str, SavedList] = {}
    damaged: list[str] = []
    for list_id, saved in zip(ids, each(_store, lambda one: _read(_store, table, one), ids), strict=True):
        if isinstance(saved, SavedList):
            found[list_id] = saved
        elif saved:
            damaged.append(saved)
    return dict(sorted(found.items(), key=lambda item: item[1].saved_at, reverse=True)), damaged


def _read(store: Store, table: str, list_id: str) -> SavedList | str:
    """Return a list, or what is wrong with its file; empty where it was deleted."""
    try:
        return read_list(store, table, list_id)
    except ArtifactError as error:
        return str(error)
    except KeyError:
        return ""


def _title(saved: SavedList) -> str:
    out = f", {len(saved.excluded):,} excluded" if saved.excluded else ""
    return f"{saved.name} ({len(saved.content.included):,} codes{out}; {saved.author}, {saved.saved_at[:10]})"
