"""The map of an embedded set: ids and metadata columns of the embed job, a place, and neighbours in the original space.

There are no texts: an embedded set has none. The vectors stay in the embedded set.
"""

import json
import logging
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from clinical_modernbert.artifacts import Artifact, Plan, synthetic_sources
from clinical_modernbert.encoder.neighbours import nearest
from clinical_modernbert.errors import ArtifactError
from clinical_modernbert.evaluation.codes.report import EmbeddingMapReport
from clinical_modernbert.evaluation.codes.vectors import project
from clinical_modernbert.evaluation.report.schema import section_json
from clinical_modernbert.recipe import ProjectRecipe

_logger = logging.getLogger(__name__)


def map_embeddings(plan: Plan[ProjectRecipe]) -> Artifact:
    """Project an embedded set and publish ``rows.parquet`` and ``report.json``; ``ArtifactError`` if it is too small."""
    recipe = plan.recipe
    embeddings = plan.artifacts["embeddings"]
    table, vectors_ND, of_rows = _sample(embeddings, recipe)
    if table.num_rows <= recipe.num_neighbours:
        raise ArtifactError(
            f"{embeddings.uri} has {table.num_rows} rows: a map with num_neighbours={recipe.num_neighbours} needs more"
        )
    index_NK, similarity_NK = nearest(vectors_ND, k=recipe.num_neighbours)
    xy_N2 = project(
        vectors_ND,
        perplexity=recipe.perplexity,
        num_iterations=recipe.num_iterations,
        seed=recipe.seed,
        num_cpus=recipe.scaling.num_cpus,
    )
    _logger.info("projected %d of %d rows", table.num_rows, of_rows)
    for name, values in (
        ("x", pa.array(xy_N2[:, 0], pa.float32())),
        ("y", pa.array(xy_N2[:, 1], pa.float32())),
        ("neighbours", pa.array(index_NK.tolist(), pa.list_(pa.int32()))),
        ("similarities", pa.array(similarity_NK.tolist(), pa.list_(pa.float32()))),
    ):
        table = table.append_column(f"map_{name}", values)
    report = section_json(
        EmbeddingMapReport(
            num_rows=table.num_rows,
            of_rows=of_rows,
            synthetic_sources=synthetic_sources(embeddings),
            columns=embeddings.summary["metadata_columns"],
            pooling=embeddings.summary["pooling"],
            embeddings=embeddings.manifest.id,
            model=embeddings.summary["model"],
        )
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pq.write_table(table, folder / "rows.parquet", compression="zstd")
        (folder / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
        return plan.publish_folder(folder, summary=report)


def _sample(embeddings: Artifact, recipe: ProjectRecipe) -> tuple[pa.Table, NDArray[np.float32], int]:
    """Return ids and columns of the sampled rows, their vectors [N, D], and how many rows there are."""
    counts = embeddings.summary["rows_of_parts"]
    of_rows = sum(counts)
    chosen = np.arange(of_rows)
    if recipe.max_rows is not None and recipe.max_rows < of_rows:
        chosen = np.sort(np.random.default_rng(recipe.seed).choice(of_rows, size=recipe.max_rows, replace=False))
    names = ["id", *embeddings.summary["metadata_columns"], "num_tokens"]
    tables: list[pa.Table] = []
    vectors: list[NDArray[np.float32]] = []
    start = 0
    # File by file: a set may be larger than the memory, its sample is not.
    for number, count in enumerate(counts):
        rows = chosen[(chosen >= start) & (chosen < start + count)] - start
        start += count
        if not len(rows):
            continue
        table = pq.read_table(embeddings.file(f"vectors/{number:06d}.parquet")).take(pa.array(rows))
        tables.append(table.select(names))
        vector = table["vector"].combine_chunks()
        vectors.append(np.asarray(vector.flatten()).reshape(len(rows), -1).astype(np.float32))
    return pa.concat_tables(tables), np.concatenate(vectors), of_rows
