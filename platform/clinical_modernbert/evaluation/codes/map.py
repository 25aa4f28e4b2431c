"""Figure 2: the map of ICD-9 codes, or of ICD-10 codes (paper, 4.4 and 5.4), with the figures that the paper does not give.

The bare description of each code goes through the encoder, its vector through t-SNE (openTSNE), coloured by chapter. Purity@k is
measured in the original space, beside a permutation, the same encoder untrained and TF-IDF. Codes whose concept was held out of
the model's corpus are marked.
"""

import json
import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from clinical_modernbert.artifacts import Artifact, Plan, resolve, upload
from clinical_modernbert.corpus import is_held_out
from clinical_modernbert.encoder import Encoder, build_model, load_encoder
from clinical_modernbert.evaluation.codes.neighbours import (
    group_figures,
    nearest,
    permuted_purity,
    purity,
    text_vectors,
)
from clinical_modernbert.evaluation.codes.places import code_paths, counterparts
from clinical_modernbert.evaluation.codes.projection import project
from clinical_modernbert.recipe import CorpusRecipe, MapRecipe, PretrainRecipe
from clinical_modernbert.sources import CodeEntry, code_group, code_table
from clinical_modernbert.sources.codes import Table
from clinical_modernbert.tokenizer import special_ids

_NEIGHBOURS_SHOWN = 10

_logger = logging.getLogger(__name__)


def map_codes(plan: Plan[MapRecipe]) -> Artifact:
    """Embed, measure, project and publish ``codes.parquet``, ``vectors.npy`` and ``report.json``."""
    recipe = plan.recipe
    torch.set_num_threads(recipe.scaling.num_cpus)
    model = plan.artifacts["model"]
    codes = _sample(code_table(recipe.table), recipe)
    texts = [entry.description for entry in codes]
    chapters = sorted({entry.chapter_id for entry in codes})
    groups_N = np.array([chapters.index(entry.chapter_id) for entry in codes])
    encoder = load_encoder(model.folder("model"))
    vectors_ND = _embed(encoder, texts, recipe)
    _logger.info("embedded %d codes", len(codes))

    k = max(recipe.purity_neighbours, _NEIGHBOURS_SHOWN)
    index_NK, similarity_NK = nearest(vectors_ND, k=k)
    measured = index_NK[:, : recipe.purity_neighbours]
    figures = {
        "k": recipe.purity_neighbours,
        "encoder": purity(measured, groups_N),
        "untrained": _purity_of(_embed(_untrained(encoder, model), texts, recipe), groups_N, recipe),
        "tfidf": _purity_of(text_vectors(texts), groups_N, recipe),
        "permutation": permuted_purity(measured, groups_N, seed=recipe.seed),
    }
    _logger.info(
        "chapter purity@%d %s", recipe.purity_neighbours, {n: round(v, 4) for n, v in figures.items() if n != "k"}
    )
    xy_N2 = project(
        vectors_ND,
        perplexity=recipe.perplexity,
        num_iterations=recipe.num_iterations,
        seed=recipe.seed,
        num_cpus=recipe.scaling.num_cpus,
    )
    _logger.info("projected %d codes", len(codes))
    held_out = np.array(_held_out(codes, model, table=recipe.table))
    report = {
        "purity": figures,
        "measures": _measures(vectors_ND, groups_N, codes, held_out, recipe),
        "num_codes": len(codes),
        "table": recipe.table,
        "pooling": recipe.pooling,
        "model": model.manifest.id,
    }
    table = pa.table(
        {
            "code": [entry.code for entry in codes],
            "description": texts,
            "chapter_id": [entry.chapter_id for entry in codes],
            "chapter": [entry.chapter for entry in codes],
            "x": pa.array(xy_N2[:, 0], pa.float32()),
            "y": pa.array(xy_N2[:, 1], pa.float32()),
            "held_out": held_out,
            "path": pa.array(code_paths(recipe.table, codes), pa.list_(pa.string())),
            "crosswalk": pa.array(counterparts(recipe.table, codes), pa.list_(pa.string())),
            "neighbours": pa.array(index_NK[:, :_NEIGHBOURS_SHOWN].tolist(), pa.list_(pa.int32())),
            "similarities": pa.array(similarity_NK[:, :_NEIGHBOURS_SHOWN].tolist(), pa.list_(pa.float32())),
        }
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pq.write_table(table, folder / "codes.parquet", compression="zstd")
        np.save(folder / "vectors.npy", vectors_ND, allow_pickle=False)
        (folder / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
        files = [upload(plan.store, plan.prefix, path.name, path) for path in sorted(folder.iterdir())]
    return plan.publish(files, summary=report)


def _sample(codes: list[CodeEntry], recipe: MapRecipe) -> list[CodeEntry]:
    if recipe.max_codes is None or recipe.max_codes >= len(codes):
        return codes
    chosen = np.random.default_rng(recipe.seed).choice(len(codes), size=recipe.max_codes, replace=False)
    return [codes[i] for i in np.sort(chosen)]


def _embed(encoder: Encoder, texts: list[str], recipe: MapRecipe) -> NDArray[np.float32]:
    return encoder.embed(encoder.tokenize(texts), pooling=recipe.pooling, normalize=False)


def _measures(
    vectors_ND: NDArray[np.float32],
    groups_N: NDArray[np.int64],
    codes: list[CodeEntry],
    held_out_N: NDArray[np.bool_],
    recipe: MapRecipe,
) -> dict[str, Any]:
    """Return purity, neighbour agreement and silhouette with intervals: all codes, and those seen and held out apart."""
    categories = [code_group(recipe.table, entry.code) for entry in codes]
    parts = {"all": np.ones(len(codes), dtype=bool), "seen": ~held_out_N, "held_out": held_out_N}
    return {
        name: group_figures(
            vectors_ND, groups_N, categories, k=recipe.purity_neighbours, seed=recipe.seed, judged=chosen
        )
        for name, chosen in parts.items()
        if chosen.any()
    }


def _purity_of(vectors_ND: NDArray[np.float32], groups_N: NDArray[np.int64], recipe: MapRecipe) -> float:
    return purity(nearest(vectors_ND, k=recipe.purity_neighbours)[0], groups_N)


def _untrained(encoder: Encoder, model: Artifact) -> Encoder:
    """Return the same architecture with fresh weights: what the tokenizer and the shape alone give."""
    recipe = PretrainRecipe.model_validate(model.manifest.recipe)
    fresh = build_model(
        recipe.model,
        vocabulary_size=encoder.model.config.vocab_size,
        special_ids=special_ids(encoder.tokenizer),
        seed=recipe.training.seed,
    )
    return Encoder(model=fresh.eval(), tokenizer=encoder.tokenizer)


def _held_out(codes: list[CodeEntry], model: Artifact, *, table: Table) -> list[bool]:
    """Return which codes' concepts the model's corpus held out."""
    corpus_id = next(entry.id for entry in model.manifest.inputs if entry.name == "corpus")
    corpus = resolve(model.store, "corpus", corpus_id.removeprefix("corpus/"))
    section = CorpusRecipe.model_validate(corpus.manifest.recipe).held_out
    return [is_held_out(code_group(table, entry.code), section) for entry in codes]
