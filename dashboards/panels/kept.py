"""What a user chose: it is in the page's address, and goes along to other pages until the session ends.

Streamlit empties the address and forgets the widgets of a page that is left, so that each choice is kept here under its name:
ids of artifacts, a code, a column. Nothing typed is kept.
"""

from collections.abc import Collection

import streamlit as st

_MOST_NAMED = 6
_MOST_QUOTED = 80  # characters


def wanted(name: str, known: Collection[str]) -> str | None:
    """Return what the address names, else what was chosen earlier in the session; None where neither is known."""
    for found in (st.query_params.get(name), st.session_state.get(f"kept-{name}")):
        if found is not None and found in known:
            return str(found)
    return None


def say_absent_link(name: str, known: Collection[str], *, several: bool = False) -> None:
    """Say that the address names something that the store does not have; ``several`` for a list with commas."""
    asked = st.query_params.get(name) or ""
    absent = [one for one in (asked.split(",") if several else [asked]) if one and one not in known]
    if absent:
        names = ", ".join(map(quoted, absent[:_MOST_NAMED]))
        shown = "The others are shown." if several and set(asked.split(",")) & set(known) else "Another is shown."
        st.warning(
            f"The link asks for {names}, which {'is' if len(absent) == 1 else 'are'} not in this store. {shown}",
            icon=":material/link_off:",
        )


def quoted(text: str) -> str:
    """Return what a link says as code in Markdown: a link must not bring links, pictures or headings onto the page."""
    plain = " ".join(text.replace("`", "'").split())
    return f"`{plain[:_MOST_QUOTED]}{'…' if len(plain) > _MOST_QUOTED else ''}`"


def kept_list(name: str, known: Collection[str]) -> list[str]:
    """As ``wanted`` for a list with commas: what of it is known."""
    for found in (st.query_params.get(name), st.session_state.get(f"kept-{name}")):
        listed = [one for one in (found or "").split(",") if one in known]
        if listed:
            return listed
    return []


def keep(name: str, value: str | None) -> None:
    """Keep a choice, and put it into the address; None takes it out of both."""
    st.session_state[f"kept-{name}"] = value
    if value:
        st.query_params[name] = value
    elif name in st.query_params:
        del st.query_params[name]
