"""What an endpoint serves and the limits it keeps."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from clinical_modernbert.recipe.section import ModelReference, Recipe, Section


class ServeScaling(Section):
    """How wide the endpoint runs."""

    num_replicas: int = Field(default=1, ge=1)
    """Replicas of the encoder; with ``max_replicas`` the least."""
    max_replicas: int | None = Field(default=None, ge=1)
    """The most replicas that Ray Serve may start as requests queue; None keeps their number fixed."""
    target_requests: float = Field(default=32, gt=0)
    """Requests, waiting and computing, that autoscaling aims at for each replica."""
    upscale_delay_s: float = Field(default=15, ge=0)
    """Seconds of too many requests before a replica is added."""
    downscale_delay_s: float = Field(default=600, ge=0)
    """Seconds of too few before one is drained and taken away."""
    cpus_per_replica: float = Field(default=1, gt=0)
    """CPUs reserved for each replica."""
    num_threads: int = Field(default=1, ge=1)
    """Compute threads of one replica."""

    @model_validator(mode="after")
    def _bounds_in_order(self) -> "ServeScaling":
        if self.max_replicas is not None and self.max_replicas < self.num_replicas:
            raise ValueError(f"max_replicas={self.max_replicas} is less than num_replicas={self.num_replicas}")
        return self


class ServeLimits(Section):
    """What one request, and one batch, may hold."""

    max_texts: Annotated[int, Field(ge=1)] = 256
    """Texts in one request."""
    max_characters: Annotated[int, Field(ge=1)] = 200_000
    """Characters in one text."""
    max_tokens: Annotated[int, Field(ge=8)] = 8192
    """Tokens of one text; longer texts are refused unless the request asks to truncate."""
    max_batch_tokens: Annotated[int, Field(ge=8)] = 16_384
    """Tokens in one forward pass: the token budget."""
    max_queued_texts: Annotated[int, Field(ge=1)] = 2048
    """Texts that may wait in one replica before it answers 429; fewer where they would compute beyond ``request_timeout_s``."""
    max_requests: Annotated[int, Field(ge=1)] = 1024
    """Requests that one replica holds at a time, those being read included. Half as many may wait in Ray Serve's proxy,
    which answers 429 to what comes beyond."""
    max_body_bytes: Annotated[int, Field(ge=1024)] = 16_777_216
    """Bytes of a request's body, counted while it arrives and before it is parsed."""
    body_timeout_s: Annotated[float, Field(gt=0)] = 30
    """Seconds that a body may take to arrive; then 408."""
    request_timeout_s: Annotated[float, Field(gt=0)] = 120
    """Seconds from a whole body to its answer; then 504. A stopping replica waits as long for what it has begun."""

    @model_validator(mode="after")
    def _every_allowed_request_can_be_queued(self) -> "ServeLimits":
        if self.max_texts > self.max_queued_texts:
            raise ValueError(
                f"max_texts={self.max_texts} is more than max_queued_texts={self.max_queued_texts}: a request of that size "
                "would be refused for ever; raise max_queued_texts or lower max_texts"
            )
        return self


class TracingSection(Section):
    """Traces by OpenTelemetry; where they go is the environment's (``OTEL_EXPORTER_OTLP_ENDPOINT``)."""

    enabled: bool = False
    """Trace requests; needs the extra ``trace``."""
    fraction: float = Field(default=1.0, ge=0, le=1)
    """Share of the traces begun here that are kept; a caller's own decision is followed."""


class ServeRecipe(Recipe):
    """An encoder endpoint: one model, its pooling and its limits."""

    kind: Literal["serve"] = "serve"
    model: ModelReference
    """The model to serve."""
    pooling: Literal["cls", "mean"] = "cls"
    """How token vectors become one vector."""
    normalize: bool = True
    """Scale vectors to unit length, as OpenAI's endpoint does."""
    require_keys: bool = False
    """Refuse to start where the environment names no API keys. Keys that it does name are asked for in any case."""
    limits: ServeLimits = ServeLimits()
    tracing: TracingSection = TracingSection()
    scaling: ServeScaling = ServeScaling()
