"""How a live Kubernetes object differs from its manifest.

An upgrade over a failed one, or a change by hand, leaves an object that differs from what Helm reports. A field of the manifest
must have its value in the live object. Beyond that the live object may have fields with empty values and the defaults of the API
server; other additions count where they change a pod, below ``template.spec``. Written numbers of one quantity (``1000m`` and
``1``) are equal.
The manifest of a cluster that scales itself has no number of workers, so it is not compared.
"""

import re
from collections.abc import Iterator
from typing import Any

from clinical_modernbert.cluster.kuberay_rules import KubernetesObject

_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)(m|k|M|G|T|Ki|Mi|Gi|Ti)?")
_UNITS = {
    "": 1, "m": 0.001, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40
}  # fmt: skip
_LONGEST_VALUE = 60


def differences(manifest: KubernetesObject, live: KubernetesObject) -> list[str]:
    """Return each difference of the specifications as one text: the path of the field, and both values."""
    return list(_differences(manifest["spec"], live.get("spec") or {}, "spec", in_pod=False))


def _differences(wanted: Any, live: Any, path: str, *, in_pod: bool) -> Iterator[str]:
    if isinstance(wanted, dict) and isinstance(live, dict):
        for key in sorted(wanted.keys() | (live.keys() if in_pod else set())):
            below = in_pod or (key == "spec" and path.endswith(".template"))
            yield from _differences(wanted.get(key), live.get(key), f"{path}.{key}", in_pod=below)
    elif isinstance(wanted, list) and isinstance(live, list) and len(wanted) == len(live):
        for number, (one, other) in enumerate(zip(wanted, live, strict=True)):
            yield from _differences(one, other, f"{path}[{number}]", in_pod=in_pod)
    elif not _equal(wanted, live, path):
        yield f"{path} is {_shown(live)}, the manifest has {_shown(wanted)}"


def _equal(wanted: Any, live: Any, path: str) -> bool:
    if not wanted and not live:
        return True
    if wanted is None and path.endswith(".protocol"):
        return bool(live == "TCP")
    return bool(wanted == live) or (_quantity(wanted) is not None and _quantity(wanted) == _quantity(live))


def _quantity(value: Any) -> float | None:
    match = _QUANTITY.fullmatch(str(value))
    return float(match.group(1)) * _UNITS[match.group(2) or ""] if match else None


def _shown(value: Any) -> str:
    if value is None:
        return "absent"
    if isinstance(value, dict | list):
        return f"{type(value).__name__} of {len(value)}"
    return repr(value)[:_LONGEST_VALUE]
