"""What travels over HTTP: OpenAI's embeddings API, plus ``truncate`` and a page about the served model.

The field names, the base64 form (little-endian float32) and the shape of errors are those of OpenAI's API reference. Unknown
fields are refused: a misspelt ``dimensions`` would otherwise give vectors of another width and no hint why.
"""

import base64
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

TokenIds = Annotated[list[int], Field(fail_fast=True)]
EmbeddingInput = (
    str | Annotated[list[str], Field(fail_fast=True)] | TokenIds | Annotated[list[TokenIds], Field(fail_fast=True)]
)


class Schema(BaseModel):
    """What every body here is: frozen, strict, without unknown fields, and its input in no message."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, hide_input_in_errors=True
    )


class EmbeddingsRequest(Schema):
    """Body of ``POST /v1/embeddings``."""

    input: EmbeddingInput = Field(examples=[["chest pain radiating to the left arm", "no acute distress"]])
    """One text, a list of texts, the token ids of one text, or a list of those.

    Token ids are those of the served model's own tokenizer with its special tokens: they begin with [CLS] and end with [SEP].
    """
    model: str
    """Id of the served model, ``<name>-<fingerprint>``, or its name alone."""
    encoding_format: Literal["float", "base64"] = "float"
    """``float``: a list of numbers; ``base64``: little-endian float32."""
    dimensions: Annotated[int, Field(ge=1)] | None = None
    """Width of the returned vectors: the first so many numbers, scaled to unit length again."""
    user: str | None = None
    """Accepted for OpenAI's clients and neither used nor logged."""
    truncate: bool = False
    """Cut texts that are too long, and mark them in the answer; otherwise they are refused."""
    windows: bool = False
    """Read texts that are too long in windows and average the windows' vectors by their tokens; the answer counts the windows."""


class EmbeddingItem(Schema):
    """The vector of one text."""

    object: Literal["embedding"] = "embedding"
    index: int
    """Position of the text in the request."""
    embedding: list[float] | str
    truncated: bool | None = None
    """True where the text was cut; absent otherwise."""
    windows: int | None = None
    """Windows that the vector is the average of; absent where the text was read whole."""


class Usage(Schema):
    """What the request cost, in tokens, special tokens included."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsResponse(Schema):
    """Answer of ``POST /v1/embeddings``."""

    object: Literal["list"] = "list"
    data: list[EmbeddingItem]
    model: str
    """``<name>-<fingerprint>``, also where the request named the model by its name."""
    usage: Usage


class ModelCard(Schema):
    """One served model."""

    id: str
    object: Literal["model"] = "model"
    created: int
    """Seconds since 1970, UTC."""
    owned_by: str = "clinical-modernbert"


class ModelList(Schema):
    """Answer of ``GET /v1/models``."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


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
    head: Literal["masked-lm", "sequence", "token", "embedding"]
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


def encode_vector(vector_D: NDArray[np.float32], encoding_format: Literal["float", "base64"]) -> list[float] | str:
    """Return one vector as the client asked for it."""
    if encoding_format == "base64":
        return base64.b64encode(vector_D.astype("<f4", copy=False).tobytes()).decode("ascii")
    numbers: list[float] = vector_D.tolist()
    return numbers
