"""A map of all ICD-9-CM codes and what the explorer searches, published without a model: for tests and pictures of real words."""

from pathlib import Path

import numpy as np
from clinical_modernbert.artifacts import Artifact, Store, make_plan
from clinical_modernbert.evaluation.codes.code_set import CodeSet, code_set
from clinical_modernbert.evaluation.codes.map_files import NEIGHBOURS_SHOWN, Placed, write_map
from clinical_modernbert.recipe import MapRecipe
from numpy.typing import NDArray

from tests.helpers.explorer_page import publish_bare


def publish_real_map(
    store: Store, scratch: Path, *, name: str = "icd9", model: str = "m-1", placed: Placed | None = None
) -> Artifact:
    """Publish the map ``name``, with the codes in categories on a spiral unless ``placed`` has their places.

    Models without files have the same content, so maps of two of them need two names.
    """
    publish_bare(store, "model", model, inputs=(), recipe={})
    codes = code_set("icd9cm", max_codes=None, seed=0)
    plan = make_plan(MapRecipe(name=name, model=model), store)
    report = {
        "purity": {"k": 10, "encoder": 0.9, "untrained": 0.3, "tfidf": 0.6, "permutation": 0.05},
        "num_codes": len(codes),
        "of_codes": len(codes),
        "synthetic_sources": [],
        "table": "icd9cm",
        "pooling": "cls",
        "model": model,
    }
    folder = scratch / "made"
    folder.mkdir()
    write_map(folder, codes, placed or _spiral(codes), report=report)
    return plan.publish_folder(folder, summary=report)


def _spiral(codes: CodeSet) -> Placed:
    """Categories on a spiral in their order, so that neighbours of the table are neighbours on the map."""
    count = len(codes)
    category_N = np.unique(codes.categories, return_inverse=True)[1]
    turn_N: NDArray[np.float64] = np.sqrt(category_N + 1.0)
    centre_N2 = np.stack([np.cos(2.4 * category_N), np.sin(2.4 * category_N)], axis=1) * turn_N[:, None]
    xy_N2 = (centre_N2 + np.random.default_rng(0).normal(scale=0.1, size=(count, 2))).astype(np.float32)
    near_NK = (np.arange(count)[:, None] + 1 + np.arange(NEIGHBOURS_SHOWN)) % count
    return Placed(
        xy_N2=xy_N2,
        held_out_N=np.zeros(count, bool),
        neighbours_NK=near_NK.astype(np.int32),
        similarities_NK=np.tile(1 - np.arange(NEIGHBOURS_SHOWN, dtype=np.float32) / 100, (count, 1)),
        vectors_ND=np.zeros((count, 2), np.float32),
    )
