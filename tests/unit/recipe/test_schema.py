"""The schema as documentation: every setting says what it is, nothing can be changed after loading."""

import importlib
import pkgutil

import clinical_modernbert.recipe as recipe_package
import pytest
from clinical_modernbert.recipe import RECIPE_TYPES, MapRecipe
from clinical_modernbert.recipe.section import Section
from pydantic import ValidationError


def sections() -> list[type[Section]]:
    for module in pkgutil.iter_modules(recipe_package.__path__):
        importlib.import_module(f"{recipe_package.__name__}.{module.name}")
    found, waiting = [], [Section]
    while waiting:
        children = waiting.pop().__subclasses__()
        found += children
        waiting += children
    ours = {section for section in found if section.__module__.startswith(recipe_package.__name__)}
    return sorted((section for section in ours if not section.__name__.startswith("_")), key=str)


# `kind` and `type` choose the schema; their docstring is that of the section itself.
SELECTORS = {"kind", "type"}


def is_section(annotation: object) -> bool:
    """Whether a setting is a group of settings, which the docstring of its own class describes."""
    return isinstance(annotation, type) and issubclass(annotation, Section)


def test_sections_are_found() -> None:
    assert {section.__name__ for section in sections()} >= {"PretrainRecipe", "OptimizerSection", "PubMedSource"}


@pytest.mark.parametrize("section", sections(), ids=lambda section: section.__name__)
def test_every_setting_has_a_docstring(section: type[Section]) -> None:
    assert section.__doc__
    bare = [name for name, info in section.model_fields.items() if not info.description]
    bare = [name for name in bare if name not in SELECTORS and not is_section(section.model_fields[name].annotation)]
    assert not bare, f"{section.__name__} has settings without a docstring: {bare}"


@pytest.mark.parametrize("section", sections(), ids=lambda section: section.__name__)
def test_a_section_is_frozen_and_closed(section: type[Section]) -> None:
    assert section.model_config.get("frozen") is True
    assert section.model_config.get("extra") == "forbid"


@pytest.mark.parametrize(("kind", "recipe_type"), RECIPE_TYPES.items())
def test_recipe_types_are_known_by_their_kind(kind: str, recipe_type: type) -> None:
    assert recipe_type.model_fields["kind"].default == kind


def test_a_recipe_cannot_be_changed() -> None:
    recipe = MapRecipe(name="m", model="m")
    with pytest.raises(ValidationError):
        recipe.seed = 3  # type: ignore[misc]


def test_identity_leaves_out_references_and_how_the_work_is_spread() -> None:
    identity = MapRecipe(name="m", model="some-model").identity()
    assert not {"model", "scaling"} & set(identity)
    assert identity["perplexity"] == 30.0
