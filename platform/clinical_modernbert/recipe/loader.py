"""Load a recipe: YAML with ``extends``, then dotted overrides, then the schema.

A recipe is named ``<kind>/<name>`` under a recipe folder, or by the path of a YAML file. All that is wrong with it
is one ``RecipeError`` that names the field, the value and what would be right. Loads no torch and no ray.
"""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import ValidationError

from clinical_modernbert.errors import RecipeError
from clinical_modernbert.recipe.contrast import ContrastRecipe
from clinical_modernbert.recipe.corpus import CorpusRecipe
from clinical_modernbert.recipe.embed import EmbedRecipe, ExtractRecipe, ProjectRecipe
from clinical_modernbert.recipe.evaluate import EvaluateRecipe, MapRecipe
from clinical_modernbert.recipe.merge import MergeRecipe
from clinical_modernbert.recipe.overrides import apply_override
from clinical_modernbert.recipe.pairs import PairsRecipe
from clinical_modernbert.recipe.pretrain import PretrainRecipe
from clinical_modernbert.recipe.section import Recipe, RecipeValues, Section
from clinical_modernbert.recipe.serve import ServeRecipe
from clinical_modernbert.recipe.sweep import SweepRecipe

T = TypeVar("T", bound=Recipe)

RECIPE_TYPES: Mapping[str, type[Recipe]] = {
    "corpus": CorpusRecipe,
    "pairs": PairsRecipe,
    "pretrain": PretrainRecipe,
    "merge": MergeRecipe,
    "contrast": ContrastRecipe,
    "sweep": SweepRecipe,
    "evaluate": EvaluateRecipe,
    "map": MapRecipe,
    "serve": ServeRecipe,
    "embed": EmbedRecipe,
    "extract": ExtractRecipe,
    "project": ProjectRecipe,
}


def load_recipe(
    expected: type[T], name: str, *, overrides: Iterable[str] = (), recipes_path: Path = Path("jobs/recipes")
) -> T:
    """Return the validated recipe ``name`` with ``path=value`` overrides applied in order."""
    return build_recipe(expected, read_recipe(name, recipes_path=recipes_path), overrides=overrides, origin=name)


def build_recipe(expected: type[T], values: Mapping[str, Any], *, overrides: Iterable[str] = (), origin: str) -> T:
    """Validate ``values`` with ``overrides`` as a recipe of the type ``expected``; ``origin`` is named in errors."""
    merged = dict(values)
    for override in overrides:
        merged = apply_override(merged, override)
    kind = merged.get("kind")
    expected_kind = expected.model_fields["kind"].default
    if kind != expected_kind:
        raise RecipeError(f"{origin}: kind is {kind!r}, this job runs kind: {expected_kind}")
    try:
        recipe = expected.model_validate(merged)
    except ValidationError as error:
        raise RecipeError(_explain(error, expected, origin, merged)) from None
    return recipe


def read_recipe(name: str, *, recipes_path: Path = Path("jobs/recipes")) -> RecipeValues:
    """Return the raw values of a recipe file with its ``extends`` chain merged in, the file itself last."""
    return _read_chain(name, recipes_path, seen=())


def _read_chain(name: str, recipes_path: Path, seen: tuple[str, ...]) -> RecipeValues:
    path = Path(name) if name.endswith((".yaml", ".yml")) else recipes_path / f"{name}.yaml"
    if str(path) in seen:
        raise RecipeError(f"extends forms a circle: {' -> '.join((*seen, str(path)))}")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(f"no recipe {name!r}: {path} does not exist{_neighbours(path, recipes_path)}") from None
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise RecipeError(f"{path} must hold a mapping of settings, not {type(values).__name__}")
    parent = values.pop("extends", None)
    if parent is None:
        return values
    if not isinstance(parent, str):
        raise RecipeError(f"{path}: extends must name one recipe, got {parent!r}")
    return _merge(_read_chain(parent, recipes_path, (*seen, str(path))), values)


def _neighbours(path: Path, recipes_path: Path) -> str:
    known = sorted(p.relative_to(recipes_path).with_suffix("").as_posix() for p in recipes_path.rglob("*.yaml"))
    return (
        f"; known recipes: {', '.join(known)}" if known else f"; {recipes_path} holds no recipes (from {path.parent})"
    )


def _merge(base: Mapping[str, Any], top: Mapping[str, Any]) -> RecipeValues:
    """Merge mappings key by key; anything else, lists too, is replaced as a whole."""
    merged = dict(base)
    for key, value in top.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _explain(error: ValidationError, expected: type[Recipe], origin: str, values: Mapping[str, Any]) -> str:
    lines = []
    found = error.errors(include_url=False)
    for item in found:
        # A list whose entries are wrong counts as too short for pydantic: the entries are the fault.
        below = (other["loc"] for other in found if len(other["loc"]) > len(item["loc"]))
        if item["type"] == "too_short" and any(loc[: len(item["loc"])] == item["loc"] for loc in below):
            continue
        path = _path_in(values, item["loc"])
        field = ".".join(path) or "recipe"
        if item["type"] == "extra_forbidden":
            lines.append(f"{field}: unknown key{_did_you_mean(path, _field_paths(expected))}")
        elif item["type"] == "missing":
            lines.append(f"{field}: required, but not set")
        else:
            message = item["msg"].removeprefix("Value error, ")
            shown = "" if isinstance(item["input"], dict) else f" (got {item['input']!r})"
            lines.append(f"{field}: {message}{shown}")
    return f"{origin} is not a valid {expected.__name__}:\n  " + "\n  ".join(lines)


def _path_in(values: Any, location: Iterable[str | int]) -> list[str]:
    """Return pydantic's location as a path in the file: without the tags that it inserts for members of a union."""
    path, parts = [], list(location)
    for position, part in enumerate(parts):
        inside = isinstance(values, Mapping) and part not in values
        if inside and position < len(parts) - 1:
            continue
        path.append(str(part))
        values = _below(values, part)
    return path


def _below(values: Any, part: str | int) -> Any:
    if isinstance(values, Mapping):
        return values.get(part)
    return values[part] if isinstance(values, list | tuple) and isinstance(part, int) else None


def _did_you_mean(path: list[str], known: list[list[str]]) -> str:
    """Suggest the nearest key of the same section, else the section that has such a key."""
    parent = [part for part in path[:-1] if not part.isdigit()]
    siblings = {keys[-1] for keys in known if keys[:-1] == parent}
    near = [[*path[:-1], name] for name in difflib.get_close_matches(path[-1], sorted(siblings), n=1)]
    elsewhere = [keys for keys in known if keys[-1] == path[-1]]
    suggested = near or elsewhere[:1]
    if suggested:
        return f"; did you mean {'.'.join(suggested[0])!r}?"
    return f"; keys of this section: {', '.join(sorted(siblings))}" if siblings else ""


def _field_paths(model: Any, above: tuple[str, ...] = ()) -> list[list[str]]:
    """Return the path of every field below ``model``, without positions in lists."""
    if not (isinstance(model, type) and issubclass(model, Section)):
        return [path for part in get_args(model) for path in _field_paths(part, above)]
    paths = []
    for name, info in model.model_fields.items():
        paths.append([*above, name])
        paths.extend(_field_paths(info.annotation, (*above, name)))
    return paths
