"""A ValidatingAdmissionPolicy evaluated as an API server would: conditions, variables in order, and the validations that fail."""

from typing import Any

import celpy
from celpy.adapter import json_to_cel

from tests.helpers.kuberay_schema import cel_program

Object = dict[str, Any]


def denials(policy: Object, manifest: Object, *, old: Object | None = None) -> list[str]:
    """The messages with which ``policy`` refuses the creation of ``manifest``, or its change from ``old``."""
    spec = policy["spec"]
    inputs = {
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
    return cel_program(expression).evaluate(inputs)
