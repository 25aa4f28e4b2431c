"""Why a pod does not run: the scheduler's message, what the kubelet waits for, or how an init container failed."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kubernetes.client import V1Pod


_NORMAL = ("PodInitializing", "ContainerCreating")


def why_waiting(pod: "V1Pod") -> str:
    """Return the reason for which a pod does not start, or an empty text."""
    for condition in pod.status.conditions or []:
        if condition.type == "PodScheduled" and condition.status == "False":
            return f"{condition.reason}: {condition.message}"
    init = pod.status.init_container_statuses or []
    for container in [*init, *(pod.status.container_statuses or [])]:
        waiting = container.state.waiting if container.state else None
        if waiting and waiting.reason not in _NORMAL:
            return _joined(f"{container.name}: {waiting.reason}", waiting.message)
    for container in init:
        ended = container.state.terminated if container.state else None
        if ended and ended.exit_code:
            return _joined(f"init container {container.name} failed with exit code {ended.exit_code}", ended.message)
    return ""


def _joined(reason: str, message: str | None) -> str:
    return f"{reason}: {message}" if message else reason
