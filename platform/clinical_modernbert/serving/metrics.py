"""The endpoint's metrics, with names that dashboards may rely on, and the type of a function that records them.

Ray's Prometheus endpoint puts ``ray_`` before each name. This module does not import Ray: its callers pass a ``Record``.
"""

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal

_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
_TOKENS = (16.0, 64.0, 256.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0, 32768.0)
_FILLS = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0)

Record = Callable[[str, float, dict[str, str]], None]
"""Takes name, value and tags. A counter adds the value, a histogram observes it, a gauge is set to it."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric."""

    name: str
    kind: Literal["counter", "histogram", "gauge"]
    description: str
    tags: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


PROXY_REFUSALS = Metric(
    "cm_proxy_refusals", "counter", "Requests that Ray Serve's proxy refused or failed itself", ("cause",)
)
METRICS = (
    Metric("cm_requests", "counter", "Answered requests", ("model", "route", "status")),
    Metric("cm_failures", "counter", "Refused or failed requests by cause", ("model", "route", "cause")),
    Metric("cm_request_seconds", "histogram", "From the whole body to the answer", ("model", "route"), _SECONDS),
    Metric("cm_tokenize_seconds", "histogram", "Tokenising one request", ("model",), _SECONDS),
    Metric("cm_queue_seconds", "histogram", "A text's wait before its batch was formed", ("model",), _SECONDS),
    Metric("cm_compute_seconds", "histogram", "One batch through the model", ("model",), _SECONDS),
    Metric("cm_batch_tokens", "histogram", "Real tokens of one batch", ("model",), _TOKENS),
    Metric("cm_batch_fill", "histogram", "Tokens of a batch over its budget", ("model",), _FILLS),
    Metric("cm_queued_texts", "gauge", "Texts admitted and not yet computing", ("model",)),
    Metric("cm_dropped_texts", "counter", "Texts whose client left before they were computed", ("model",)),
    PROXY_REFUSALS,
)


def drop(name: str, value: float, tags: dict[str, str]) -> None:
    """Record nothing."""


def of_model(record: Record, model_id: str) -> Record:
    """Return a recorder that adds the tag ``model``."""
    return lambda name, value, tags: record(name, value, {**tags, "model": model_id})


@dataclass(slots=True)
class Tally:
    """Counts of one request, for its audit line."""

    key: str | None = None
    """Name of the request's key."""
    num_texts: int = 0
    num_tokens: int = 0
    model: str | None = None
    """Id of the model that answers; None until it is chosen."""
    allowed_models: tuple[str, ...] | None = None
    """Models that the request's key may use, as its line names them; None: all."""
    received: float | None = None
    """When the whole body was there, on the clock of ``time.perf_counter``."""
    cause: str | None = None
    """Code of the refusal, if the request was refused."""
    ignored: set[str] = field(default_factory=set)
    """Fields of the body that were ignored, for a header of the answer; all are names that this package lists."""


TALLY: ContextVar[Tally] = ContextVar("tally")
