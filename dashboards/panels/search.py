"""Search on a code map by the meaning of a phrase, and tables with a selectable line.

Codes and words are searched in the browser (``component/search.js``). A phrase is sent to the endpoint only: it is in no address,
no log and no file.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import streamlit as st
from clinical_modernbert.artifacts import Artifact
from endpoint import EndpointUnusableError, embed_phrase, open_endpoint
from numpy.typing import NDArray

from panels.cut_table import cut_table

_NEAREST = 25


@dataclass(frozen=True, slots=True)
class Matches:
    """The rows nearest to a phrase, nearest first, and their cosine similarities."""

    rows: list[int]
    scores: list[float]


def search_panel(artifact: Artifact, *, vectors: Callable[[], NDArray[np.float32]]) -> Matches | None:
    """Show the field for a phrase and return the nearest rows; None where it is empty, or where the page says why not."""
    phrase = st.text_input(
        "Search by the meaning of a phrase",
        placeholder="crushing chest pain going into the left arm",
        key="phrase",
        help="The endpoint turns it into a vector, and the codes nearest to it are shown. Your text is not stored.",
    )
    return _by_meaning(phrase, artifact, vectors) if phrase.strip() else None


def find_similar(vectors_ND: NDArray[np.float32], phrase_D: NDArray[np.float32], *, most: int) -> Matches:
    """Return the rows nearest to a vector by cosine, nearest first; equal ones by row."""
    norms_N = np.linalg.norm(vectors_ND, axis=1) * max(float(np.linalg.norm(phrase_D)), 1e-12)
    scores_N = vectors_ND @ phrase_D / np.maximum(norms_N, 1e-12)
    rows = np.lexsort((np.arange(len(scores_N)), -scores_N))[:most]
    return Matches(rows.tolist(), scores_N[rows].tolist())


def show_found(codes: pa.Table, matches: Matches, *, key: str, take: Callable[[int], None]) -> None:
    """List the matches; the row of a chosen line is passed to ``take``."""
    shown = codes.select(["code", "description", "chapter"]).take(pa.array(matches.rows, pa.int32()))
    st.markdown(f"**The {len(matches.rows)} nearest codes**, in the model's original space (not on the map)")
    shown = shown.add_column(0, "similarity", pa.array(matches.scores, pa.float32()))
    selectable(f"{key}-{hash(tuple(matches.rows))}", shown, matches.rows, take=take)


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


def _by_meaning(phrase: str, artifact: Artifact, vectors: Callable[[], NDArray[np.float32]]) -> Matches | None:
    client = open_endpoint()
    if client is None:
        st.info(
            "No endpoint is set, so a phrase cannot be turned into a vector. Start one with `make serve`, and the explorer with "
            "`ENDPOINT_URL=http://localhost:8000`.",
            icon=":material/link_off:",
        )
        return None
    try:
        phrase_D = embed_phrase(client, phrase, model=artifact.summary["model"], pooling=artifact.summary["pooling"])
    except EndpointUnusableError as error:
        st.error(str(error), icon=":material/cloud_off:")
        return None
    return find_similar(vectors(), phrase_D, most=_NEAREST)
