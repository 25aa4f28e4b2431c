"""The explorer: ``streamlit run dashboards/explorer.py [-- --root URI]``, or ``make explore``.

It reads finished artifacts and shows them: it loads no model, computes no projection and writes nothing. The store is given by
``--root`` after a bare ``--``, else by ``ARTIFACT_ROOT``, else it is ``./artifacts``.
"""

import streamlit as st


def main() -> None:
    """Show the page that the address names, below the banner that every page carries."""
    st.set_page_config(page_title="Clinical ModernBERT explorer", layout="wide")
    # No icons on pages: the browser would fetch them, as favicons, from a public font service.
    pages = [
        st.Page("views/code_map.py", title="Code map", default=True),
        st.Page("views/embeddings.py", title="Embeddings", url_path="embeddings"),
        st.Page("views/compare.py", title="Compare", url_path="compare"),
        st.Page("views/lineage.py", title="Lineage", url_path="lineage"),
    ]
    page = st.navigation(pages)
    st.warning("Research use, not for care.", icon=":material/science:")
    page.run()


if __name__ == "__main__":
    main()
