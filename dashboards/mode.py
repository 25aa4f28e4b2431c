"""Two modes: clinicians (the default) see codes and plain words; researchers also see the internals of runs and every figure.

A mode changes what is shown; it is not a permission: every user of the explorer may choose either. ``?mode=researcher`` in a
link, or ``EXPLORER_MODE=researcher`` in the environment of a deployment, starts in researcher mode.
"""

import os

import streamlit as st

_MODES = {"clinician": "Clinician", "researcher": "Researcher"}


def choose_mode() -> bool:
    """Show the choice in the sidebar and return whether researcher mode is on."""
    if "mode" not in st.session_state:
        asked = st.query_params.get("mode") or os.environ.get("EXPLORER_MODE", "")
        st.session_state["mode"] = asked if asked in _MODES else "clinician"
    st.sidebar.radio(
        "Show for",
        list(_MODES),
        key="mode",
        horizontal=True,
        format_func=_MODES.__getitem__,
        help="Researchers also see training runs, sweeps and the details of every figure.",
    )
    # So that a copied link opens in the same mode.
    if is_researcher():
        if st.query_params.get("mode") != "researcher":
            st.query_params["mode"] = "researcher"
    elif "mode" in st.query_params:
        del st.query_params["mode"]
    return is_researcher()


def is_researcher() -> bool:
    """Return whether researcher mode is on."""
    return bool(st.session_state.get("mode") == "researcher")


def offer_researcher(title: str) -> None:
    """Say why a page of run internals is hidden, and offer to switch the mode."""
    st.title(title)
    st.info(
        "This page shows the internals of training runs. It is part of researcher mode.", icon=":material/lock_open:"
    )
    st.button("Switch to researcher mode", on_click=_become_researcher)


def _become_researcher() -> None:
    st.session_state["mode"] = "researcher"
