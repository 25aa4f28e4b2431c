"""The first rows of a longer table. Streamlit's own download button is hidden: its file would be cut."""

from typing import Any

import streamlit as st

STYLE = "<style>[class*='st-key-cut-'] [data-testid='stElementToolbar'] {display: none}</style>"
"""For the head of every page."""


def cut_table(rows: Any, *, key: str, **settings: Any) -> None:
    """Show the rows of a cut table; ``settings`` are those of ``st.dataframe``."""
    with st.container(key=f"cut-{key}"):
        st.dataframe(rows, key=key, hide_index=True, **settings)
