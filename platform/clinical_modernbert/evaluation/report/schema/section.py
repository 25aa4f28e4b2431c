"""The base of all sections of a report: frozen, written by the rules of the package's docstring."""

from typing import Any

from pydantic import BaseModel, ConfigDict

JsonObject = dict[str, Any]
"""An object of ``report.json`` as the store holds it."""

Range = tuple[float, float]
"""The ends of a 95 % interval, or the least and the greatest value of a bucket."""


class Section(BaseModel):
    """An object of ``report.json``."""

    model_config = ConfigDict(frozen=True, serialize_by_alias=True, validate_by_name=True, validate_by_alias=True)


class Estimate(Section):
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float


def section_json(section: Section) -> JsonObject:
    """Return a section as the store keeps it."""
    return section.model_dump(mode="json", exclude_defaults=True)


def mode_name(mode: str) -> str:
    """Return how a mode is shown."""
    return mode.replace("_", "-")
