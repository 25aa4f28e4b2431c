"""Trials: a recipe plus overrides, which also repeat the trial by hand."""

import hashlib
import itertools
import json
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import yaml

from clinical_modernbert.artifacts import Artifact, InputEntry, Plan, Store, find_model, find_state, make_plan, resolve
from clinical_modernbert.errors import RecipeError
from clinical_modernbert.recipe import ContrastRecipe, PretrainRecipe, SweepRecipe, build_recipe, read_recipe
from clinical_modernbert.recipe.section import RecipeValues
from clinical_modernbert.recipe.sweep import GridDimension, HalvingSection, Scalar
from clinical_modernbert.sweeps.kinds import PRETRAINING, VECTORS, TrialKind, TrialRecipe, trial_kind
from clinical_modernbert.training.contrastive.plan import contrast_plan
from clinical_modernbert.training.corpora import pretrain_plan

# What names artifacts in a trial's recipe: these fields, each named as its kind, and the keys of ``corpora`` of phases.
_DATA, _CORPORA = ("corpus", "pairs"), "corpora"

_Pin = Callable[[str, str], str]
"""(kind, reference) -> id."""


Point = dict[str, Scalar]
"""Dotted recipe path -> value in a search, ``{"arm": name, "seed": number}`` in an ablation."""


@dataclass(frozen=True, slots=True)
class SweepBase:
    """The recipe, overrides and data that all trials of a sweep share."""

    values: RecipeValues
    """The base recipe's values, as its file holds them."""
    name: str
    """Name of every trial's model, different from that of other runs of the base."""
    base: str
    overrides: tuple[str, ...]
    data_id: str
    """Id of the corpus or pair set."""
    arms: dict[str, tuple[str, ...]]
    """The overrides of each arm; empty in a search."""

    @property
    def kind(self) -> TrialKind:
        """What the trials train, and by which figures they are judged."""
        return trial_kind(self.values.get("kind"), base=self.base)


def sweep_base(recipe: SweepRecipe, *, data_id: str) -> SweepBase:
    """Read the base recipe; raise ``RecipeError`` if a path or value of the space does not fit it."""
    in_file = read_recipe(recipe.base)
    _check_data(recipe, trial_kind(in_file.get("kind"), base=recipe.base))
    base = SweepBase(
        values=in_file,
        name=f"{recipe.name[:34]}-trial",
        base=recipe.base,
        overrides=recipe.overrides,
        data_id=data_id,
        arms=dict(recipe.arms),
    )
    trials: dict[str, TrialRecipe] = {}
    for arm in recipe.arms:
        try:
            trials[arm] = trial_recipe(base, {"arm": arm, "seed": recipe.seeds[0]})
            _check_held_out(trials[arm])
        except RecipeError as error:
            raise RecipeError(f"arms.{arm} does not fit {recipe.base}: {error}") from None
    _check_different(trials.items(), where="arms")
    for path, dimension in recipe.space.items():
        values = dimension.values if isinstance(dimension, GridDimension) else (dimension.low, dimension.high)
        of_values: list[tuple[str, TrialRecipe]] = []
        for value in values:
            try:
                trial = trial_recipe(base, {path: value})
                _check_held_out(trial)
                if recipe.halving:
                    check_halving(recipe.halving, trial)
            except RecipeError as error:
                raise RecipeError(f"space: {path}={value!r} does not fit {recipe.base}: {error}") from None
            of_values.append((f"{path}={value!r}", trial))
        _check_different(of_values, where="space")
    return base


def _check_different(trials: Iterable[tuple[str, TrialRecipe]], *, where: str) -> None:
    """Raise ``RecipeError`` if two of the named trials make one model: side by side they would write the same files."""
    known: dict[str, str] = {}
    for name, trial in trials:
        made_from = [trial.identity(), trial.references(), trial.model_sources(), trial.state_sources()]
        content = json.dumps(made_from, sort_keys=True)
        if content in known:
            raise RecipeError(
                f"{where}: {known[content]} and {name} differ in nothing that changes the model: leave one out"
            )
        known[content] = name


def _check_data(recipe: SweepRecipe, kind: TrialKind) -> None:
    """Raise ``RecipeError`` unless the sweep names the data that its base trains on."""
    given = "corpus" if recipe.corpus else "pairs"
    if given != kind.data:
        raise RecipeError(f"base={recipe.base!r} is of kind {kind.base}: set {kind.data}, not {given}")


def _check_held_out(trial: TrialRecipe) -> None:
    """Raise ``RecipeError`` if the trial holds out nothing by which it could be judged."""
    if isinstance(trial, ContrastRecipe) and trial.training.split == "all":
        raise RecipeError(
            "training.split=all trains on the held-out pairs too, by which trials are judged: leave it out"
        )


def check_halving(section: HalvingSection, trial: TrialRecipe) -> None:
    """Raise ``RecipeError`` if a trial has no rung, or measures nothing at its rungs."""
    if isinstance(trial, PretrainRecipe):
        field, every = "held_out_loss", trial.held_out_loss.every_steps
    else:
        field, every = "held_out", trial.held_out.every_steps
    total = trial.training.total_steps
    if not every or section.grace_steps % every:
        raise RecipeError(
            f"halving.grace_steps={section.grace_steps} needs held-out figures at its rungs, and {field}.every_steps is "
            f"{every}: set it in overrides, to {section.grace_steps} or a divisor of it"
        )
    if section.grace_steps >= total:
        raise RecipeError(
            f"halving.grace_steps={section.grace_steps} leaves no rung before the end of a trial of {total} steps: lower it"
        )


def sweep_plan(recipe: SweepRecipe, store: Store) -> Plan[SweepRecipe]:
    """Plan the sweep. Names of corpora and pair sets in base, overrides, arms and space become ids, and these become inputs.

    A name may select another artifact later. Ids keep a trial's overrides valid, and make that a different sweep.
    """
    ((field, (_, reference)),) = recipe.references().items()
    main = resolve(store, field, reference)
    base = sweep_base(recipe, data_id=main.manifest.id)  # raises what does not fit the base first
    inputs: list[InputEntry] = []

    def pinned(where: str, kind: str, reference: str) -> str:
        artifact = resolve(store, kind, reference)
        if base.kind is PRETRAINING and _vocabulary(artifact) != _vocabulary(main):
            raise RecipeError(
                f"{where}: corpus {artifact.manifest.id} has another tokenizer than {main.manifest.id}, the sweep's corpus: "
                "losses over other tokens cannot be compared; build it with tokenizer.base set to that corpus's tokenizer folder"
            )
        entry_id = f"{kind}/{artifact.manifest.id}"
        entry = InputEntry(name=f"{where} {entry_id}", id=entry_id, digest=artifact.manifest.digest)
        if entry not in inputs:
            inputs.append(entry)
        return artifact.manifest.id

    def with_ids(where: str, overrides: Iterable[str]) -> tuple[str, ...]:
        return tuple(_with_ids(override, partial(pinned, where)) for override in overrides)

    space = {_path_with_ids(path, partial(pinned, "space")): dimension for path, dimension in recipe.space.items()}
    for kind in _DATA:
        if isinstance(dimension := space.get(kind), GridDimension):
            ids = tuple(pinned(f"space.values.{n}", kind, str(value)) for n, value in enumerate(dimension.values))
            space[kind] = dimension.model_copy(update={"values": ids})
    changes = {
        "overrides": with_ids("base", _named_by_base(base)) + with_ids("overrides", recipe.overrides),
        "arms": {arm: with_ids(f"arms.{arm}", overrides) for arm, overrides in recipe.arms.items()},
        "space": space,
    }
    raw_inputs = (*base_inputs(recipe), *inputs, *_initial_models(recipe, base, store))
    return make_plan(recipe.model_copy(update=changes), store, raw_inputs=raw_inputs)


def _named_by_base(base: SweepBase) -> tuple[str, ...]:
    """Return the overrides that repeat what the base names besides the sweep's data, unless another override replaces it."""
    replaced = {override.partition("=")[0].strip() for override in base.overrides}
    phases, corpus = base.values.get("training", {}).get("phases") or (), base.values.get("corpus")
    found = []
    if any(phase.get(_CORPORA) for phase in phases) and "training.phases" not in replaced:
        found.append(f"training.phases={_typed(phases)}")
    if base.kind is VECTORS and corpus and "corpus" not in replaced:  # of the masked-language term
        found.append(f"corpus={corpus}")
    return tuple(found)


def _with_ids(override: str, pinned: _Pin) -> str:
    """Return the override with ids in place of the artifacts that it names; unchanged where it names none."""
    path, _, text = override.partition("=")
    path, value = path.strip(), yaml.safe_load(text)
    if path in _DATA and value is not None:
        return f"{path}={pinned(path, str(value))}"
    below = _value_with_ids(path.rpartition(".")[2], value, pinned)
    with_ids = _path_with_ids(path, pinned)
    return override if (below, with_ids) == (value, path) else f"{with_ids}={_typed(below)}"


def _path_with_ids(path: str, pinned: _Pin) -> str:
    """``training.phases.1.corpora.notes`` -> the same with the id of ``notes``."""
    before, corpora, name = path.partition(f".{_CORPORA}.")
    return f"{before}{corpora}{pinned('corpus', name)}" if corpora else path


def _value_with_ids(key: str, value: Any, pinned: _Pin) -> Any:
    if isinstance(value, dict):
        if key == _CORPORA:
            return {pinned("corpus", str(name)): weight for name, weight in value.items()}
        return {name: _value_with_ids(name, below, pinned) for name, below in value.items()}
    return [_value_with_ids("", item, pinned) for item in value] if isinstance(value, list) else value


def _initial_models(recipe: SweepRecipe, base: SweepBase, store: Store) -> tuple[InputEntry, ...]:
    """Return the models and states from which trials start; an absent one fails its trial, with its error in the report."""
    models: set[tuple[str, str]] = set()
    states: set[tuple[str, str]] = set()
    entries = []
    for point in [*known_points(recipe), {}]:  # {}: the base alone, for a search whose sampler proposes later
        with suppress(RecipeError):
            trial = trial_recipe(base, point)
            models |= set(trial.model_sources().items())
            states |= set(trial.state_sources().items())
    for sources, find in ((models, find_model), (states, find_state)):
        for field, source in sorted(sources):
            with suppress(RecipeError):
                entries.append(find(source, store, field=f"{field} {source}"))
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
    return [f"name={base.name}", f"{base.kind.data}={base.data_id}", *base.overrides, *of_point]


def _typed(value: Any) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=sys.maxsize)
    return text.removesuffix("\n").removesuffix("...").strip()


def trial_recipe(base: SweepBase, point: Point) -> TrialRecipe:
    """Return the validated recipe of the trial at ``point``."""
    return build_recipe(base.kind.recipe_type, base.values, overrides=trial_overrides(base, point), origin=base.base)


def trial_plan(base: SweepBase, point: Point, store: Store) -> Plan[TrialRecipe]:
    """Return the plan of the trial's model; ``existing()`` finds a trial that was trained before."""
    recipe = trial_recipe(base, point)
    return pretrain_plan(recipe, store) if isinstance(recipe, PretrainRecipe) else contrast_plan(recipe, store)


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
