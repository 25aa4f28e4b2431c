"""Trials: a pretraining recipe plus overrides, which also repeat the trial by hand."""

import hashlib
import itertools
import json
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import yaml

from clinical_modernbert.artifacts import Artifact, InputEntry, Plan, Store, find_model, make_plan, resolve
from clinical_modernbert.errors import RecipeError
from clinical_modernbert.recipe import PretrainRecipe, SweepRecipe, build_recipe, read_recipe
from clinical_modernbert.recipe.section import RecipeValues
from clinical_modernbert.recipe.sweep import GridDimension, HalvingSection, Scalar
from clinical_modernbert.training.corpora import pretrain_plan

# What names artifacts in a pretraining recipe: this field, and the keys of this field of its phases.
_CORPUS, _CORPORA = "corpus", "corpora"


Point = dict[str, Scalar]
"""Dotted recipe path -> value in a search, ``{"arm": name, "seed": number}`` in an ablation."""


@dataclass(frozen=True, slots=True)
class SweepBase:
    """The recipe, overrides and corpus that all trials of a sweep share."""

    values: RecipeValues
    """The base recipe's values, as its file holds them."""
    name: str
    """Name of every trial's model, different from that of other runs of the base."""
    base: str
    overrides: tuple[str, ...]
    corpus_id: str
    arms: dict[str, tuple[str, ...]]
    """The overrides of each arm; empty in a search."""


def sweep_base(recipe: SweepRecipe, *, corpus_id: str) -> SweepBase:
    """Read the base recipe; raise ``RecipeError`` if a path or value of the space does not fit it."""
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
    """Raise ``RecipeError`` if a trial has no rung, or measures no held-out loss at its rungs."""
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


def sweep_plan(recipe: SweepRecipe, store: Store) -> Plan[SweepRecipe]:
    """Plan the sweep. Corpus names in its base, overrides, arms and space become ids, and these corpora become inputs.

    A name may select another corpus later. Ids keep a trial's overrides valid, and make that a different sweep.
    """
    main_corpus = resolve(store, "corpus", recipe.corpus)
    base = sweep_base(recipe, corpus_id=main_corpus.manifest.id)  # raises what does not fit the base first
    named: dict[str, Artifact] = {}

    def pinned(where: str, reference: str) -> str:
        corpus = resolve(store, "corpus", reference)
        named[where if named.get(where, corpus) == corpus else f"{where} {reference}"] = corpus
        if _vocabulary(corpus) != _vocabulary(main_corpus):
            raise RecipeError(
                f"{where}: corpus {corpus.manifest.id} has another tokenizer than {main_corpus.manifest.id}, the sweep's corpus: "
                "losses over other tokens cannot be compared; build it with tokenizer.base set to that corpus's tokenizer folder"
            )
        return corpus.manifest.id

    def with_ids(where: str, overrides: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_with_ids(override, lambda reference: pinned(where, reference)) for override in overrides)

    space = {_path_with_ids(path, lambda name: pinned("space", name)): d for path, d in recipe.space.items()}
    if isinstance(dimension := space.get(_CORPUS), GridDimension):
        ids = tuple(pinned(f"space.{_CORPUS}.values.{n}", str(value)) for n, value in enumerate(dimension.values))
        space[_CORPUS] = dimension.model_copy(update={"values": ids})
    changes = {
        "overrides": with_ids("base", _phases_with_corpora(base)) + with_ids("overrides", recipe.overrides),
        "arms": {arm: with_ids(f"arms.{arm}", overrides) for arm, overrides in recipe.arms.items()},
        "space": space,
    }
    corpora = tuple(
        InputEntry(name=where, id=f"corpus/{corpus.manifest.id}", digest=corpus.manifest.digest)
        for where, corpus in named.items()
    )
    raw_inputs = (*base_inputs(recipe), *corpora, *_initial_models(recipe, base, store))
    return make_plan(recipe.model_copy(update=changes), store, raw_inputs=raw_inputs)


def _phases_with_corpora(base: SweepBase) -> tuple[str, ...]:
    """Return the override that repeats the base's phases where they name corpora and no other override replaces them."""
    phases = base.values.get("training", {}).get("phases") or ()
    replaced = any(override.partition("=")[0].strip() == "training.phases" for override in base.overrides)
    named = any(phase.get(_CORPORA) for phase in phases) and not replaced
    return (f"training.phases={_typed(phases)}",) if named else ()


def _with_ids(override: str, pinned: Callable[[str], str]) -> str:
    """Return the override with ids in place of the corpora that it names; unchanged where it names none."""
    path, _, text = override.partition("=")
    path, value = path.strip(), yaml.safe_load(text)
    if path == _CORPUS:
        return f"{_CORPUS}={pinned(str(value))}"
    below = _value_with_ids(path.rpartition(".")[2], value, pinned)
    with_ids = _path_with_ids(path, pinned)
    return override if (below, with_ids) == (value, path) else f"{with_ids}={_typed(below)}"


def _path_with_ids(path: str, pinned: Callable[[str], str]) -> str:
    """``training.phases.1.corpora.notes`` -> the same with the id of ``notes``."""
    before, corpora, name = path.partition(f".{_CORPORA}.")
    return f"{before}{corpora}{pinned(name)}" if corpora else path


def _value_with_ids(key: str, value: Any, pinned: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        if key == _CORPORA:
            return {pinned(str(name)): weight for name, weight in value.items()}
        return {name: _value_with_ids(name, below, pinned) for name, below in value.items()}
    return [_value_with_ids("", item, pinned) for item in value] if isinstance(value, list) else value


def _initial_models(recipe: SweepRecipe, base: SweepBase, store: Store) -> tuple[InputEntry, ...]:
    """Return the checkpoints from which trials start; one that is absent fails its trial, with its error in the report."""
    sources: set[str] = set()
    entries = []
    for point in [*known_points(recipe), {}]:  # {}: the base alone, for a search whose sampler proposes later
        with suppress(RecipeError):
            sources |= set(trial_recipe(base, point).model_sources().values())
    for source in sorted(sources):
        with suppress(RecipeError):
            entries.append(find_model(source, store, field=f"model.init {source}"))
    return tuple(entries)


def _vocabulary(corpus: Artifact) -> dict[str, int]:
    """Return token -> id of the corpus's tokenizer, read without the library: planning loads no torch."""
    tokenizer = json.loads(corpus.file("tokenizer/tokenizer.json").read_bytes())
    return {**tokenizer["model"]["vocab"], **{token["content"]: token["id"] for token in tokenizer["added_tokens"]}}


def base_inputs(recipe: SweepRecipe) -> tuple[InputEntry, ...]:
    """Return the base recipe as an input, so that a sweep of an edited base is a different sweep."""
    canonical = json.dumps(read_recipe(recipe.base), sort_keys=True, default=str)
    return (InputEntry(name="base", id=recipe.base, digest=hashlib.sha256(canonical.encode()).hexdigest()),)


def trial_overrides(base: SweepBase, point: Point) -> list[str]:
    """Return the overrides of a trial as a user would type them."""
    if "arm" in point:
        of_point = [*base.arms[str(point["arm"])], f"training.seed={point['seed']}"]
    else:
        of_point = [f"{path}={_typed(value)}" for path, value in sorted(point.items())]
    return [f"name={base.name}", f"corpus={base.corpus_id}", *base.overrides, *of_point]


def _typed(value: Any) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=sys.maxsize)
    return text.removesuffix("\n").removesuffix("...").strip()


def trial_recipe(base: SweepBase, point: Point) -> PretrainRecipe:
    """Return the validated recipe of the trial at ``point``."""
    return build_recipe(PretrainRecipe, base.values, overrides=trial_overrides(base, point), origin=base.base)


def trial_plan(base: SweepBase, point: Point, store: Store) -> Plan[PretrainRecipe]:
    """Return the plan of the trial's model; ``existing()`` finds a trial that was trained before."""
    return pretrain_plan(trial_recipe(base, point), store)


def known_points(recipe: SweepRecipe) -> list[Point]:
    """Return the points known before the first trial: all of an ablation or a grid, none of another search."""
    if recipe.arms:
        # Seed by seed: a sweep that ends early has complete comparisons.
        return [{"arm": arm, "seed": seed} for seed in recipe.seeds for arm in recipe.arms]
    if recipe.sampler != "grid":
        return []
    paths = sorted(recipe.space)
    values = [dimension.values for path in paths if isinstance(dimension := recipe.space[path], GridDimension)]
    return [dict(zip(paths, combination, strict=True)) for combination in itertools.product(*values)]
