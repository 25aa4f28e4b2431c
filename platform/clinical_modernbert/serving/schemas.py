"""Bodies that more than one route shares: the base class, the forms of input, and the shape of refusals (OpenAI's).

Unknown fields are refused: a misspelt ``dimensions`` would otherwise give vectors of another width and no hint why.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

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


class ErrorDetail(Schema):
    """What is wrong and what would be right; never any part of the request's text."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorBody(Schema):
    """Answer of every refused request."""

    error: ErrorDetail
