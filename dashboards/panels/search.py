"""Search on a code map by the meaning of a phrase, and tables with a selectable line.

Codes and words are searched in the browser (``component/search.js``). A phrase is typed here, or over the map and sent by a click
there. It goes to the endpoint only: it is in no address, no log and no file.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import streamlit as st
from clinical_modernbert.artifacts import Artifact
from component import Meaning
from endpoint import EndpointUnusableError, embed_phrase, open_endpoint
from numpy.typing import NDArray

from panels.cut_table import cut_table

_NEAREST = 25
_START = "Start one with `make serve`, and the explorer with `ENDPOINT_URL=http://localhost:8000`."


def ask_for(phrase: str) -> None:
    """Search by the meaning of a phrase that its user typed over the map and asked to be sent."""
    st.session_state["phrase"] = phrase
    _next_turn()


def search_panel(artifact: Artifact, *, vectors: Callable[[], NDArray[np.float32]]) -> Meaning | None:
    """Show the field for a phrase and return the answer, or why there is none; None where the field is empty."""
    phrase = st.text_input(
        "Search by the meaning of a phrase",
        placeholder="crushing chest pain going into the left arm",
        key="phrase",
        on_change=_next_turn,
        help="The endpoint turns it into a vector, and the codes nearest to it are shown. Your text is not stored.",
    )
    if not phrase.strip():
        return None
    turn = st.session_state.get("phrase-turn", 1)
    client = open_endpoint()
    if client is None:
        said = "No endpoint is set, so a phrase cannot be turned into a vector."
        st.info(f"{said} {_START}", icon=":material/link_off:")
        return Meaning(turn, said=said)
    try:
        phrase_D = embed_phrase(client, phrase, model=artifact.summary["model"], pooling=artifact.summary["pooling"])
    except EndpointUnusableError as error:
        st.error(str(error), icon=":material/cloud_off:")
        return Meaning(turn, said=str(error))
    return Meaning(turn, *nearest_rows(vectors(), phrase_D))


def _next_turn() -> None:
    st.session_state["phrase-turn"] = st.session_state.get("phrase-turn", 0) + 1


def nearest_rows(vectors_ND: NDArray[np.float32], phrase_D: NDArray[np.float32]) -> tuple[list[int], list[float]]:
    """Return the rows nearest to a vector and their cosine similarities, nearest first; equal ones by row."""
    norms_N = np.linalg.norm(vectors_ND, axis=1) * max(float(np.linalg.norm(phrase_D)), 1e-12)
    scores_N = vectors_ND @ phrase_D / np.maximum(norms_N, 1e-12)
    rows = np.lexsort((np.arange(len(scores_N)), -scores_N))[:_NEAREST]
    return rows.tolist(), scores_N[rows].tolist()


def show_found(codes: pa.Table, meaning: Meaning, *, key: str, take: Callable[[int], None]) -> None:
    """List the nearest codes; the row of a chosen line is passed to ``take``."""
    rows = list(meaning.rows)
    shown = codes.select(["code", "description", "chapter"]).take(pa.array(rows, pa.int32()))
    st.markdown(f"**The {len(rows)} nearest codes**, in the model's original space (not on the map)")
    shown = shown.add_column(0, "similarity", pa.array(meaning.scores, pa.float32()))
    selectable(f"{key}-{hash(tuple(rows))}", shown, rows, take=take)


def selectable(key: str, shown: pa.Table, rows: list[int], *, take: Callable[[int], None], cut: bool = False) -> None:
    """Show a table with one selectable line, whose row is passed to ``take``; ``cut`` if a longer table has more lines."""

    def chosen() -> None:
        lines = st.session_state[key]["selection"]["rows"]
        if lines:
            take(rows[lines[0]])

    settings: dict[str, Any] = {
        "selection_mode": "single-row",
        "on_select": chosen,
        "column_config": {"similarity": st.column_config.NumberColumn(format="%.3f")},
    }
    if cut:
        cut_table(shown, key=key, **settings)
    else:
        st.dataframe(shown, key=key, hide_index=True, **settings)
