"""A map on a page: the symbol of each point, the chosen row, the selected area, and the link that restores them.

The points are sent to the browser once (``component``). The chosen row and the selected area are kept in the session and in the
page's address: row ids of the artifact and corners on the map, never typed text.
"""

import base64
import binascii
import re
import secrets
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import streamlit as st
from code_lists import CodeList
from component import (
    MOST_GROUPS,
    Area,
    Hands,
    KeptList,
    Labels,
    Mark,
    Meaning,
    News,
    companion,
    encode_points,
    places,
    point_map,
    rows_inside,
)
from numpy.typing import NDArray

from panels.kept import keep, quoted

_TEXTS_AT_ONCE = 64
_OTHERS = "all other groups"
_NO_VALUE = "no value"

Texts = Callable[[Sequence[int]], dict[int, list[str]]]


@dataclass(frozen=True, slots=True)
class Points:
    """The points of one map as sent to the browser."""

    places_N2: NDArray[np.uint16]
    groups_N: NDArray[np.uint8]
    names: tuple[str, ...]
    """Of the groups."""
    data: bytes
    name: str
    """Of the map on its page."""


def make_points(table: pa.Table, groups: pa.Array, labels: Labels, *, search: bytes = b"") -> Points:
    """Return the points of ``table`` (columns ``x`` and ``y``), coloured by ``groups``, a dictionary array of their names.

    ``search`` is what the search box of the map reads; without it there is none.
    """
    places_N2 = places(table["x"].to_numpy(), table["y"].to_numpy())
    names = tuple(groups.dictionary.to_pylist())
    groups_N = groups.indices.to_numpy(zero_copy_only=False).astype(np.uint8)
    return Points(places_N2, groups_N, names, encode_points(places_N2, groups_N, names, labels, search), labels.name)


def grouped(values: pa.ChunkedArray, *, floor: int = 1) -> pa.Array:
    """Return ``values`` as a dictionary array with a symbol for each value: sorted by name, the smallest merged.

    Values with fewer than ``floor`` rows are always merged, so that no symbol names a small group.
    """
    filled = pc.fill_null(pc.cast(values, pa.string()), _NO_VALUE).combine_chunks()
    counts = {item["values"]: item["counts"] for item in pc.value_counts(filled).to_pylist()}
    large = sorted((name for name in counts if counts[name] >= floor), key=lambda name: (-counts[name], name))
    kept = sorted(large if len(large) == len(counts) <= MOST_GROUPS else large[: MOST_GROUPS - 1])
    names = kept if len(kept) == len(counts) else [*kept, _OTHERS]
    index = pc.fill_null(pc.index_in(filled, pa.array(kept, pa.string())), len(kept))
    return pa.DictionaryArray.from_arrays(pc.cast(index, pa.int32()), pa.array(names, pa.string()))


@dataclass(frozen=True, slots=True)
class Search:
    """What the search box of a map needs of its page."""

    add: Callable[[list[int]], None]
    """Puts entries of the code table on the user's list."""
    exclude: Callable[[list[int]], None]
    """Excludes entries of the code table from that list."""
    restore: Callable[[list[str], list[str]], None]
    """Takes the codes and the excluded codes of a list that the browser kept."""
    table: str
    listed: CodeList
    ask: Callable[[str], None] | None = None
    """Takes the phrase that the user wants to be searched by meaning."""
    meaning: Meaning | None = None


def show_points(
    points: Points, *, page: str, texts: Texts, marks: Sequence[Mark] = (), search: Search | None = None
) -> None:
    """Show a map. The user's choice and selection are kept under ``page``."""
    key = f"{page}-{points.name}"

    def chosen() -> None:
        row = st.session_state[key]["chosen"]
        if row is not None:
            choose(page, int(row))

    def area() -> None:
        found = st.session_state[key]["area"]
        if found is not None:
            st.session_state[f"{page}-area"] = {**found, "map": points.name}

    def listed() -> None:
        found = st.session_state[key]["list"]
        if found is None or search is None:
            return
        if "kept" in found:
            search.restore(found["kept"]["codes"], found["kept"]["excluded"])
        else:
            (search.exclude if found["out"] else search.add)(found["entries"])

    def meaning() -> None:
        found = st.session_state[key]["meaning"]
        if found is not None and search and search.ask:
            search.ask(found["phrase"])

    def keep_wanted() -> None:
        rows = st.session_state[f"{key}-companion"]["wanted"] or []
        st.session_state[f"{key}-wanted"] = [row for row in rows[:_TEXTS_AT_ONCE] if 0 <= row < len(points.groups_N)]

    session = st.session_state.setdefault("session", secrets.token_hex(8))
    kept = [KeptList(session, search.table, search.listed.codes, sorted(search.listed.excluded))] if search else []

    @st.fragment
    def follow() -> None:
        # A fragment: hovering over a point fetches its text without running the rest of the page, and without sending the list.
        news = News(
            marks=marks,
            texts=texts(st.session_state.get(f"{key}-wanted", [])),
            area=_own_area(page, points.name),
            listed=search and len(search.listed.included),
            kept=kept.pop() if kept else None,
            meaning=search and search.meaning,
        )
        companion(points.name, key=f"{key}-companion", news=news, on_wanted=keep_wanted)

    with st.container(gap=None):
        point_map(points.data, key=key, hands=Hands(chosen=chosen, area=area, listed=listed, meaning=meaning))
        follow()


def _own_area(page: str, name: str) -> Area:
    # Corners are positions on the map on which they were drawn; linked maps take its rows, in the browser.
    area: Area = st.session_state.get(f"{page}-area") or {}
    if not area or area.get("map", name) != name:
        return {"turn": -1}
    return {key: value for key, value in area.items() if key != "map"}


def choose(page: str, row: int | None) -> None:
    """Show the card of ``row``."""
    st.session_state[f"{page}-row"] = row


@contextmanager
def card(page: str) -> Iterator[None]:
    """Show what the block writes as the card of the chosen row: on a phone a sheet over the page, with a button to close it."""
    with st.container(key="card"):
        yield
        st.button("Close", key="card-close", on_click=choose, args=(page, None))


def chosen_row(page: str) -> int | None:
    """Return the row whose card is shown."""
    row: int | None = st.session_state.get(f"{page}-row")
    return row


def selected_rows(points: Points, page: str) -> NDArray[np.intp] | None:
    """Return the rows of the selected area, or None where nothing is selected."""
    area = st.session_state.get(f"{page}-area")
    if not area or "areas" not in area:
        return None
    return rows_inside(points.places_N2, points.groups_N, area["areas"])


def map_with_area(maps: Sequence[Points], page: str) -> Points:
    """Return the map on which the selected area was drawn; the first where there is no area."""
    area = st.session_state.get(f"{page}-area") or {}
    return next((points for points in maps if points.name == area.get("map")), maps[0])


def belong(page: str, maps: str, points: Points) -> None:
    """Forget the chosen row and the selected area of a map that is no longer shown: on another they would mean something else.

    Another was chosen, or ``maps`` (their ids) were rebuilt or deleted. ``restore_code`` looks the code up again.
    """
    shown = maps, points.name
    before = st.session_state.get(f"{page}-of")
    st.session_state[f"{page}-of"] = shown
    if before not in (None, shown):
        st.session_state.pop(f"{page}-row", None)
        st.session_state[f"{page}-area"] = None
        st.session_state["code-chosen-on"] = None
        for other in ("code", "area"):
            if other in st.query_params:
                del st.query_params[other]


def restore_area(page: str, *, on: Points) -> None:
    """Take the area selected on a map from the address, once a session, and say so where it cannot be read."""
    if f"{page}-area" not in st.session_state:
        word = st.query_params.get("area", "")
        found = read_area(word)
        st.session_state[f"{page}-area"] = found and {**found, "map": on.name}
        if word and found is None:
            say_absent(page, "The link's selected area cannot be read.")


def restore_code(page: str, codes: pa.ChunkedArray, *, table: str, where: str) -> None:
    """Choose the code that the address names, once a session, or the code that was last chosen on another map or page.

    A code that is not among ``codes`` is said to be not on ``where``. V45.01 is one code in ICD-9-CM and another in ICD-10-CM, so
    only a code of the same ``table`` comes along.
    """
    linked = st.query_params.get("code") if f"{page}-row" not in st.session_state else None
    elsewhere = st.session_state.get("code-chosen-on", page) != page and st.session_state.get("code-table") == table
    code = linked or (st.session_state["kept-code"] if elsewhere else None)
    if not code:
        st.session_state.setdefault(f"{page}-row", None)
        return
    row = pc.index(codes, code).as_py()
    choose(page, row if row >= 0 else None)
    if row < 0:
        origin = "The link names" if linked else "You chose"
        say_absent(page, f"{origin} the code {quoted(code)}, which is not on {where}.")


def refuse_absent(
    page: str, name: str, known: Container[str], *, with_it: Sequence[str], why: str = "is not in this store"
) -> None:
    """Where the address names an artifact that is not ``known``, say ``why`` and drop what belongs to it.

    Codes and corners of one picture mean something else on another.
    """
    asked = st.query_params.get(name)
    if asked and asked not in known:
        say_absent(page, f"The link asks for {quoted(asked)}, which {why}. Another one is shown.")
        for other in (name, *with_it):
            if other in st.query_params:
                del st.query_params[other]


def say_absent(page: str, text: str) -> None:
    """Keep a message about a link for the rest of the session."""
    said: list[str] = st.session_state.setdefault(f"{page}-absent", [])
    if text not in said:
        said.append(text)


def show_absent(page: str) -> None:
    """Show what a link asked for in vain, until the user closes the message."""
    said: list[str] = st.session_state.get(f"{page}-absent", [])
    if said:
        st.warning(" ".join(said), icon=":material/link_off:")
        st.button("Close the message", key=f"{page}-absent-close", on_click=said.clear)


def keep_in_address(page: str, **ids: str | None) -> None:
    """Put ids of artifacts, and the selected area, into the page's address."""
    for name, value in {**ids, "area": write_area(st.session_state.get(f"{page}-area"))}.items():
        keep(name, value)


def keep_code(page: str, code: str | None, *, table: str) -> None:
    """Put the chosen code into the address, and take it along to the other maps of its code table."""
    keep("code", code)
    st.session_state["code-chosen-on"], st.session_state["code-table"] = page, table


def write_area(area: Area | None) -> str | None:
    """Return a selection as a short string for the address.

    Each area has the hidden groups, then the corners. Those after the first follow ``~a`` where they add, ``~s`` where they
    subtract.
    """
    if not area or "areas" not in area:
        return None
    words = [_write_one(one) for one in area["areas"]]
    signs = ["", *("~s" if one["out"] else "~a" for one in area["areas"][1:])]
    return "".join(f"{sign}{word}" for sign, word in zip(signs, words, strict=True))


def read_area(word: str) -> Area | None:
    """Return the selection that ``write_area`` wrote, or None for anything else."""
    found = [_read_one(one) for one in re.split("~[as]", word)]
    if None in found:
        return None
    outs = [False, *(sign == "~s" for sign in re.findall("~[as]", word))]
    areas = [{**one, "out": out} for one, out in zip(found, outs, strict=True) if one is not None]
    return {"turn": 0, "areas": areas}


def _write_one(area: Mapping[str, Any]) -> str:
    hidden = bytes([len(area["hidden"]), *area["hidden"]])
    return base64.urlsafe_b64encode(hidden + np.asarray(area["corners"], "<u2").tobytes()).decode().rstrip("=")


def _read_one(word: str) -> dict[str, Any] | None:
    try:
        raw = base64.urlsafe_b64decode(word + "=" * (-len(word) % 4))
    except (binascii.Error, ValueError):
        return None
    if not raw or len(raw) < 1 + raw[0] or (len(raw) - 1 - raw[0]) % 4:
        return None
    corners = np.frombuffer(raw[1 + raw[0] :], "<u2").tolist()
    return {"corners": corners, "hidden": list(raw[1 : 1 + raw[0]])}
