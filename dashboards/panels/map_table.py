"""What a map artifact holds besides its points: the whole code table, what the browser searches, and names of regions."""

import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import streamlit as st
from clinical_modernbert.artifacts import Artifact
from component import places, search_bytes

from panels.checked_table import read_rows
from panels.code_list import add_codes, current_list, exclude_codes, restore_list
from panels.map_panel import Search

_COLUMNS = ("code", "description", "chapter_id", "chapter", "row", "crosswalk")


@st.cache_resource(max_entries=4, show_spinner="Reading the code table")
def load_table(_artifact: Artifact, digest: str) -> pa.Table:
    """Return every code of a map's table, also those that a sample left out; raises ``ArtifactError``."""
    return read_rows(_artifact, "table.parquet", _COLUMNS)


def search_with_list(whole: pa.Table, table: str) -> Search:
    """Return what a search box needs that changes the user's list of ``table``, of which ``whole`` has the codes."""
    return Search(
        add=lambda entries: add_codes(table, codes_of(whole, entries)),
        exclude=lambda entries: exclude_codes(table, codes_of(whole, entries)),
        restore=lambda codes, excluded: restore_list(table, whole, codes, excluded),
        table=table,
        listed=current_list(table),
    )


def codes_of(whole: pa.Table, entries: Sequence[int]) -> list[str]:
    """Return the codes of entries of a code table that the browser names."""
    known = [entry for entry in entries if 0 <= entry < whole.num_rows]
    codes: list[str] = whole["code"].take(pa.array(known, pa.int32())).to_pylist()
    return codes


def what_search_reads(artifact: Artifact, whole: pa.Table, rows: Sequence[int | None]) -> bytes:
    """Return the code table and its terms for the browser; ``rows`` are the rows of the codes on the map shown."""
    terms = json.loads(artifact.file("search.json").read_text(encoding="utf-8"))
    others = [[other.split(" ")[0].replace(".", "") for other in some] for some in whole["crosswalk"].to_pylist()]
    table = {
        "codes": whole["code"].to_pylist(),
        "descriptions": whole["description"].to_pylist(),
        "rows": list(rows),
        "others": others,
    }
    return search_bytes(table, terms)


def region_labels(artifact: Artifact, codes: pa.Table) -> tuple[tuple[str, int, int, int], ...]:
    """Return the names of regions at their places on the drawn map."""
    found = json.loads(artifact.file("labels.json").read_text(encoding="utf-8"))
    if not found:
        return ()
    frame = np.stack([codes["x"].to_numpy(), codes["y"].to_numpy()], axis=1)
    placed = places(*(np.array([one[axis] for one in found], np.float32) for axis in ("x", "y")), frame_M2=frame)
    return tuple((one["text"], one["level"], *place) for one, place in zip(found, placed.tolist(), strict=True))
