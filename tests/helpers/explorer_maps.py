"""Code maps for the explorer's tests, published through the real functions."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from clinical_modernbert.artifacts import Artifact, InputEntry, Store, make_plan
from clinical_modernbert.evaluation.codes.labels import map_labels
from clinical_modernbert.recipe import MapRecipe
from numpy.typing import NDArray

from tests.helpers.explorer_page import SEARCH_TERMS, PublishMap, code_table, code_vectors, publish_bare, whole_table


def map_publisher(store: Store, scratch: Path) -> PublishMap:
    """Return what publishes a corpus, a model and a map ``name`` of 21 chapters into a store.

    ``encoder`` is the purity that the map's report claims, and ``summary`` adds to the report. The table has one more code,
    999.9, which the map does not show. Another ``model`` must be in the store already.
    """

    def publish(
        name: str = "tiny",
        *,
        encoder: float = 0.9,
        model: str = "m-1",
        vectors: NDArray[np.float32] | None = None,
        of_codes: int | None = None,
        **summary: object,
    ) -> Artifact:
        sources = [{"type": "synthetic_notes", "name": "notes"}, {"type": "codes", "name": "icd9"}]
        raw = (
            InputEntry(name="part-0", id="notes", digest="0" * 64),
            InputEntry(name="part-1", id="notes", digest="1" * 64),
        )
        corpus = publish_bare(
            store, "corpus", "c-1", inputs=raw, recipe={"sources": sources}, summary={"synthetic_sources": ["notes"]}
        )
        upstream = InputEntry(name="corpus", id="corpus/c-1", digest=corpus)
        publish_bare(store, "model", "m-1", inputs=(upstream,), recipe={})
        codes = code_table()
        plan = make_plan(MapRecipe(name=name, model=model), store)
        report = {
            "purity": {"k": 10, "encoder": encoder, "untrained": 0.3, "tfidf": 0.6, "permutation": 0.05},
            "num_codes": codes.num_rows,
            "of_codes": of_codes or codes.num_rows,
            "table": "icd9cm",
            "pooling": "cls",
            "model": model,
            **summary,
        }
        folder = scratch / "made"
        folder.mkdir(exist_ok=True)
        pq.write_table(codes, folder / "codes.parquet", compression="zstd")
        pq.write_table(whole_table(), folder / "table.parquet", compression="zstd")
        (folder / "search.json").write_text(json.dumps(SEARCH_TERMS))
        (folder / "labels.json").write_text(json.dumps(map_labels(codes["path"].to_pylist(), _xy(codes))))
        np.save(folder / "vectors.npy", code_vectors() if vectors is None else vectors)
        (folder / "report.json").write_text(json.dumps(report))
        return plan.publish_folder(folder, summary=report)

    return publish


def _xy(codes: pa.Table) -> NDArray[np.float32]:
    return np.stack([codes["x"].to_numpy(), codes["y"].to_numpy()], axis=1)
