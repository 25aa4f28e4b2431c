"""A ValidatingAdmissionPolicy evaluated as an API server would: conditions, variables in order, and the validations that fail."""

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import celpy
from celpy.adapter import json_to_cel

Object = dict[str, Any]
Right = tuple[str, str, str, str]
"""API group, resource, name and verb."""


def denials(policy: Object, manifest: Object, *, old: Object | None = None, rights: Iterable[Right] = ()) -> list[str]:
    """The messages with which ``policy`` refuses a user with ``rights`` to create ``manifest``, or to change ``old`` to it."""
    spec = policy["spec"]
    inputs = {
        "authorizer": json_to_cel({"rights": [list(right) for right in rights]}),
        "object": json_to_cel(manifest),
        "oldObject": json_to_cel(old),
        "request": json_to_cel({"operation": "CREATE" if old is None else "UPDATE"}),
    }
    if not all(_evaluate(condition["expression"], inputs) for condition in spec.get("matchConditions", ())):
        return []
    variables = celpy.celtypes.MapType()
    for variable in spec["variables"]:
        value = _evaluate(variable["expression"], {**inputs, "variables": variables})
        variables[celpy.celtypes.StringType(variable["name"])] = value
    return [
        rule["message"]
        for rule in spec["validations"]
        if not _evaluate(rule["expression"], {**inputs, "variables": variables})
    ]


def _evaluate(expression: str, inputs: dict[str, Any]) -> Any:
    return _program(expression).evaluate(inputs)


@cache
def _program(expression: str) -> celpy.Runner:
    environment = celpy.Environment()
    return environment.program(environment.compile(expression), functions=_AUTHORIZER)


def _named(field: str) -> Callable[[Any, Any], Any]:
    """A method of CEL's authorizer, which adds one part of the question: ``authorizer.group('').resource('pods')``."""
    return lambda asked, value: celpy.celtypes.MapType({**asked, celpy.celtypes.StringType(field): value})


def _allowed(asked: Any) -> celpy.celtypes.BoolType:
    wanted = [str(asked[field]) for field in _ASKED]
    return celpy.celtypes.BoolType(wanted in [[str(part) for part in right] for right in asked["rights"]])


_ASKED = ("group", "resource", "name", "check")
_AUTHORIZER = {**{field: _named(field) for field in _ASKED}, "allowed": _allowed}
