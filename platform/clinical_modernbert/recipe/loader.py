"""Load a recipe: YAML with ``extends``, then dotted overrides, then the schema.

A recipe is named ``<kind>/<name>`` under a recipe folder, or by the path of a YAML file. Everything wrong with it comes out
as one ``RecipeError`` that names the field, the value and what would be right. Loads no torch and no ray.
"""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from clinical_modernbert.errors import RecipeError
from clinical_modernbert.recipe.corpus import CorpusRecipe
from clinical_modernbert.recipe.evaluate import EvaluateRecipe, MapRecipe
from clinical_modernbert.recipe.pretrain import PretrainRecipe
from clinical_modernbert.recipe.section import Recipe
from clinical_modernbert.recipe.serve import ServeRecipe
from clinical_modernbert.recipe.sweep import SweepRecipe

T = TypeVar("T", bound=Recipe)

RECIPE_TYPES: Mapping[str, type[Recipe]] = {
    "corpus": CorpusRecipe,
    "pretrain": PretrainRecipe,
    "sweep": SweepRecipe,
    "evaluate": EvaluateRecipe,
    "map": MapRecipe,
    "serve": ServeRecipe,
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
        merged = _apply_override(merged, override)
    kind = merged.get("kind")
    expected_kind = expected.model_fields["kind"].default
    if kind != expected_kind:
        raise RecipeError(f"{origin}: kind is {kind!r}, this job runs kind: {expected_kind}")
    try:
        recipe = expected.model_validate(merged)
    except ValidationError as error:
        raise RecipeError(_explain(error, expected, origin)) from None
    return recipe


def read_recipe(name: str, *, recipes_path: Path = Path("jobs/recipes")) -> dict[str, Any]:
    """Return the raw values of a recipe file with its ``extends`` chain merged in, the file itself last."""
    return _read_chain(name, recipes_path, seen=())


def _read_chain(name: str, recipes_path: Path, seen: tuple[str, ...]) -> dict[str, Any]:
    path = Path(name) if name.endswith((".yaml", ".yml")) else recipes_path / f"{name}.yaml"
    if str(path) in seen:
        raise RecipeError(f"extends goes in a circle: {' -> '.join((*seen, str(path)))}")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(f"no recipe {name!r}: {path} does not exist{_neighbours(path, recipes_path)}") from None
    except yaml.YAMLError as error:
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


def _merge(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """Merge mappings key by key; anything else, lists too, is replaced as a whole."""
    merged = dict(base)
    for key, value in top.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _apply_override(values: Mapping[str, Any], override: str) -> dict[str, Any]:
    path, equals, text = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise RecipeError(f"override {override!r} must have the form path.to.field=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise RecipeError(f"override {override!r}: the value is not valid YAML") from None
    if isinstance(value, str):
        value = _number_or_text(value)
    return _set(values, keys, value, override)


def _number_or_text(text: str) -> str | float:
    """YAML 1.1 reads ``3e-4`` as text; a researcher means a number."""
    try:
        return float(text)
    except ValueError:
        return text


def _set(values: Any, keys: list[str], value: Any, override: str) -> Any:
    key, rest = keys[0], keys[1:]
    if isinstance(values, list | tuple):
        if not key.isdigit() or int(key) >= len(values):
            raise RecipeError(f"override {override!r}: {key!r} is no position in a list of {len(values)}")
        items = list(values)
        items[int(key)] = _set(items[int(key)], rest, value, override) if rest else value
        return items
    if values is not None and not isinstance(values, Mapping):
        raise RecipeError(f"override {override!r}: {key!r} lies below {values!r}, which has no fields")
    mapping = dict(values or {})
    mapping[key] = _set(mapping.get(key), rest, value, override) if rest else value
    return mapping


def _explain(error: ValidationError, expected: type[Recipe], origin: str) -> str:
    lines = []
    for item in error.errors(include_url=False):
        field = ".".join(str(part) for part in item["loc"]) or "recipe"
        if item["type"] == "extra_forbidden":
            near = difflib.get_close_matches(str(item["loc"][-1]), _field_names(expected), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            lines.append(f"{field}: unknown key{hint}")
        elif item["type"] == "missing":
            lines.append(f"{field}: required, but not set")
        else:
            message = item["msg"].removeprefix("Value error, ")
            shown = "" if isinstance(item["input"], dict) else f" (got {item['input']!r})"
            lines.append(f"{field}: {message}{shown}")
    return f"{origin} is not a valid {expected.__name__}:\n  " + "\n  ".join(lines)


def _field_names(model: type[Any]) -> list[str]:
    names: list[str] = []
    for name, info in model.model_fields.items():
        names.append(name)
        if isinstance(info.annotation, type) and hasattr(info.annotation, "model_fields"):
            names.extend(_field_names(info.annotation))
    return names
