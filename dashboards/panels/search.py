"""Search on a code map: by code or words, by the meaning of a phrase, or a pasted list of codes.

Typed text stays in the session: it is in no address, no log and no file. A phrase is sent to the endpoint only.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import streamlit as st
from clinical_modernbert.artifacts import Artifact
from endpoint import EndpointUnusableError, embed_phrase, open_endpoint
from numpy.typing import NDArray

from panels.cut_table import cut_table

_SHOWN = 200
_NEAREST = 25
_WAYS = ("Code or words", "Meaning of a phrase", "List of codes")


@dataclass(frozen=True, slots=True)
class Matches:
    """The rows that match a search, in its order."""

    rows: list[int]
    scores: list[float] | None = None
    """Cosine similarity, where the search was for a meaning."""
    unknown: tuple[str, ...] = ()
    """Codes of a pasted list that are not on this map."""


def search_panel(codes: pa.Table, artifact: Artifact, *, vectors: Callable[[], NDArray[np.float32]]) -> Matches | None:
    """Show the search fields and return the matches; None where they are empty, or where the page says why it cannot search."""
    way = st.segmented_control("Search by", _WAYS, default=_WAYS[0], key="way", required=True)
    if way == _WAYS[0]:
        query = st.text_input(
            "Search by code or words",
            placeholder="250.4   or   diabetes renal",
            key="query",
            help="The beginning of a code, or words that are all in the description. Your text is not stored.",
        )
        return Matches(find_codes(codes, query)) if query.strip() else None
    if way == _WAYS[1]:
        phrase = st.text_input(
            "Phrase",
            placeholder="crushing chest pain going into the left arm",
            key="phrase",
            help="The endpoint turns it into a vector, and the codes nearest to it are shown. Your text is not stored.",
        )
        return _by_meaning(phrase, artifact, vectors) if phrase.strip() else None
    listed = st.text_area("Codes", placeholder="250.00, 401.9\n428.0", key="listed", help="One or many, in any order.")
    return find_listed(codes, listed) if listed.strip() else None


def find_codes(codes: pa.Table, query: str) -> list[int]:
    """Return the rows whose code begins with ``query``, or whose description holds all its words; case is ignored."""
    bare = pc.utf8_lower(pc.replace_substring(codes["code"], ".", ""))
    # "250." matches the same codes as "250"; a full stop alone matches none.
    by_code = pc.starts_with(bare, query.strip().lower().replace(".", "") or ".")
    description = pc.utf8_lower(codes["description"])
    by_words = pa.chunked_array([pa.array([True] * codes.num_rows)])
    for word in query.lower().split():
        by_words = pc.and_(by_words, pc.match_substring(description, word))
    return list(pc.indices_nonzero(pc.or_(by_code, by_words)).to_pylist())


def find_listed(codes: pa.Table, listed: str) -> Matches:
    """Return the rows of the codes in ``listed``, with or without dots, separated by spaces, commas, semicolons or line ends."""
    asked = list(
        dict.fromkeys(word.upper().replace(".", "") for word in re.split(r"[\s,;]+", listed) if word.strip("."))
    )
    places = {code.replace(".", ""): row for row, code in enumerate(codes["code"].to_pylist())}
    rows = [places[word] for word in asked if word in places]
    return Matches(rows, unknown=tuple(word for word in asked if word not in places))


def find_similar(vectors_ND: NDArray[np.float32], phrase_D: NDArray[np.float32], *, most: int) -> Matches:
    """Return the rows nearest to a vector by cosine, nearest first; equal ones by row."""
    norms_N = np.linalg.norm(vectors_ND, axis=1) * max(float(np.linalg.norm(phrase_D)), 1e-12)
    scores_N = vectors_ND @ phrase_D / np.maximum(norms_N, 1e-12)
    rows = np.lexsort((np.arange(len(scores_N)), -scores_N))[:most]
    return Matches(rows.tolist(), scores=scores_N[rows].tolist())


def show_found(codes: pa.Table, matches: Matches, *, key: str, take: Callable[[int], None]) -> None:
    """List the matches; the row of a chosen line is passed to ``take``."""
    if matches.unknown:
        st.warning(f"Not on this map: {', '.join(matches.unknown[:20])}", icon=":material/question_mark:")
    if not matches.rows:
        if not matches.unknown:
            st.info(
                "No code begins with this text, and no description has all of these words.",
                icon=":material/search_off:",
            )
        return
    rows = matches.rows[:_SHOWN]
    shown = codes.select(["code", "description", "chapter"]).take(pa.array(rows, pa.int32()))
    if matches.scores is not None:
        st.markdown(f"**The {len(rows)} nearest codes**, in the model's original space (not on the map)")
        shown = shown.add_column(0, "similarity", pa.array(matches.scores[:_SHOWN], pa.float32()))
    else:
        note = f", the first {_SHOWN} are listed" if len(matches.rows) > _SHOWN else ""
        st.markdown(f"**{len(matches.rows):,} found**{note}")
    selectable(f"{key}-{hash(tuple(rows))}", shown, rows, cut=len(rows) < len(matches.rows), take=take)


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
        phrase_D = embed_phrase(
            client, phrase, model=artifact.summary["model"], pooling=artifact.manifest.recipe["pooling"]
        )
    except EndpointUnusableError as error:
        st.error(str(error), icon=":material/cloud_off:")
        return None
    return find_similar(vectors(), phrase_D, most=_NEAREST)
