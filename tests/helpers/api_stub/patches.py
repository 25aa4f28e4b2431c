"""The four kinds of patch that clients of Kubernetes send, as far as the stub needs them."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

APPLY, JSON_PATCH = "application/apply-patch+yaml", "application/json-patch+json"


def merge(target: Any, patch: Any) -> Any:
    """JSON merge patch (RFC 7386). Strategic merge patches are treated the same: lists are replaced, directives are ignored."""
    if not isinstance(patch, dict):
        return deepcopy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if key.startswith("$"):
            continue
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def apply(target: dict[str, Any], before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Server-side apply of one manager: remove fields of ``before`` that are not in ``after``, then set those of ``after``.

    A list is replaced as a whole, because the CRDs of ray.io define no keys for lists.
    """
    return merge(_without(target, before, after), after)


def conflicts(target: Any, before: Any, after: Any, path: str = "") -> Iterator[str]:
    """Yield the lists that another manager changed since ``before`` was applied and that ``after`` would change back.

    The API server checks every field; the stub checks only lists.
    """
    if isinstance(target, dict) and isinstance(before, dict) and isinstance(after, dict):
        for key in target.keys() & before.keys() & after.keys():
            yield from conflicts(target[key], before[key], after[key], f"{path}.{key}")
    elif isinstance(target, list) and isinstance(before, list) and target not in (before, after):
        yield path


def json_patch(target: dict[str, Any], operations: list[dict[str, Any]]) -> dict[str, Any]:
    """RFC 6902's add, replace, remove and test. As in the API server, replacing a field that is absent adds it."""
    result = deepcopy(target)
    for operation in operations:
        *parents, last = [
            part.replace("~1", "/").replace("~0", "~") for part in operation["path"].lstrip("/").split("/")
        ]
        place: Any = result
        for part in parents:
            place = place[int(part)] if isinstance(place, list) else place[part]
        if isinstance(place, list):
            place[int(last)] = operation["value"]
        elif operation["op"] == "remove":
            del place[last]
        elif operation["op"] == "test":
            assert place.get(last) == operation["value"], operation
        else:
            place[last] = operation["value"]
    return result


def _without(target: Any, before: Any, after: Any) -> Any:
    if not (isinstance(target, dict) and isinstance(before, dict) and isinstance(after, dict)):
        return target
    kept = {}
    for key, value in target.items():
        if key in before and key not in after:
            continue
        kept[key] = _without(value, before.get(key), after.get(key))
    return kept
