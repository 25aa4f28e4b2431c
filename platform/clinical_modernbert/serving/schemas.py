"""Bodies that more than one route shares: the base class, the forms of input, and the shape of refusals (OpenAI's).

Unknown fields are refused: a misspelt ``dimensions`` would otherwise give vectors of another width and no hint why.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from clinical_modernbert.recipe.heads import HeadKind

TokenIds = Annotated[list[int], Field(fail_fast=True)]
EmbeddingInput = (
    str | Annotated[list[str], Field(fail_fast=True)] | TokenIds | Annotated[list[TokenIds], Field(fail_fast=True)]
)
Texts = str | list[str]
TruncationDirection = Literal["Right", "Left", "right", "left"]


class Schema(BaseModel):
    """Base of every body: frozen, strict, without unknown fields; validation messages do not repeat the input."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, hide_input_in_errors=True
    )


class Health(Schema):
    """Answer of ``GET /health``: a replica answers only once its model is loaded and warm."""

    status: Literal["ok"] = "ok"


class Input(Schema):
    """One thing that the model was made from."""

    name: str
    id: str
    digest: str


class Limits(Schema):
    """What one request may hold."""

    max_texts: int
    max_characters: int
    max_tokens: int
    max_batch_tokens: int
    max_queued_texts: int
    max_requests: int
    max_body_bytes: int
    body_timeout_s: float
    request_timeout_s: float


class EmbeddingType(Schema):
    """How TEI's clients learn the pooling."""

    pooling: str


class ClassifierType(Schema):
    """How TEI's clients learn the labels."""

    id2label: dict[int, str]
    label2id: dict[str, int]


class ModelType(Schema):
    """What TEI's clients call the kind of model: one of the two."""

    embedding: EmbeddingType | None = None
    classifier: ClassifierType | None = None


class Info(Schema):
    """Answer of ``GET /info``: which model this is and where it came from."""

    model: str
    fingerprint: str
    digest: str
    """sha256 over the model's files."""
    format_version: int
    code_version: str
    """Version of this package that made the model."""
    created_at: str
    inputs: list[Input]
    """What the model was trained on, by artifact id and digest: the way back from a vector to its corpus."""
    hidden_size: int
    pooling: str
    normalize: bool
    num_threads: int
    """Threads of one forward pass."""
    limits: Limits
    head: HeadKind
    """What stands on the encoder: ``/fill-mask``, ``/predict`` or ``/token-classify`` answers accordingly.

    ``embedding`` is no head: the model was fine-tuned for its vectors.
    """
    labels: list[str]
    """Labels of a classification head."""
    model_id: str
    """From here on as TEI names it."""
    model_sha: str
    model_dtype: str
    model_type: ModelType
    max_concurrent_requests: int
    max_input_length: int
    max_batch_tokens: int
    max_client_batch_size: int
    auto_truncate: bool = False
    """Texts that are too long are refused unless the request says otherwise."""
    version: str


class ErrorDetail(Schema):
    """What is wrong and what would be right; never any part of the request's text."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorBody(Schema):
    """Answer of every refused request."""

    error: ErrorDetail
