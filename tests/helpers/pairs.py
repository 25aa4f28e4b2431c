"""A small pair set and contrastive runs on it, through the real functions."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clinical_modernbert.artifacts import Artifact, Plan, Store, make_plan
from clinical_modernbert.corpus.pairs.build import pair_inputs
from clinical_modernbert.recipe import ContrastRecipe, PairsRecipe, build_recipe
from clinical_modernbert.training.contrastive.mining import build_pair_set

_ORGANS = ("kidney", "heart", "lung", "liver", "skin", "eye", "ear", "bone", "nerve", "brain")
_STATES = ("failure", "pain", "bleeding", "swelling", "burn", "infection")


def publish_tiny_pairs(
    store: Store, name: str = "tiny", *, rows: Sequence[tuple[str, str]] = (), **fields: Any
) -> Artifact:
    """Publish terms of 60 made-up conditions, or ``rows``, and medications in a second source; ``fields`` are of the recipe."""
    conditions = rows or [
        (f"{state} of the {organ}", f"{organ} {state}, unspecified") for organ in _ORGANS for state in _STATES
    ]
    drugs = [(f"{organ}forte {n} mg", f"{organ}micin") for n, organ in enumerate(_ORGANS)]
    with tempfile.TemporaryDirectory() as folder:
        sources = [
            _table(Path(folder), source, terms) for source, terms in (("conditions", conditions), ("drugs", drugs))
        ]
        recipe = PairsRecipe.model_validate({"name": name, "data": folder, "sources": sources, **fields})
        return build_pair_set(make_plan(recipe, store, raw_inputs=pair_inputs(recipe)))


def _table(folder: Path, name: str, rows: Sequence[tuple[str, str]]) -> dict[str, str]:
    lines = ["term\tname", *("\t".join(row) for row in rows)]
    (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    return {"type": "term_table", "name": name, "path": f"{name}.tsv", "term_column": "term", "name_column": "name"}


TINY_CONTRAST: dict[str, Any] = {
    "kind": "contrast",
    "name": "tiny",
    "pairs": "tiny",
    "optimizer": {"learning_rate": 1e-3, "algorithm": "adamw"},
    "training": {"num_steps": 12, "batch_pairs": 16, "precision": "float32"},
    "held_out": {"every_steps": 6},
    "checkpoint": {"every_steps": 4},
    "logging": {"every_steps": 1},
    "scaling": {"num_workers": 1, "micro_batch_pairs": 16},
}


def tiny_contrast_plan(store: Store, init: Path | str, *overrides: str, name: str = "tiny") -> Plan[ContrastRecipe]:
    """Return the plan of 12 steps of 16 pairs from the encoder ``init``; one worker."""
    values = {**TINY_CONTRAST, "name": name, "init": str(init)}
    return make_plan(build_recipe(ContrastRecipe, values, overrides=overrides, origin="tiny"), store)
