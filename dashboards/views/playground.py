"""Try the model."""

import streamlit as st

from views.reading import store_or_stop


def page() -> None:
    """Show the page."""
    st.title("Try the model")
    store = store_or_stop()
    st.info(f"There is nothing in {store.uri} yet.", icon=":material/inbox:")


if __name__ == "__main__":
    page()
