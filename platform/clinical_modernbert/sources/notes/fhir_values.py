"""The values of a FHIR Observation in words: quantities with unit and comparator, concepts, texts, ranges, ratios, periods,
components. Waveforms (``valueSampledData``) have no words."""

from collections.abc import Iterator
from typing import Any

from clinical_modernbert.sources.event_texts import decimal_text
from clinical_modernbert.sources.notes.fhir_resources import Resource, UnusableError, concept_name

_PLAIN = ("valueString", "valueInteger", "valueDateTime", "valueTime")


def observed(resource: Resource) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield (name and unit, value) of an observation and of its components; a mere frame of components is left out.

    The value is empty where there is none. Raises ``UnusableError`` where nothing is named.
    """
    components = resource.get("component") or []
    own = value_of(resource)
    if own != ("", "") or not components:
        yield (_named(resource), own[0]), own[1]
    for component in components:
        unit, value = value_of(component)
        yield (_named(component), unit), value


def value_of(resource: Resource) -> tuple[str, str]:
    """Return unit and value of an observation or component."""
    if (quantity := resource.get("valueQuantity")) is not None:
        return str(quantity.get("unit") or quantity.get("code") or ""), _quantity(quantity)
    if (boolean := resource.get("valueBoolean")) is not None:
        return "", "true" if boolean else "false"
    if (limits := resource.get("valueRange")) is not None:
        ends = [(limits.get(end) or {}) for end in ("low", "high")]
        unit = next((str(end["unit"]) for end in ends if end.get("unit")), "")
        return unit, " to ".join(filter(None, map(_quantity, ends)))
    if (ratio := resource.get("valueRatio")) is not None:
        parts = [_quantity(ratio.get(part) or {}) for part in ("numerator", "denominator")]
        return "", ":".join(filter(None, parts))
    if (period := resource.get("valuePeriod")) is not None:
        return "", " to ".join(str(period[end]) for end in ("start", "end") if period.get(end))
    plain = next((str(resource[field]) for field in _PLAIN if resource.get(field) is not None), "")
    return "", plain or concept_name(resource.get("valueCodeableConcept"))


def _quantity(quantity: dict[str, Any]) -> str:
    value = quantity.get("value")
    if value is None or isinstance(value, bool):
        return ""
    text = decimal_text(str(value))
    if text is None:
        raise UnusableError("a quantity that is no number")
    return f"{quantity.get('comparator') or ''}{text}"


def _named(resource: Resource) -> str:
    name = concept_name(resource.get("code"))
    if not name:
        raise UnusableError("neither a text nor a display nor a code")
    return name
