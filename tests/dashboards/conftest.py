"""A store with a small synthetic code map, published through the real functions; the app as a user starts it."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import streamlit as st
from clinical_modernbert.artifacts import (
    Artifact,
    InputEntry,
    Manifest,
    Store,
    make_plan,
    open_store,
    upload,
    write_manifest,
)
from clinical_modernbert.recipe import MapRecipe
from numpy.typing import NDArray
from streamlit.testing.v1 import AppTest

DASHBOARDS = Path(__file__).resolve().parents[2] / "dashboards"
NUM_CHAPTERS, CODES_PER_CHAPTER = 21, 20
sys.path.insert(0, str(DASHBOARDS))  # Streamlit itself puts the folder of the main script there.

PublishMap = Callable[..., Artifact]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(f"file://{tmp_path}/store")


@pytest.fixture
def publish_map(store: Store, tmp_path: Path) -> PublishMap:
    """Publish a corpus, a model and a map ``name`` of 21 chapters; ``encoder`` is the purity that its report claims.

    Another ``model`` must be in the store already.
    """

    def publish(
        name: str = "tiny", *, encoder: float = 0.9, model: str = "m-1", vectors: NDArray[np.float32] | None = None
    ) -> Artifact:
        sources = [{"type": "synthetic_notes", "name": "notes"}, {"type": "codes", "name": "icd9"}]
        raw = (
            InputEntry(name="part-0", id="notes", digest="0" * 64),
            InputEntry(name="part-1", id="notes", digest="1" * 64),
        )
        corpus = publish_bare(store, "corpus", "c-1", inputs=raw, recipe={"sources": sources})
        upstream = InputEntry(name="corpus", id="corpus/c-1", digest=corpus)
        publish_bare(store, "model", "m-1", inputs=(upstream,), recipe={})
        plan = make_plan(MapRecipe(name=name, model=model), store)
        report = {
            "purity": {"k": 10, "encoder": encoder, "untrained": 0.3, "tfidf": 0.6, "permutation": 0.05},
            "num_codes": NUM_CHAPTERS * CODES_PER_CHAPTER,
            "table": "icd9cm",
            "pooling": "cls",
            "model": model,
        }
        folder = tmp_path / "made"
        folder.mkdir(exist_ok=True)
        pq.write_table(code_table(), folder / "codes.parquet", compression="zstd")
        np.save(folder / "vectors.npy", code_vectors() if vectors is None else vectors)
        (folder / "report.json").write_text(json.dumps(report))
        files = [upload(store, plan.prefix, path.name, path) for path in sorted(folder.iterdir())]
        return plan.publish(files, summary=report)

    return publish


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


def code_vectors() -> NDArray[np.float32]:
    """Vectors of ``code_table``: a direction for each chapter, and each code a little off it."""
    rng = np.random.default_rng(1)
    chapter = np.repeat(np.eye(NUM_CHAPTERS, dtype=np.float32), CODES_PER_CHAPTER, axis=0)
    return (chapter + rng.normal(scale=0.01, size=chapter.shape)).astype(np.float32)


def publish_bare(
    store: Store, kind: str, artifact_id: str, *, inputs: tuple[InputEntry, ...], recipe: dict[str, object]
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
            summary={},
            files=(),
        ),
    )
    return manifest.digest


@pytest.fixture
def app(store: Store, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """The explorer, started as ``streamlit run dashboards/explorer.py -- --root URI``; not run yet."""
    st.cache_resource.clear()
    st.cache_data.clear()
    monkeypatch.setattr(sys, "argv", ["dashboards/explorer.py", "--root", store.uri])
    return AppTest.from_file(str(DASHBOARDS / "explorer.py"), default_timeout=30)


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
    kinds = (app.title, app.subheader, app.markdown, app.caption, app.text, app.info, app.warning, app.error, app.code)
    return "\n".join(str(element.value) for kind in kinds for element in kind)
