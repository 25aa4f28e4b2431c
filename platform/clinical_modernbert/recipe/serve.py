"""What an endpoint serves and the limits it keeps."""

from typing import Annotated, Literal

from pydantic import Field

from clinical_modernbert.recipe.section import ModelReference, Recipe, Section


class ServeScaling(Section):
    """How wide the endpoint runs."""

    num_replicas: int = Field(default=1, ge=1)
    """Replicas of the encoder."""
    cpus_per_replica: float = Field(default=1, gt=0)
    """CPUs reserved for each replica."""
    num_threads: int = Field(default=1, ge=1)
    """Compute threads of one replica."""


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
    """Texts that may wait in one replica before it answers 429."""


class ServeRecipe(Recipe):
    """An encoder endpoint: one model, its pooling and its limits."""

    kind: Literal["serve"] = "serve"
    model: ModelReference
    """The model to serve."""
    pooling: Literal["cls", "mean"] = "cls"
    """How token vectors become one vector."""
    normalize: bool = True
    """Scale vectors to unit length, as OpenAI's endpoint does."""
    limits: ServeLimits = ServeLimits()
    scaling: ServeScaling = ServeScaling()
