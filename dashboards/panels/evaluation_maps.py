"""Figure 2's maps: the same codes as each encoder places them, side by side and linked, from the evaluation's own file."""

import numpy as np
import pyarrow as pa
import streamlit as st
from clinical_modernbert.artifacts import Artifact
from clinical_modernbert.errors import ArtifactError
from component import Labels, Mark
from store import show_problems
from views.code_map import chapters, code_texts

from panels import map_panel
from panels.checked_table import read_rows
from panels.export import provenance
from panels.map_panel import Points, make_points, selected_rows, show_points
from panels.selection import Grouping, show_selection

_FILE = "figure2.parquet"
_ABOUT = ("code", "description", "chapter_id", "chapter")
_MAPS_A_ROW = 2
_TABLE = "icd9cm"


def sample_of(evaluation: Artifact, num_codes: int) -> list[str]:
    """Return a line that says that the codes are a sample; nothing where they are the whole table."""
    most = (evaluation.manifest.recipe.get("codes") or {}).get("max_codes")
    return ["drawn at random from the table (`max_codes` of the recipe)"] if most == num_codes else []


def show_maps(evaluation: Artifact) -> None:
    """Show the map of every encoder, or what is wrong with the file; nothing if the evaluation has none."""
    if not any(entry.path == _FILE for entry in evaluation.manifest.files):
        return
    try:
        codes = _load(evaluation, evaluation.manifest.digest)
        maps = _points(evaluation, evaluation.manifest.digest, codes)
    except ArtifactError as error:
        show_problems((str(error),))
        return
    page = f"figure2-{evaluation.manifest.id}"  # a selection belongs to one evaluation
    map_panel.belong(page, evaluation.manifest.id, next(iter(maps.values())))
    map_panel.restore_code(page, codes["code"], table=_TABLE, where="these maps")
    map_panel.show_absent(page)
    row = map_panel.chosen_row(page)
    marks = [] if row is None else [Mark("chosen", [row])]
    for start in range(0, len(maps), _MAPS_A_ROW):
        in_row = list(maps.items())[start : start + _MAPS_A_ROW]
        for column, (encoder, points) in zip(st.columns(_MAPS_A_ROW), in_row, strict=False):
            with column:
                st.markdown(f"**{encoder}**")
                show_points(points, page=page, texts=lambda rows: code_texts(codes, rows), marks=marks)
    st.caption(
        "Each point is a code. t-SNE places the codes of each encoder separately: codes close together have similar vectors; "
        "axes and distances between groups mean nothing. A selection on one map shows on all, and the legend filters all."
    )
    if row is not None:
        code, description, chapter_id, chapter = (codes[column][row].as_py() for column in _ABOUT)
        st.markdown("**The chosen code**")
        st.text(f"{code}  {description}\n{chapter_id} {chapter}")
    rows = selected_rows(map_panel.map_with_area(list(maps.values()), page), page)
    if rows is not None:
        show_selection(
            codes,
            rows,
            Grouping(
                page=page,
                unit="codes",
                group_column="chapter",
                listed=_ABOUT,
                text_column="description",
                provenance=[*provenance(evaluation), *sample_of(evaluation, codes.num_rows)],
                codes_of=_TABLE,
                file=evaluation.manifest.id,
            ),
        )
    if row is not None:  # else the code of another page, which these maps may lack, stays chosen there
        map_panel.keep_code(page, codes["code"][row].as_py(), table=_TABLE)


@st.cache_resource(max_entries=4, show_spinner="Reading and checking the maps")
def _load(_evaluation: Artifact, digest: str) -> pa.Table:
    """Return the codes with ``<encoder> x`` and ``<encoder> y`` of every encoder; raises ``ArtifactError``."""
    name = f"{_evaluation.uri}/{_FILE}"
    codes = read_rows(_evaluation, _FILE, _ABOUT)
    encoders = _encoders(codes)
    if not encoders:
        raise ArtifactError(
            f"{name} has no column <encoder> x with its y: each encoder needs both; it has {', '.join(codes.column_names)}"
        )
    for column in [f"{encoder} {axis}" for encoder in encoders for axis in "xy"]:
        if not pa.types.is_floating(codes.schema.field(column).type) or not np.isfinite(codes[column].to_numpy()).all():
            raise ArtifactError(f"{name}: column {column} must hold a number for each code")
    return codes


def _encoders(codes: pa.Table) -> list[str]:
    names = [column.removesuffix(" x") for column in codes.column_names if column.endswith(" x")]
    return [name for name in names if f"{name} y" in codes.column_names]


@st.cache_resource(max_entries=4, show_spinner="Drawing the maps")
def _points(_evaluation: Artifact, digest: str, _codes: pa.Table) -> dict[str, Points]:
    """Return encoder -> its points, shared by all viewers."""
    by_encoder = {}
    for number, encoder in enumerate(_encoders(_codes)):
        labels = Labels(
            name=f"{digest[:16]}-{number}",
            label=f"Map of {_codes.num_rows} codes by chapter, encoder {encoder}",
            unit="codes",
            file=f"{_evaluation.manifest.id}-{encoder}",
            provenance=(*provenance(_evaluation), *sample_of(_evaluation, _codes.num_rows), f"encoder {encoder}"),
            link=f"figure2-{digest[:16]}",
            legend=number == 0,
            height=460,
        )
        places = _codes.select([f"{encoder} x", f"{encoder} y"]).rename_columns(["x", "y"])
        by_encoder[encoder] = make_points(places, chapters(_codes), labels)
    return by_encoder
