"""The explorer in tests: a small synthetic code map, an embedded set, and what a page shows under AppTest."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from clinical_modernbert.artifacts import (
    Artifact,
    InputEntry,
    Manifest,
    Store,
    make_plan,
    upload,
    write_manifest,
)
from clinical_modernbert.evaluation.codes.embedding_map import map_embeddings
from clinical_modernbert.recipe import EmbedRecipe, ProjectRecipe
from numpy.typing import NDArray
from streamlit.testing.v1 import AppTest

DASHBOARDS = Path(__file__).resolve().parents[2] / "dashboards"


EXPLORER = DASHBOARDS / "explorer.py"


NUM_CHAPTERS, CODES_PER_CHAPTER = 21, 20


PublishMap = Callable[..., Artifact]


def code_table() -> pa.Table:
    """Codes in 21 tight groups on a circle; the nearest codes are the next ones of the same chapter."""
    count = NUM_CHAPTERS * CODES_PER_CHAPTER
    rows, chapter = np.arange(count), np.repeat(np.arange(NUM_CHAPTERS), CODES_PER_CHAPTER)
    angle = 2 * np.pi * chapter / NUM_CHAPTERS
    rng = np.random.default_rng(0)
    step = 1 + np.arange(10)
    neighbours = chapter[:, None] * CODES_PER_CHAPTER + (rows[:, None] + step) % CODES_PER_CHAPTER
    descriptions = [f"Finding {row} of <organ> *{row // CODES_PER_CHAPTER}*" for row in rows]
    descriptions[41] = "Diabetic KIDNEY disease (type 2)"
    return pa.table(
        {
            "code": [f"{100 + row // CODES_PER_CHAPTER}.{row % CODES_PER_CHAPTER:02d}" for row in rows],
            "description": descriptions,
            "chapter_id": [f"{100 + c:03d}-{100 + c:03d}" for c in chapter],
            "chapter": [f"Diseases of the {c}th organ and of whatever else stands in so long a name" for c in chapter],
            "x": pa.array(np.cos(angle) * 10 + rng.normal(size=count), pa.float32()),
            "y": pa.array(np.sin(angle) * 10 + rng.normal(size=count), pa.float32()),
            "held_out": rows % 7 == 0,
            "path": [[f"{100 + c}-{100 + c} Organ {c}", f"{100 + c} Category"] for c in chapter],
            "crosswalk": [["Q10.1 (approximately)"] if row % 2 else [] for row in rows],
            "neighbours": pa.array(neighbours.tolist(), pa.list_(pa.int32())),
            "similarities": pa.array((1 - step / 100 + 0 * rows[:, None]).tolist(), pa.list_(pa.float32())),
        }
    )


SEARCH_TERMS = {
    "texts": ["Organ diseases", "sugar kidney", "Organ five"],
    "nodes": {"102": [0], "10201": [1], "105": [2]},
    "headings": ["102", "105"],
    "lay": [["sweet kidney", "10201"]],
}
"""What the explorer searches besides descriptions, in the form of ``search_terms``."""


def whole_table() -> pa.Table:
    """The table of which ``code_table`` is the map: one code more, which is not drawn."""
    codes = code_table()
    drawn = codes.select(["code", "description", "chapter_id", "chapter", "crosswalk"])
    other = {
        "code": ["999.9"],
        "description": ["Finding that the sample left out"],
        "chapter_id": ["120-120"],
        "chapter": codes["chapter"][-1:].to_pylist(),
        "crosswalk": pa.array([[]], pa.list_(pa.string())),
    }
    rows = pa.array([*range(codes.num_rows), None], pa.int32())
    return pa.concat_tables([drawn, pa.table(other)]).append_column("row", rows)


def code_vectors() -> NDArray[np.float32]:
    """Vectors of ``code_table``: a direction for each chapter, and each code a little off it."""
    rng = np.random.default_rng(1)
    chapter = np.repeat(np.eye(NUM_CHAPTERS, dtype=np.float32), CODES_PER_CHAPTER, axis=0)
    return (chapter + rng.normal(scale=0.01, size=chapter.shape)).astype(np.float32)


def publish_bare(
    store: Store,
    kind: str,
    artifact_id: str,
    *,
    inputs: tuple[InputEntry, ...],
    recipe: dict[str, object],
    summary: dict[str, object] | None = None,
) -> str:
    """Publish an artifact without files, and return its digest."""
    manifest = write_manifest(
        store,
        f"{kind}/{artifact_id}",
        Manifest(
            kind=kind,
            id=artifact_id,
            fingerprint="1",
            format_version=1,
            recipe=recipe,
            inputs=inputs,
            summary=summary or {},
            files=(),
        ),
    )
    return manifest.digest


def opened(app: AppTest, page: str, *, mode: str | None = None) -> AppTest:
    """Open a page, in the mode that a viewer has from the start unless another is named."""
    if mode is not None:
        app.session_state["mode"] = mode
    app.run()
    app.switch_page(page).run()
    assert not app.exception
    return app


def words(app: AppTest) -> str:
    """All that the page says, outside tables and charts."""
    kinds = (app.title, app.header, app.markdown, app.caption, app.text, app.info, app.warning, app.error, app.code)
    return "\n".join(str(element.value) for kind in kinds for element in kind)


def tables(app: AppTest) -> list[list[dict[str, Any]]]:
    return [frame.value.to_dict("records") for frame in app.dataframe]


def area(hidden: Sequence[int] = (), corners: Sequence[int] = ()) -> dict[str, Any]:
    """A selection as the browser sends it; without corners it has all groups that are not hidden."""
    return {"turn": 1, "areas": [{"corners": list(corners), "hidden": list(hidden), "out": False}]}


def charts(app: AppTest) -> list[dict[str, Any]]:
    """The specifications, with their rows under ``rows``."""
    found = []
    for element in app.get("vega_lite_chart"):
        rows = pa.ipc.open_stream(element.proto.data.data).read_all().to_pylist()
        assert element.proto.alt
        found.append({**json.loads(element.proto.spec), "rows": rows})
    return found


def sent(app: AppTest) -> tuple[dict[str, Any], dict[str, Any]]:
    """The header of the points, and what the companion adds to them."""
    points, companion = (element.proto for element in app.get("bidi_component"))
    length = int.from_bytes(points.bytes[:4], "little")
    return json.loads(points.bytes[4 : 4 + length]), json.loads(companion.json)


def marks(app: AppTest) -> dict[str, list[int]]:
    return {mark["kind"]: mark["rows"] for mark in sent(app)[1]["marks"]}


KINDS = ["discharge"] * 40 + ["radiology"] * 30 + ["a rare kind"] * 3


def publish_set(store: Store, folder: Path, *, kinds: list[str] = KINDS, **settings: object) -> Artifact:
    """Publish an embedded set of notes in two parts, and its map by the job's own function."""
    publish_bare(store, "model", "m-1", inputs=(), recipe={})
    folder.mkdir(exist_ok=True)
    count, half = len(kinds), len(kinds) * 2 // 3
    texts = [f"The secret text of note {row}." for row in range(count)]
    table = pa.table({"note_id": [f"N{row}" for row in range(count)], "text": texts, "kind": kinds})
    pq.write_table(table, folder / "notes.parquet")
    recipe = EmbedRecipe(
        name="notes", model="m-1", input_uri=str(folder), id_column="note_id", text_column="text", metadata_columns=("kind",)
    )  # fmt: skip
    plan = make_plan(recipe, store)
    rng = np.random.default_rng(0)
    vectors = np.eye(4)[[sorted(set(KINDS)).index(kind) for kind in kinds]] + rng.normal(scale=0.05, size=(count, 4))
    files = []
    for number, rows in enumerate((range(half), range(half, count))):
        part = pa.table(
            {
                "id": [f"N{row}" for row in rows],
                "kind": [kinds[row] for row in rows],
                "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors[list(rows)].ravel(), pa.float32()), 4),
                "num_tokens": pa.array([100 + 30 * row for row in rows], pa.int32()),
            }
        )
        path = folder / f"{number}.part"
        pq.write_table(part, path)
        files.append(upload(store, plan.prefix, f"vectors/{number:06d}.parquet", path))
    summary = {"rows_of_parts": [half, count - half], "model": "m-1", "pooling": "cls", "metadata_columns": ["kind"]}
    plan.publish(files, summary=summary)
    values = {"name": "notes", "embeddings": "notes", "perplexity": 10, "num_iterations": 50, **settings}
    return map_embeddings(make_plan(ProjectRecipe.model_validate(values), store))
