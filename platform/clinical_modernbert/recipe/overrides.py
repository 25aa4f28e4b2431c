"""Paths into a recipe, and overrides: ``path.to.field=value``.

The value is YAML, and a number in the path is a position in a list.
"""

import re
from collections.abc import Mapping
from typing import Any

import yaml

from clinical_modernbert.errors import RecipeError
from clinical_modernbert.recipe.section import RecipeValues

# YAML 1.1 reads `3e-4` as text; a researcher means a number. A quoted one stays text.
_EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")


def apply_override(values: Mapping[str, Any], override: str) -> RecipeValues:
    """Return a copy of ``values`` with one override applied; raises ``RecipeError`` where its form or path is impossible."""
    path, equals, text = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise RecipeError(f"override {override!r} must have the form path.to.field=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise RecipeError(f"override {override!r}: the value is not valid YAML") from None
    if isinstance(value, str) and _EXPONENT.fullmatch(text.strip()):
        value = float(value)
    return _set(values, keys, value, override)


def dotted(values: Mapping[str, Any], prefix: str = "") -> RecipeValues:
    """Return path -> value for every setting that is not itself a mapping: the paths that overrides take."""
    found: RecipeValues = {}
    for name, value in values.items():
        found |= dotted(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found


def _set(values: Any, keys: list[str], value: Any, override: str) -> Any:
    key, rest = keys[0], keys[1:]
    if isinstance(values, list | tuple):
        if not key.isdigit() or int(key) >= len(values):
            raise RecipeError(f"override {override!r}: {key!r} is not a position in a list of {len(values)}")
        items = list(values)
        items[int(key)] = _set(items[int(key)], rest, value, override) if rest else value
        return items
    if values is not None and not isinstance(values, Mapping):
        raise RecipeError(f"override {override!r}: {key!r} is below {values!r}, which has no fields")
    mapping = dict(values or {})
    mapping[key] = _set(mapping.get(key), rest, value, override) if rest else value
    return mapping
