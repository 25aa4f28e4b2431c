"""The explorer: ``streamlit run dashboards/explorer.py [-- --root URI]``, or ``make explore``.

It shows finished artifacts. It loads no model, computes no projection and writes nothing but the lists that users save. The
store is given by ``--root`` after a bare ``--``, else by ``ARTIFACT_ROOT``, else it is ``./artifacts``.
"""

import streamlit as st
from clinical_modernbert.errors import ArtifactError, StoreError
from mode import choose_mode, offer_researcher
from panels.cut_table import STYLE
from store import show_problems, show_store_error

# No icons on pages: the browser would fetch them, as favicons, from a public font service.
_MAPS = (
    ("views/code_map.py", "Code map", ""),
    ("views/compare.py", "Compare", "compare"),
    ("views/embeddings.py", "Embeddings", "embeddings"),
)
_MODEL = (
    ("views/playground.py", "Try the model", "try"),
    ("views/evaluation.py", "Evaluation", "evaluation"),
    ("views/corpus.py", "Corpus", "corpus"),
    ("views/lineage.py", "Lineage", "lineage"),
)
# Internals of runs: in the menu only in researcher mode; direct links still work.
_TRAINING = (("views/runs.py", "Runs", "runs"), ("views/sweeps.py", "Sweeps", "sweeps"))

# The first screen belongs to the page: Streamlit leaves a fifth of a laptop's height empty. On a phone and on a low screen (a
# laptop at 200 %) the banner is in Streamlit's own bar, between its two buttons. On a phone figures are two in a line, and a
# table has room for its tools, which a touch screen always shows. A card is a sheet over the page there.
_STYLE = """<style>
[data-testid="stMainBlockContainer"] {padding-top: 4rem; padding-left: 2rem; padding-right: 2rem}
.st-key-banner [data-testid="stAlertContainer"] {padding: 0.2rem 0.75rem; min-height: 0}
[data-testid="stMainBlockContainer"] h1 {padding: 0.25rem 0; font-size: 1.75rem}
[data-testid="stMainBlockContainer"] h2 {padding: 0.5rem 0; font-size: 1.35rem}
[data-testid="stMetric"] [data-testid="stMetricLabel"] * {white-space: normal}
.st-key-my-list {scroll-margin-top: 4rem}
@media (max-height: 30rem), (max-width: 40rem) {
  [data-testid="stMainBlockContainer"] {padding: 0.4rem 1rem 1rem}
  .st-key-banner {position: relative; z-index: 999991; margin: 0 3rem 0 2.5rem; width: auto}
  [data-testid="stHeader"] {height: 2.9rem; min-height: 0}
}
@media (max-height: 30rem) {
  [data-testid="stMainBlockContainer"] > [data-testid="stVerticalBlock"] {gap: 0.4rem}
  [data-testid="stMainBlockContainer"] h1 {padding: 0 0 0.75rem; font-size: 1.25rem}
}
@media (max-width: 40rem) {
  [data-testid="stHorizontalBlock"] > [data-testid="stColumn"]:has([data-testid="stMetric"]) {
    min-width: calc(50% - 1rem); flex: 1 1 calc(50% - 1rem)}
  .st-key-card {position: fixed; inset: auto 0 0; z-index: 99; max-height: 42vh; overflow-y: auto; background: Canvas;
    padding: 0.75rem 1rem; border-top: 1px solid GrayText; box-shadow: 0 -2px 12px #0005}
  .st-key-card > .st-key-card-close {position: sticky; order: -1; top: 0; height: 0; z-index: 1; align-self: flex-end;
    width: auto}
  [data-testid="stMainBlockContainer"]:has(.st-key-card) {padding-bottom: 45vh}
}
@media (min-width: 40.01rem) {.st-key-card-close {display: none}}
@media (hover: none) {[data-testid="stElementContainer"]:has(> [data-testid="stFullScreenFrame"] [data-testid="stDataFrame"]) {
  padding-top: 2rem}}
</style>"""


def main() -> None:
    """Show the page that the address names, below the banner that is on every page."""
    st.set_page_config(page_title="Clinical ModernBERT explorer", layout="wide")
    st.html(_STYLE + STYLE)
    researcher = choose_mode()
    pages = {
        "Maps": [st.Page(path, title=title, url_path=url, default=not url) for path, title, url in _MAPS],
        "Model": [st.Page(path, title=title, url_path=url) for path, title, url in _MODEL],
        "Training": [
            st.Page(path, title=title, url_path=url, visibility="visible" if researcher else "hidden")
            for path, title, url in _TRAINING
        ],
    }
    page = st.navigation(pages)
    with st.container(key="banner"):
        st.warning("Research use, not for care.", icon=":material/science:")
    if not researcher and page.url_path in [url for _, _, url in _TRAINING]:
        offer_researcher(page.title)
        return
    try:
        page.run()
    except ArtifactError as error:
        show_problems((str(error),))
    except (StoreError, PermissionError) as error:
        show_store_error(error)


if __name__ == "__main__":
    main()
