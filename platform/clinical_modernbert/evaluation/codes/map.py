"""The map of a code table (figure 2; paper, 4.4 and 5.4) as an artifact, with figures that the paper does not give.

The description of each code is embedded and placed by t-SNE. Chapter purity@k is measured in the original space, next to a
permutation of the chapters, the same encoder untrained, and TF-IDF. Codes whose concept the model's corpus held out are marked.
"""

import json
import logging
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from clinical_modernbert.artifacts import Artifact, Plan, synthetic_sources
from clinical_modernbert.encoder import Encoder, load_export, pooling_of
from clinical_modernbert.encoder.neighbours import nearest, purity
from clinical_modernbert.errors import ArtifactError
from clinical_modernbert.evaluation.codes.code_set import CodeSet, code_set, held_out_codes
from clinical_modernbert.evaluation.codes.labels import label_paths, map_labels
from clinical_modernbert.evaluation.codes.neighbours import group_figures, permuted_purity
from clinical_modernbert.evaluation.codes.places import code_paths, counterparts
from clinical_modernbert.evaluation.codes.report import MapReport, Purity
from clinical_modernbert.evaluation.codes.search_terms import search_terms
from clinical_modernbert.evaluation.codes.vectors import encoder_vectors, project, text_vectors, untrained
from clinical_modernbert.evaluation.report.schema import CodeFigures, section_json
from clinical_modernbert.recipe import MapRecipe
from clinical_modernbert.recipe.vocabulary import Pooling

_NEIGHBOURS_SHOWN = 10

_logger = logging.getLogger(__name__)


def map_codes(plan: Plan[MapRecipe]) -> Artifact:
    """Embed, measure, project and publish the codes with their places, vectors, labels and what the explorer searches."""
    recipe, model = plan.recipe, plan.artifacts["model"]
    pooling = pooling_of(model, recipe.pooling)
    torch.set_num_threads(recipe.scaling.num_cpus)
    codes = code_set(recipe.table, max_codes=recipe.max_codes, seed=recipe.seed)
    held_out_N = held_out_codes(codes, model)
    if held_out_N is None:
        raise ArtifactError(
            f"{model.uri}: its corpus or pair set is not in {model.store.uri}: held-out codes cannot be marked"
        )
    encoder = load_export(model.folder("model"))
    vectors_ND = _vectors(encoder, codes, pooling, recipe)
    _logger.info("embedded %d codes", len(codes))
    index_NK, similarity_NK = nearest(vectors_ND, k=max(recipe.purity_neighbours, _NEIGHBOURS_SHOWN))
    seed = int(model.manifest.recipe["training"]["seed"])
    figures = Purity(
        k=recipe.purity_neighbours,
        encoder=purity(index_NK[:, : recipe.purity_neighbours], codes.chapters_N),
        untrained=_purity(_vectors(untrained(encoder, seed=seed), codes, pooling, recipe), codes, recipe),
        tfidf=_purity(text_vectors(codes.descriptions), codes, recipe),
        permutation=permuted_purity(index_NK[:, : recipe.purity_neighbours], codes.chapters_N, seed=recipe.seed),
    )
    _logger.info("chapter purity %s", figures)
    xy_N2 = project(
        vectors_ND,
        perplexity=recipe.perplexity,
        num_iterations=recipe.num_iterations,
        seed=recipe.seed,
        num_cpus=recipe.scaling.num_cpus,
    )
    _logger.info("projected %d codes", len(codes))
    report = section_json(
        MapReport(
            purity=figures,
            measures=_measures(vectors_ND, codes, held_out_N, recipe),
            num_codes=len(codes),
            of_codes=len(codes.whole),
            synthetic_sources=synthetic_sources(model),
            table=recipe.table,
            pooling=pooling,
            model=model.manifest.id,
        )
    )
    paths = code_paths(codes.table, codes.entries)
    near = index_NK[:, :_NEIGHBOURS_SHOWN], similarity_NK[:, :_NEIGHBOURS_SHOWN]
    shown = _table(codes, xy_N2, held_out_N, paths, *near)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pq.write_table(shown, folder / "codes.parquet", compression="zstd")
        pq.write_table(_whole_table(codes), folder / "table.parquet", compression="zstd")
        _write_json(search_terms(codes.table, codes.whole, recipe.synonyms), folder / "search.json")
        _write_json(map_labels(label_paths(codes, paths), xy_N2), folder / "labels.json")
        np.save(folder / "vectors.npy", vectors_ND, allow_pickle=False)
        (folder / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
        return plan.publish_folder(folder, summary=report)


def _vectors(encoder: Encoder, codes: CodeSet, pooling: Pooling, recipe: MapRecipe) -> NDArray[np.float32]:
    budget = recipe.scaling.max_batch_tokens
    return encoder_vectors(encoder, codes.descriptions, pooling=pooling, max_batch_tokens=budget)


def _purity(vectors_ND: NDArray[np.float32], codes: CodeSet, recipe: MapRecipe) -> float:
    return purity(nearest(vectors_ND, k=recipe.purity_neighbours)[0], codes.chapters_N)


def _measures(
    vectors_ND: NDArray[np.float32], codes: CodeSet, held_out_N: NDArray[np.bool_], recipe: MapRecipe
) -> dict[str, CodeFigures]:
    """Return all figures with intervals: of all codes, of those in the corpus, and of those it held out."""
    subsets = {"all": np.ones(len(codes), dtype=bool), "seen": ~held_out_N, "held_out": held_out_N}
    chapters_N, categories, k = codes.chapters_N, codes.categories, recipe.purity_neighbours
    return {
        name: group_figures(vectors_ND, chapters_N, categories, k=k, seed=recipe.seed, judged=chosen_N)
        for name, chosen_N in subsets.items()
        if chosen_N.any()
    }


def _table(
    codes: CodeSet,
    xy_N2: NDArray[np.float32],
    held_out_N: NDArray[np.bool_],
    paths: list[list[str]],
    neighbours_NK: NDArray[np.int32],
    similarities_NK: NDArray[np.float32],
) -> pa.Table:
    entries = codes.entries
    return pa.table(
        {
            "code": [entry.code for entry in entries],
            "description": codes.descriptions,
            "chapter_id": [entry.chapter_id for entry in entries],
            "chapter": [entry.chapter for entry in entries],
            "x": pa.array(xy_N2[:, 0], pa.float32()),
            "y": pa.array(xy_N2[:, 1], pa.float32()),
            "held_out": held_out_N,
            "path": pa.array(paths, pa.list_(pa.string())),
            "crosswalk": pa.array(counterparts(codes.table, entries), pa.list_(pa.string())),
            "neighbours": pa.array(neighbours_NK.tolist(), pa.list_(pa.int32())),
            "similarities": pa.array(similarities_NK.tolist(), pa.list_(pa.float32())),
        }
    )


def _whole_table(codes: CodeSet) -> pa.Table:
    """Return every code of the table, with its row on the map; null where the sample left it out."""
    rows = {entry.code: row for row, entry in enumerate(codes.entries)}
    return pa.table(
        {
            "code": [entry.code for entry in codes.whole],
            "description": [entry.description for entry in codes.whole],
            "chapter_id": [entry.chapter_id for entry in codes.whole],
            "chapter": [entry.chapter for entry in codes.whole],
            "row": pa.array([rows.get(entry.code) for entry in codes.whole], pa.int32()),
            "crosswalk": pa.array(counterparts(codes.table, codes.whole), pa.list_(pa.string())),
        }
    )


def _write_json(value: object, path: Path) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")
