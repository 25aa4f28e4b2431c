"""The state of the API stub: objects, their versions, and the events that watchers read.

There are no controllers: Deployments and StatefulSets are ready at once, and pods of ``helm test`` succeed. There is no
scheduler, admission, access control, quota or defaulting. ``check`` can validate ray.io objects against KubeRay's CRDs.
"""

import threading
import uuid
from collections.abc import Callable, Iterator
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

from tests.helpers.api_stub import patches
from tests.helpers.api_stub.resources import Resource

Object = dict[str, Any]
Key = tuple[str, str, str]
"""plural, namespace ("" for kinds without one), name."""


class RefusedError(Exception):
    """An answer other than success, as the API server's Status object."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.status = {
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
            "reason": reason, "code": code,
        }  # fmt: skip


class State:
    """Objects by key, with a new version for each change; ``check`` returns the errors of an object."""

    def __init__(self, check: Callable[[Object], list[str]] = lambda _: []) -> None:
        self._check = check
        self._objects: dict[Key, Object] = {}
        self._applied: dict[tuple[Key, str], Object] = {}
        self._events: list[tuple[int, str, Key, Object]] = []
        self._version = 0
        self.changed = threading.Condition()

    def get(self, plural: str, namespace: str, name: str) -> Object:
        with self.changed:
            return deepcopy(self._find((plural, namespace, name)))

    def list(self, plural: str, namespace: str = "") -> list[Object]:
        """Objects of a kind in one namespace or in all, sorted by name."""
        with self.changed:
            found = [o for (p, n, _), o in self._objects.items() if p == plural and namespace in ("", n)]
            return deepcopy(sorted(found, key=lambda o: (o["metadata"].get("namespace", ""), o["metadata"]["name"])))

    @property
    def version(self) -> int:
        return self._version

    def create(self, resource: Resource, namespace: str, body: Object) -> Object:
        metadata = body.setdefault("metadata", {})
        if "name" not in metadata:
            metadata["name"] = f"{metadata['generateName']}{uuid.uuid4().hex[:5]}"
        key = (resource.plural, namespace if resource.namespaced else "", metadata["name"])
        with self.changed:
            if key in self._objects:
                raise RefusedError(409, "AlreadyExists", f'{_what(resource)} "{key[2]}" already exists')
            if resource.namespaced:
                metadata["namespace"] = namespace
            metadata |= {"uid": str(uuid.uuid4()), "generation": 1}
            metadata["creationTimestamp"] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            return self._store("ADDED", key, {"apiVersion": resource.api_version, "kind": resource.kind, **body})

    def update(self, key: Key, body: Object, *, part: str = "") -> Object:
        """Replace an object, or only its ``part`` "status"; a ``resourceVersion`` in ``body`` must be the newest."""
        with self.changed:
            old = self._find(key)
            named = body["metadata"].get("resourceVersion")
            if named and named != old["metadata"]["resourceVersion"]:
                raise RefusedError(409, "Conflict", f'"{key[2]}": the object has been modified')
            if part == "status":
                body = {**old, "status": body.get("status", {})}
            elif "status" in old:
                body = {**body, "status": old["status"]}
            kept = {name: old["metadata"][name] for name in ("uid", "creationTimestamp", "generation")}
            if old.get("spec") != body.get("spec"):
                kept["generation"] += 1
            body = {**body, "metadata": {**body["metadata"], **kept}}
            same = {**body, "metadata": {**body["metadata"], "resourceVersion": old["metadata"]["resourceVersion"]}}
            return deepcopy(old) if same == old else self._store("MODIFIED", key, body)

    def change(self, key: Key, how: Callable[[Object], Object], *, part: str = "") -> Object:
        """Patch an object: ``how`` returns the new object for the old one."""
        with self.changed:
            body = how(deepcopy(self._find(key)))
            body["metadata"].pop("resourceVersion", None)
            return self.update(key, body, part=part)

    def apply(self, key: Key, manager: str, body: Object, *, force: bool) -> Object:
        """Server-side apply by ``manager``; a change by another manager is a conflict, unless ``force`` is set."""
        with self.changed:
            old, before = self._find(key), self._applied.get((key, manager), {})
            if not force and (where := sorted(patches.conflicts(old, before, body))):
                message = f"Apply failed with {len(where)} conflict: conflict with another manager: {', '.join(where)}"
                raise RefusedError(409, "Conflict", message)
            done = self.change(key, lambda old: patches.apply(old, before, body))
            self._applied[key, manager] = deepcopy(body)
            return done

    def delete(self, key: Key) -> Object:
        """Delete an object and the objects that it owns."""
        with self.changed:
            gone = self._objects.pop(key, None)
            if gone is None:
                raise RefusedError(404, "NotFound", f'{key[0]} "{key[2]}" not found')
            self._note("DELETED", key, gone)
            uid = gone["metadata"]["uid"]
            owned = [
                k for k, o in self._objects.items()
                if any(owner["uid"] == uid for owner in o["metadata"].get("ownerReferences", []))
            ]  # fmt: skip
            for other in owned:
                if other in self._objects:
                    self.delete(other)
            return gone

    def events_after(self, version: int) -> Iterator[tuple[int, str, Key, Object]]:
        """Changes after ``version``, oldest first; call it with ``changed`` held."""
        return iter([event for event in self._events if event[0] > version])

    def _find(self, key: Key) -> Object:
        if key not in self._objects:
            raise RefusedError(404, "NotFound", f'{key[0]} "{key[2]}" not found')
        return self._objects[key]

    def _store(self, event: str, key: Key, body: Object) -> Object:
        if wrong := self._check(body):
            name = body["metadata"]["name"]
            raise RefusedError(422, "Invalid", f'{body["kind"]} "{name}" is invalid: {"; ".join(wrong)}')
        stored = _without_controllers(deepcopy(body))
        self._objects[key] = stored
        self._note(event, key, stored)
        return deepcopy(stored)

    def _note(self, event: str, key: Key, body: Object) -> None:
        self._version += 1
        body["metadata"]["resourceVersion"] = str(self._version)
        self._events.append((self._version, event, key, deepcopy(body)))
        self.changed.notify_all()


def _what(resource: Resource) -> str:
    return f"{resource.plural}.{resource.group}" if resource.group else resource.plural


def _without_controllers(body: Object) -> Object:
    """Set the status that the controller of an object would set in the end."""
    if body["kind"] in ("Deployment", "StatefulSet"):
        replicas = body["spec"].get("replicas", 1)
        counts = ("replicas", "currentReplicas", "readyReplicas", "availableReplicas", "updatedReplicas")
        available = {"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable"}
        body["status"] = {
            **dict.fromkeys(counts, replicas), "observedGeneration": body["metadata"]["generation"],
            "conditions": [available], "currentRevision": "1", "updateRevision": "1",
        }  # fmt: skip
    if body["kind"] == "Pod" and "helm.sh/hook" in body["metadata"].get("annotations", {}):
        body["status"] = {
            "phase": "Succeeded",
            "conditions": [{"type": "Ready", "status": "False", "reason": "PodCompleted"}],
        }
    if body["kind"] == "Namespace":
        body["status"] = {"phase": "Active"}
    if body["kind"] == "PodDisruptionBudget":
        body["status"] = {
            "observedGeneration": body["metadata"]["generation"],
            "currentHealthy": 1,
            "desiredHealthy": 1,
        }
    return body
