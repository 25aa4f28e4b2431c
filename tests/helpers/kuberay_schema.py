"""CRDs of KubeRay and the Gateway API as an API server would apply them: strict JSON Schema plus the rules in CEL.

The API server prunes unknown fields silently and sets defaults before it validates. Here an unknown field is an error, because
the chart intends every field that it writes.
"""

import gzip
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import celpy
import jsonschema
import pytest
import yaml
from celpy.adapter import json_to_cel

_KEPT = ("x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource")


def crds_path(repository: Path) -> Path:
    """Folder of the CRDs, ``KUBERAY_CRDS`` or ``../shared/kuberay/crds`` next to the checkout.

    Skips the test if the folder is absent, or fails it if ``REQUIRE_KUBERAY_CRDS`` is set, as in .ci/run.
    """
    path = Path(os.environ.get("KUBERAY_CRDS", repository.parent / "shared" / "kuberay" / "crds"))
    if not path.is_dir():
        missing = (
            f"no KubeRay CRDs: {path} does not exist (set KUBERAY_CRDS to the folder crds of KubeRay's Helm chart)"
        )
        (pytest.fail if os.environ.get("REQUIRE_KUBERAY_CRDS") else pytest.skip)(missing)
    return path


def gateway_crds_path() -> Path:
    """Folder of the Gateway API's CRDs: ``GATEWAY_API_CRDS``, or its Go module where one was downloaded.

    Skips the test if neither is there.
    """
    if folder := os.environ.get("GATEWAY_API_CRDS"):
        return Path(folder)
    modules = Path(os.environ.get("GOPATH", Path.home() / "go")) / "pkg" / "mod" / "sigs.k8s.io"
    found = sorted(modules.glob("gateway-api@*/config/crd/standard"))
    if not found:
        pytest.skip(
            "no CRDs of the Gateway API: go mod download sigs.k8s.io/gateway-api@v1.4.1, or set GATEWAY_API_CRDS"
        )
    return found[-1]


@cache
def read_schema(path: Path, kind: str) -> dict[str, Any]:
    """The structural schema of version v1 of ``kind``, as shipped."""
    (file,) = path.glob(f"*_{kind.lower()}s.yaml*")
    raw = file.read_bytes()
    text = gzip.decompress(raw) if file.suffix == ".gz" else raw
    crd = yaml.load(text, yaml.CSafeLoader)
    version = next(version for version in crd["spec"]["versions"] if version["name"] == "v1")
    return version["schema"]["openAPIV3Schema"]


@cache
def validator(path: Path, kind: str) -> jsonschema.Draft202012Validator:
    schema = _harden(read_schema(path, kind))
    schema["properties"]["metadata"] = {"type": "object"}
    return jsonschema.Draft202012Validator(schema)


def problems(path: Path, manifest: dict[str, Any]) -> list[str]:
    """Everything that is wrong with one object, as ``field: reason``."""
    schema = read_schema(path, manifest["kind"])
    found = [
        f"{_dotted(e.absolute_path)}: {e.message}" for e in validator(path, manifest["kind"]).iter_errors(manifest)
    ]
    whole = with_defaults(schema, manifest)
    return sorted(found) + [f"{where}: breaks {rule}" for where, rule in _broken_rules(schema, whole, "")]


def with_defaults(schema: dict[str, Any], value: Any) -> Any:
    """``value`` with the fields that the API server fills in because ``schema`` names a default for them."""
    if isinstance(value, dict):
        fields = schema.get("properties", {})
        missing = {name: field["default"] for name, field in fields.items() if "default" in field and name not in value}
        below = schema.get("additionalProperties")
        inner = {name: fields.get(name, below) for name in value}
        filled = {name: with_defaults(inner[name], item) if inner[name] else item for name, item in value.items()}
        return {**filled, **missing}
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        return [with_defaults(schema["items"], item) for item in value]
    return value


def count_rules(schema: Any) -> int:
    """Rules in CEL anywhere below ``schema`` that look at one object, not at its change."""
    if isinstance(schema, dict):
        own = sum("oldSelf" not in rule["rule"] for rule in schema.get("x-kubernetes-validations", ()))
        return own + sum(count_rules(value) for value in schema.values())
    return sum(count_rules(item) for item in schema) if isinstance(schema, list) else 0


def _harden(schema: dict[str, Any]) -> dict[str, Any]:
    hard = {key: value for key, value in schema.items() if not key.startswith("x-kubernetes") and key != "format"}
    if schema.get("x-kubernetes-int-or-string"):
        hard.pop("anyOf", None)
        hard["type"] = ["integer", "string"]
    properties = schema.get("properties")
    if properties:
        hard["properties"] = {name: _harden(value) for name, value in properties.items()}
        if not any(schema.get(mark) for mark in _KEPT):
            hard["additionalProperties"] = False
        # The API server sets defaults first, so a field that has one is never missing.
        hard["required"] = [name for name in schema.get("required", ()) if "default" not in properties.get(name, {})]
    if isinstance(schema.get("items"), dict):
        hard["items"] = _harden(schema["items"])
    if isinstance(schema.get("additionalProperties"), dict):
        hard["additionalProperties"] = _harden(schema["additionalProperties"])
    if hard.pop("nullable", False):
        hard["type"] = [hard["type"], "null"]
    return hard


def _broken_rules(schema: dict[str, Any], value: Any, where: str) -> Iterator[tuple[str, str]]:
    for rule in schema.get("x-kubernetes-validations", ()):
        if "oldSelf" not in rule["rule"] and not cel_program(rule["rule"]).evaluate({"self": json_to_cel(value)}):
            yield where, rule["rule"]
    if isinstance(value, dict):
        below = schema.get("additionalProperties")
        for name, item in value.items():
            inner = schema.get("properties", {}).get(name, below)
            if isinstance(inner, dict):
                yield from _broken_rules(inner, item, f"{where}.{name}".lstrip("."))
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for number, item in enumerate(value):
            yield from _broken_rules(schema["items"], item, f"{where}[{number}]")


@cache
def cel_program(rule: str) -> celpy.Runner:
    """The compiled rule; compiling takes longer than evaluating."""
    environment = celpy.Environment()
    return environment.program(environment.compile(rule))


def _dotted(parts: Any) -> str:
    return ".".join(str(part) for part in parts)
