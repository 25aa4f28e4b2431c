"""The map of a code table (figure 2; paper, 4.4 and 5.4) as an artifact, with figures that the paper does not give.

The description of each code is embedded and placed by t-SNE. Chapter purity@k is measured in the original space, next to a
permutation of the chapters, the same encoder untrained, and TF-IDF. Codes whose concept the model's corpus held out are marked.
"""

import logging
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from clinical_modernbert.artifacts import Artifact, Plan, synthetic_sources
from clinical_modernbert.encoder import Encoder, load_export, pooling_of
from clinical_modernbert.encoder.neighbours import nearest, purity
from clinical_modernbert.errors import ArtifactError
from clinical_modernbert.evaluation.codes.code_set import CodeSet, code_set, held_out_codes
from clinical_modernbert.evaluation.codes.map_files import NEIGHBOURS_SHOWN, Placed, write_map
from clinical_modernbert.evaluation.codes.neighbours import group_figures, permuted_purity
from clinical_modernbert.evaluation.codes.report import MapReport, Purity
from clinical_modernbert.evaluation.codes.vectors import encoder_vectors, project, text_vectors, untrained
from clinical_modernbert.evaluation.report.schema import CodeFigures, section_json
from clinical_modernbert.recipe import MapRecipe
from clinical_modernbert.recipe.vocabulary import Pooling

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
    index_NK, similarity_NK = nearest(vectors_ND, k=max(recipe.purity_neighbours, NEIGHBOURS_SHOWN))
    figures = Purity(
        k=recipe.purity_neighbours,
        encoder=purity(index_NK[:, : recipe.purity_neighbours], codes.chapters_N),
        untrained=_purity(_vectors(untrained(encoder, seed=recipe.seed), codes, pooling, recipe), codes, recipe),
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
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        placed = Placed(
            xy_N2=xy_N2,
            held_out_N=held_out_N,
            neighbours_NK=index_NK[:, :NEIGHBOURS_SHOWN],
            similarities_NK=similarity_NK[:, :NEIGHBOURS_SHOWN],
            vectors_ND=vectors_ND,
        )
        write_map(folder, codes, placed, report=report, synonyms=recipe.synonyms)
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
