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
from clinical_modernbert.recipe.sweep import GridDimension, HalvingSection


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
    arms: dict[str, tuple[str, ...]]
    """The overrides of each arm; empty in a search."""


def sweep_base(recipe: SweepRecipe, *, corpus_id: str) -> SweepBase:
    """Read the base recipe, and refuse a space whose paths or values it does not have."""
    base = SweepBase(
        values=read_recipe(recipe.base),
        name=f"{recipe.name[:34]}-trial",
        base=recipe.base,
        overrides=recipe.overrides,
        corpus_id=corpus_id,
        arms=dict(recipe.arms),
    )
    for arm in recipe.arms:
        try:
            trial_recipe(base, {"arm": arm, "seed": recipe.seeds[0]})
        except RecipeError as error:
            raise RecipeError(f"arms.{arm} does not fit {recipe.base}: {error}") from None
    for path, dimension in recipe.space.items():
        values = dimension.values if isinstance(dimension, GridDimension) else (dimension.low, dimension.high)
        for value in values:
            try:
                trial = trial_recipe(base, {path: value})
                if recipe.halving:
                    check_halving(recipe.halving, trial)
            except RecipeError as error:
                raise RecipeError(f"space: {path}={value!r} does not fit {recipe.base}: {error}") from None
    return base


def check_halving(section: HalvingSection, trial: PretrainRecipe) -> None:
    """Refuse a trial that has no rung, or whose rungs are no steps at which held-out loss is measured."""
    every, total = trial.held_out_loss.every_steps, trial.training.total_steps
    if not every or section.grace_steps % every:
        raise RecipeError(
            f"halving.grace_steps={section.grace_steps} needs held-out losses at its rungs, and held_out_loss.every_steps is "
            f"{every}: set it in overrides, to {section.grace_steps} or a divisor of it"
        )
    if section.grace_steps >= total:
        raise RecipeError(
            f"halving.grace_steps={section.grace_steps} leaves no rung before the end of a trial of {total} steps: lower it"
        )


def base_inputs(recipe: SweepRecipe) -> tuple[InputEntry, ...]:
    """Return what the base recipe says, so that a sweep of an edited base is another sweep."""
    canonical = json.dumps(read_recipe(recipe.base), sort_keys=True, default=str)
    return (InputEntry(name="base", id=recipe.base, digest=hashlib.sha256(canonical.encode()).hexdigest()),)


def trial_overrides(base: SweepBase, point: dict[str, Any]) -> list[str]:
    """Return the overrides of a trial as one would type them.

    ``point`` is dotted path -> value in a search, ``{"arm": name, "seed": number}`` in an ablation.
    """
    if "arm" in point:
        own = [*base.arms[point["arm"]], f"training.seed={point['seed']}"]
    else:
        own = [f"{path}={_typed(value)}" for path, value in sorted(point.items())]
    return [f"name={base.name}", f"corpus={base.corpus_id}", *base.overrides, *own]


def _typed(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("\n").removesuffix("...").strip()


def trial_recipe(base: SweepBase, point: dict[str, Any]) -> PretrainRecipe:
    """Return the validated recipe of the trial at ``point``."""
    return build_recipe(PretrainRecipe, base.values, overrides=trial_overrides(base, point), origin=base.base)


def trial_plan(base: SweepBase, point: dict[str, Any], store: Store) -> Plan:
    """Return where the trial's model belongs; a trial that was trained before is found there."""
    return make_plan(trial_recipe(base, point), store)


def known_points(recipe: SweepRecipe) -> list[dict[str, Any]]:
    """Return the trials that are known before the first runs: all of an ablation or a grid, none of another search."""
    if recipe.arms:
        # Seed by seed: a sweep that ends early leaves whole comparisons.
        return [{"arm": arm, "seed": seed} for seed in recipe.seeds for arm in recipe.arms]
    if recipe.sampler != "grid":
        return []
    paths = sorted(recipe.space)
    values = [dimension.values for path in paths if isinstance(dimension := recipe.space[path], GridDimension)]
    return [dict(zip(paths, combination, strict=True)) for combination in itertools.product(*values)]
