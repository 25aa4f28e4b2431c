"""The code map: every code of a table as a point, its card, and figures that say how far to trust the picture.

Nearest codes are read from the map artifact, which holds those of the original space: distances on the map mean little.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import streamlit as st
from clinical_modernbert.artifacts import Artifact
from clinical_modernbert.errors import ArtifactError
from clinical_modernbert.evaluation.codes.report import MapReport, Purity, read_map_report
from component import Labels, Mark
from numpy.typing import NDArray
from panels import map_panel
from panels.checked_table import read_rows
from panels.code_list import add_codes, current_list, show_list
from panels.export import provenance, sample_note
from panels.kept import wanted
from panels.map_panel import Points, grouped, make_points, selected_rows, show_points
from panels.map_table import load_table, region_labels, search_with_list, what_search_reads
from panels.search import ask_for, search_panel, selectable, show_found
from panels.selection import Grouping, show_selection
from store import list_kind, opened, readable, show_problems, store_or_stop, synthetic_note

_PAGE = "map"
_COLUMNS = (
    *("code", "description", "chapter_id", "chapter", "path", "crosswalk", "held_out"),
    *("x", "y", "neighbours", "similarities"),
)
_BASELINES = {
    "untrained": "Same encoder, untrained",
    "tfidf": "Shared words alone (TF-IDF)",
    "permutation": "Chance",
}
_HOW_TO_READ = (
    "Each point is a code, placed by t-SNE. Only nearby points are meaningful; distances between far-apart groups, "
    "their sizes and their directions are not."
)


def page() -> None:
    """Show the newest map, or the one chosen."""
    heading, choice = st.columns([1, 3], vertical_alignment="bottom")
    heading.title("Code map")
    with choice:
        artifact = _choose_map()
    try:
        codes, report = load_map(artifact, artifact.manifest.digest)
        points = code_points(artifact, artifact.manifest.digest, codes)
    except ArtifactError as error:
        show_problems((str(error),))
        return
    table = str(artifact.summary["table"])
    map_panel.belong(_PAGE, artifact.manifest.id, points)
    map_panel.restore_area(_PAGE, on=points)
    map_panel.restore_code(_PAGE, codes["code"], table=table, where="this map")
    map_panel.show_absent(_PAGE)
    show_head(artifact, codes.num_rows)
    whole = load_table(artifact, artifact.manifest.digest)
    chart_column, card_column = st.columns([7, 3])
    with chart_column:
        map_place = st.container()
        found = search_panel(artifact, vectors=lambda: load_vectors(artifact))
        with map_place:
            show_points(
                points,
                page=_PAGE,
                texts=lambda rows: code_texts(codes, rows),
                marks=_marks(codes),
                search=replace(search_with_list(whole, table), ask=ask_for, meaning=found),
            )
        st.caption(_HOW_TO_READ)
    with card_column:
        show_card(codes, page=_PAGE, artifact=artifact)
    show_list(whole, table, provenance=provenance(artifact), file=artifact.manifest.id)
    if found is not None and found.rows:
        show_found(codes, found, key=f"matches-{artifact.manifest.id}", take=lambda row: map_panel.choose(_PAGE, row))
    show_selection(
        codes,
        selected_rows(points, _PAGE),
        Grouping(
            page=_PAGE,
            unit="codes",
            group_column="chapter",
            listed=("code", "description", "chapter_id", "chapter", "held_out"),
            text_column="description",
            provenance=provenance(artifact),
            codes_of=table,
            file=artifact.manifest.id,
        ),
    )
    _show_purity(report.purity)
    show_provenance(artifact)
    row = map_panel.chosen_row(_PAGE)
    map_panel.keep_in_address(_PAGE, map=artifact.manifest.id)
    map_panel.keep_code(_PAGE, None if row is None else codes["code"][row].as_py(), table=table)


def list_maps() -> list[Artifact]:
    """Return the code maps of the store, or say that there are none and end the page."""
    store = store_or_stop()
    listing = list_kind(store, "map")
    show_problems(listing.problems)
    maps = readable([artifact for artifact in listing.artifacts if artifact.manifest.recipe["kind"] == "map"])
    if not maps:
        st.info(f"There is no code map in {store.uri} yet.", icon=":material/inbox:")
        st.markdown("Make a model and its map, then reload this page:")
        st.code(
            "make demo\n# or, for a model of your own:\npython jobs/map_codes.py map/demo --set model=NAME",
            language="bash",
        )
        st.stop()
    return maps


def map_label(artifact: Artifact) -> str:
    """Return the name of a map in a list."""
    return f"{artifact.manifest.id} (model {artifact.summary['model']}, {artifact.manifest.created_at[:10]})"


@st.cache_resource(max_entries=4, show_spinner="Reading and checking the map")
def load_map(_artifact: Artifact, digest: str) -> tuple[pa.Table, MapReport]:
    """Return the codes and the report of a map, shared by all viewers; raises ``ArtifactError``."""
    codes = read_rows(_artifact, "codes.parquet", _COLUMNS)
    if not all(np.isfinite(codes[axis].to_numpy()).all() for axis in ("x", "y")):
        raise ArtifactError(f"{_artifact.uri}/codes.parquet has places that are not finite numbers")
    return codes, read_map_report(_artifact, MapReport)


def load_vectors(artifact: Artifact) -> NDArray[np.float32]:
    """Return the vectors [N, D] of a map's codes, read from the disk as they are used."""
    vectors: NDArray[np.float32] = np.load(artifact.file("vectors.npy"), mmap_mode="r", allow_pickle=False)
    return vectors


@st.cache_resource(max_entries=4, show_spinner="Drawing the map")
def code_points(_artifact: Artifact, digest: str, _codes: pa.Table) -> Points:
    """Return a map's points coloured by chapter, shared by all viewers."""
    manifest = _artifact.manifest
    labels = Labels(
        name=digest[:16],
        label=f"Map of {_codes.num_rows:,}{of_all(_artifact)} codes by chapter. The search box lists codes.",
        unit="codes",
        file=manifest.id,
        provenance=tuple(provenance(_artifact)),
        labels=region_labels(_artifact, _codes),
        meaning=True,
    )
    whole = load_table(_artifact, digest)
    search = what_search_reads(_artifact, whole, whole["row"].to_pylist())
    return make_points(_codes, chapters(_codes), labels, search=search)


def chapters(codes: pa.Table) -> pa.Array:
    """Return the chapter of each code, as its id and title."""
    return grouped(pc.binary_join_element_wise(codes["chapter_id"], codes["chapter"], " "))


def code_texts(codes: pa.Table, rows: Any) -> dict[int, list[str]]:
    """Return the lines of text that a code shows under the pointer."""
    some = codes.select(["code", "description"]).take(pa.array(rows, pa.int32())).to_pylist()
    return {row: [code["code"], code["description"]] for row, code in zip(rows, some, strict=True)}


def of_all(artifact: Artifact) -> str:
    """Return of how many codes a map shows a sample, in words; nothing where it shows all."""
    return "".join(f" of {line.partition(' of ')[2]}," for line in sample_note(artifact))


def show_head(artifact: Artifact, num_codes: int) -> None:
    """Say in one line what the map shows and how far to trust its model."""
    note = synthetic_note(artifact)
    head = f"{num_codes:,}{of_all(artifact)} {str(artifact.summary['table']).upper()} codes"
    st.caption(f"{head} · **{note}**" if note else head)


def show_provenance(artifact: Artifact) -> None:
    """Show the model, fingerprint and date of a map."""
    manifest = artifact.manifest
    facts = [
        f"model `{artifact.summary['model']}`",
        f"map `{manifest.id}`",
        f"fingerprint `{manifest.fingerprint}`",
        f"made {manifest.created_at[:10]}",
    ]
    st.caption(" · ".join(facts))


def show_card(codes: pa.Table, *, page: str, artifact: Artifact) -> None:
    """Show the chosen code: description, place in its classification, counterparts, nearest codes in the original space."""
    row = map_panel.chosen_row(page)
    if row is None:
        st.info("Choose a code: click a point, or search and pick a line.", icon=":material/touch_app:")
        return
    with map_panel.card(page):
        _show_code(codes, row, page=page, artifact=artifact)


def _show_code(codes: pa.Table, row: int, *, page: str, artifact: Artifact) -> None:
    code = codes.slice(row, 1).to_pylist()[0]
    st.header(code["code"])
    st.text(code["description"])
    table = str(artifact.summary["table"])
    listed = code["code"] in current_list(table).included
    st.button(
        "On my list" if listed else "Add to my list",
        key="card-add",
        disabled=listed,
        on_click=add_codes,
        args=(table, [code["code"]]),
    )
    st.caption("**Place**")
    st.text("\n".join(f"{'  ' * depth}{step}" for depth, step in enumerate(code["path"])))
    if code["crosswalk"]:
        st.caption("**Counterparts** in the other ICD version (CMS General Equivalence Mappings)")
        st.text("\n".join(code["crosswalk"]))
    if code["held_out"]:
        st.caption("Held out: this code's concept was not in the training part.")
    nearest = codes.take(pa.array(code["neighbours"], pa.int32()))
    st.markdown("**Nearest codes**, in the model's original space (not on the map)")
    shown = pa.table(
        {
            "similarity": pa.array(code["similarities"], pa.float32()),
            "code": nearest["code"],
            "description": nearest["description"],
            "same chapter": pc.equal(nearest["chapter_id"], code["chapter_id"]),
        }
    )
    key = f"nearest-{page}-{artifact.manifest.id}-{row}"
    selectable(key, shown, code["neighbours"], take=lambda other: map_panel.choose(page, other))


def _choose_map() -> Artifact:
    by_id = {artifact.manifest.id: artifact for artifact in list_maps()}
    map_panel.refuse_absent(_PAGE, "map", by_id, with_it=("code", "area"))
    if len(by_id) == 1:
        return opened(next(iter(by_id.values())))
    asked = wanted("map", by_id)
    if "map" not in st.session_state and asked:
        st.session_state["map"] = asked
    chosen = st.selectbox(
        "Map",
        list(by_id),
        key="map",
        label_visibility="collapsed",
        format_func=lambda id_: map_label(by_id[id_]),
    )
    return opened(by_id[chosen])


def _marks(codes: pa.Table) -> list[Mark]:
    row = map_panel.chosen_row(_PAGE)
    return [] if row is None else [Mark("near", codes["neighbours"][row].as_py()), Mark("chosen", [row])]


def _show_purity(purity: Purity) -> None:
    st.header("How far to trust the groups")
    st.markdown(
        f"Share of a code's {purity.k} nearest codes that are in the same chapter, measured in the model's original "
        "space. A model has learnt clinical meaning if it is above all three baselines."
    )
    columns = st.columns(1 + len(_BASELINES))
    columns[0].metric("This model", f"{purity.encoder:.1%}")
    compared = {label: float(getattr(purity, name)) for name, label in _BASELINES.items()}
    for column, (label, figure) in zip(columns[1:], compared.items(), strict=True):
        column.metric(label, f"{figure:.1%}")
    above = [label for label, figure in compared.items() if figure >= purity.encoder]
    if above:
        st.warning(f"This model is not better than: {', '.join(above)}.", icon=":material/trending_down:")


if __name__ == "__main__":
    page()
