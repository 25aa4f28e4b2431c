"""A trial is a pretraining recipe plus overrides: two strings, by which it can be run again by hand."""

import hashlib
import itertools
import json
from dataclasses import dataclass
from typing import Any

import yaml

from clinical_modernbert.artifacts import InputEntry, Plan, Store, make_plan
from clinical_modernbert.errors import RecipeError
from clinical_modernbert.recipe import PretrainRecipe, SweepRecipe, build_recipe, read_recipe
from clinical_modernbert.recipe.sweep import GridDimension


@dataclass(frozen=True, slots=True)
class SweepBase:
    """What all trials of a sweep share."""

    values: dict[str, Any]
    """The base recipe as its file says."""
    name: str
    """Name of every trial's model, apart from that of other runs of the base."""
    base: str
    overrides: tuple[str, ...]
    corpus_id: str


def sweep_base(recipe: SweepRecipe, *, corpus_id: str) -> SweepBase:
    """Read the base recipe, and refuse a space whose paths or values it does not have."""
    base = SweepBase(
        values=read_recipe(recipe.base),
        name=f"{recipe.name[:34]}-trial",
        base=recipe.base,
        overrides=recipe.overrides,
        corpus_id=corpus_id,
    )
    for path, dimension in recipe.space.items():
        values = dimension.values if isinstance(dimension, GridDimension) else (dimension.low, dimension.high)
        for value in values:
            try:
                trial_recipe(base, {path: value})
            except RecipeError as error:
                raise RecipeError(f"space: {path}={value!r} does not fit {recipe.base}: {error}") from None
    return base


def base_inputs(recipe: SweepRecipe) -> tuple[InputEntry, ...]:
    """Return what the base recipe says, so that a sweep of an edited base is another sweep."""
    canonical = json.dumps(read_recipe(recipe.base), sort_keys=True, default=str)
    return (InputEntry(name="base", id=recipe.base, digest=hashlib.sha256(canonical.encode()).hexdigest()),)


def trial_overrides(base: SweepBase, point: dict[str, Any]) -> list[str]:
    """Return the overrides of the trial at ``point`` (dotted path -> value), as one would type them."""
    own = [f"{path}={yaml.safe_dump(value, default_flow_style=True).removesuffix(chr(10)).removesuffix('...').strip()}"
           for path, value in sorted(point.items())]  # fmt: skip
    return [f"name={base.name}", f"corpus={base.corpus_id}", *base.overrides, *own]


def trial_recipe(base: SweepBase, point: dict[str, Any]) -> PretrainRecipe:
    """Return the validated recipe of the trial at ``point``."""
    return build_recipe(PretrainRecipe, base.values, overrides=trial_overrides(base, point), origin=base.base)


def trial_plan(base: SweepBase, point: dict[str, Any], store: Store) -> Plan:
    """Return where the trial's model belongs; a trial that was trained before is found there."""
    return make_plan(trial_recipe(base, point), store)


def grid_points(recipe: SweepRecipe) -> list[dict[str, Any]]:
    """Return every combination of a grid, in the order of its dimensions."""
    paths = sorted(recipe.space)
    values = [dimension.values for path in paths if isinstance(dimension := recipe.space[path], GridDimension)]
    return [dict(zip(paths, combination, strict=True)) for combination in itertools.product(*values)]
