"""The map of an embedded set: documents by metadata, coloured by one of their columns.

A value that fewer than 11 documents have is shown nowhere: not in the legend, on a card, in a list or in a file. Ids and texts
are shown by a recorded click alone.
"""

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import streamlit as st
from clinical_modernbert.artifacts import Artifact
from clinical_modernbert.bulk.table import TextRow, fetched, find_tables, read_table_rows
from clinical_modernbert.errors import ArtifactError, UserError
from clinical_modernbert.evaluation.codes.report import EmbeddingMapReport, read_map_report
from clinical_modernbert.recipe import EmbedRecipe
from component import Labels, Mark
from panels import map_panel
from panels.checked_table import read_rows
from panels.export import provenance
from panels.kept import wanted
from panels.map_panel import Points, grouped, make_points, selected_rows, show_points
from panels.search import selectable
from panels.selection import Grouping, show_selection
from store import find, list_kind, opened, readable, reveal, show_problems, store_or_stop, synthetic_note

_PAGE = "set"
_COLUMNS = ("id", "num_tokens", "map_x", "map_y", "map_neighbours", "map_similarities")
_LENGTH = "length"
_LENGTHS = (128, 512, 1024, 4096)
# Groups of fewer documents are neither named nor counted: they could identify a person.
SMALLEST_GROUP = 11


def page() -> None:
    """Show the newest map of an embedded set, or the one chosen."""
    st.title("Embeddings")
    artifact = _choose()
    try:
        rows, report = _loaded(artifact, artifact.manifest.digest)
        columns = [*report.columns, _LENGTH]
        column = _choose_column(columns)
        points = _points(artifact, artifact.manifest.digest, rows, column)
    except ArtifactError as error:
        show_problems((str(error),))
        return
    map_panel.belong(_PAGE, artifact.manifest.id, points)
    map_panel.restore_area(_PAGE, on=points)
    map_panel.show_absent(_PAGE)
    sampled = f" of {report.of_rows:,}, drawn at random," if report.of_rows > report.num_rows else ""
    st.caption(
        f"model `{report.model}` · set `{report.embeddings}` · map `{artifact.manifest.id}` · "
        f"made {artifact.manifest.created_at[:10]} · {report.num_rows:,}{sampled} documents"
        + "".join(f" · **{note}**" for note in [synthetic_note(artifact)] if note)
    )
    left, right = st.columns([7, 3])
    with left:
        show_points(points, page=_PAGE, texts=lambda wanted: _texts(rows, wanted), marks=_marks(rows))
        st.caption(
            "Each point is a document, placed by t-SNE. Only nearby points are meaningful; distances between far-apart groups "
            f"are not. Values with fewer than {SMALLEST_GROUP} documents are merged."
        )
    with right:
        _show_card(artifact, rows, report)
    selected = selected_rows(points, _PAGE)
    show_selection(
        rows,
        selected,
        Grouping(
            page=_PAGE,
            unit="documents",
            group_column=column,
            listed=(*report.columns, _LENGTH),
            text_column=None,
            provenance=provenance(artifact),
            file=artifact.manifest.id,
            floor=SMALLEST_GROUP,
        ),
    )
    if selected is not None and len(selected) >= SMALLEST_GROUP:
        ids = rows["id"].take(pa.array(selected)).to_pylist()
        digest = hashlib.sha256("\n".join(ids).encode()).hexdigest()[:16]
        reveal(
            f"map/{artifact.manifest.id}/ids of {len(ids)} documents, sha256 {digest}",
            lambda: "\n".join(ids),
            label="Show the ids of the selected documents",
            hide="Hide the ids",
        )
    map_panel.keep_in_address(_PAGE, set=artifact.manifest.id, colour=column)


def _choose() -> Artifact:
    store = store_or_stop()
    listing = list_kind(store, "map")
    show_problems(listing.problems)
    maps = readable([one for one in listing.artifacts if one.manifest.recipe["kind"] == "project"])
    by_id = {one.manifest.id: one for one in maps}
    if not by_id:
        st.info(f"There is no map of an embedded set in {store.uri} yet.", icon=":material/inbox:")
        st.markdown("Embed a table of texts and project it, then reload this page:")
        st.code(
            "python jobs/embed.py embed/notes --set model=NAME --set input_uri=FOLDER\npython jobs/project.py project/notes",
            language="bash",
        )
        st.stop()
    map_panel.refuse_absent(_PAGE, "set", by_id, with_it=("colour", "area"))
    asked = wanted("set", by_id)
    chosen = st.selectbox(
        "Set",
        list(by_id),
        index=list(by_id).index(asked) if asked else 0,
        key=f"{_PAGE}-map",
    )
    return opened(by_id[chosen])


def _choose_column(columns: list[str]) -> str:
    map_panel.refuse_absent(_PAGE, "colour", columns, with_it=("area",))
    asked = wanted("colour", columns)
    chosen: str = st.selectbox(
        "Colour by",
        columns,
        index=columns.index(asked) if asked else 0,
        key=f"{_PAGE}-colour",
    )
    return chosen


@st.cache_resource(max_entries=4, show_spinner="Reading and checking the map")
def _loaded(_artifact: Artifact, digest: str) -> tuple[pa.Table, EmbeddingMapReport]:
    report = read_map_report(_artifact, EmbeddingMapReport)
    rows = read_rows(_artifact, "rows.parquet", [*_COLUMNS, *report.columns])
    if not all(np.isfinite(rows[axis].to_numpy()).all() for axis in ("map_x", "map_y")):
        raise ArtifactError(f"{_artifact.uri}/rows.parquet has places that are not finite numbers")
    for name in report.columns:
        rows = rows.set_column(rows.column_names.index(name), name, without_small(rows[name]))
    bin_N = np.searchsorted(_LENGTHS, rows["num_tokens"].to_numpy())
    words = [f"up to {most:,} tokens" for most in _LENGTHS] + [f"more than {_LENGTHS[-1]:,} tokens"]
    lengths = without_small(pa.chunked_array([[words[number] for number in bin_N]]))
    return rows.append_column(_LENGTH, lengths).drop_columns(["num_tokens"]), report


def without_small(values: pa.ChunkedArray) -> pa.Array:
    """Return the values as text; those of fewer than ``SMALLEST_GROUP`` rows become one value that names none of them.

    No value is a value: that few documents lack it can identify them too.
    """
    texts = pc.cast(values, pa.string()).combine_chunks()
    counts = pc.value_counts(texts).to_pylist()
    kept = pa.array([item["values"] for item in counts if item["counts"] >= SMALLEST_GROUP], pa.string())
    return pc.if_else(pc.is_in(texts, value_set=kept), texts, f"(fewer than {SMALLEST_GROUP})")


@st.cache_resource(max_entries=8, show_spinner="Drawing the map")
def _points(_artifact: Artifact, digest: str, _rows: pa.Table, column: str) -> Points:
    labels = Labels(
        name=f"{digest[:16]}-{column}",
        label=f"Map of {_rows.num_rows} documents by {column}. The selection below lists documents as a table.",
        unit="documents",
        file=_artifact.manifest.id,
        provenance=tuple(provenance(_artifact)),
    )
    placed = pa.table({"x": _rows["map_x"], "y": _rows["map_y"]})
    return make_points(placed, grouped(_rows[column], floor=SMALLEST_GROUP), labels)


def _texts(rows: pa.Table, wanted: Any) -> dict[int, list[str]]:
    return {row: [_title(row)] for row in wanted}


def _title(row: int) -> str:
    # An id can be a record number.
    return f"Document {row + 1} of the map"


def _marks(rows: pa.Table) -> list[Mark]:
    row = map_panel.chosen_row(_PAGE)
    if row is None:
        return []
    return [Mark("near", rows["map_neighbours"][row].as_py()), Mark("chosen", [row])]


def _show_card(artifact: Artifact, rows: pa.Table, report: EmbeddingMapReport) -> None:
    row = map_panel.chosen_row(_PAGE)
    if row is None:
        st.info("Choose a document: click a point.", icon=":material/touch_app:")
        return
    with map_panel.card(_PAGE):
        _show_document(artifact, rows, row, report)


def _show_document(artifact: Artifact, rows: pa.Table, row: int, report: EmbeddingMapReport) -> None:
    document = rows.slice(row, 1).to_pylist()[0]
    st.header(_title(row))
    st.dataframe([{"column": name, "value": document[name]} for name in (*report.columns, _LENGTH)], hide_index=True)
    st.markdown("**Nearest documents**, in the model's original space (not on the map)")
    near = document["map_neighbours"]
    shown = rows.select([*report.columns, _LENGTH]).take(pa.array(near, pa.int32()))
    shown = shown.add_column(0, "document", pa.array([other + 1 for other in near], pa.int32()))
    shown = shown.add_column(0, "similarity", pa.array(document["map_similarities"], pa.float32()))
    key = f"nearest-{_PAGE}-{artifact.manifest.id}-{row}"
    selectable(key, shown, near, take=lambda other: map_panel.choose(_PAGE, other))
    embeddings = find(artifact.store, "embeddings", report.embeddings)
    if embeddings is None:
        st.caption("The embedded set was deleted from the store, so its texts cannot be read.")
        return
    reveal(
        f"embeddings/{embeddings.manifest.id}/row {row}",
        lambda: f"id {document['id']}\n\n{_read_text(embeddings, document['id'])}",
        label="Show id and text",
    )


def _read_text(embeddings: Artifact, document_id: str) -> str:
    """Return the text of a document from the table that was embedded; the embedded set holds no text."""
    recipe = EmbedRecipe.model_validate(embeddings.manifest.recipe)
    try:
        for table in find_tables(recipe):
            with fetched(table) as location:
                for item in read_table_rows(location, file=table.key, recipe=recipe):
                    if isinstance(item, TextRow) and item.id == document_id:
                        return item.text
    except UserError:
        return "The explorer cannot read the table that was embedded."
    return "This document is no longer in the table that was embedded."


if __name__ == "__main__":
    page()
