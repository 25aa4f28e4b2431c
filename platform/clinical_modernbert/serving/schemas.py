"""Bodies that more than one route shares: the base classes, the forms of input, and the shape of refusals (OpenAI's).

Unknown fields are refused: a misspelt ``dimensions`` would otherwise give vectors of another width and no hint why. Fields that
other servers define are ignored, and the answer names them.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from clinical_modernbert.serving.metrics import TALLY, Tally

IGNORED_FIELDS = frozenset(
    {"input_type", "modality", "options", "priority", "request_id", "truncate_prompt_tokens", "user"}
)
"""Fields of other servers' bodies that every body may have and that change nothing here.

``user`` is OpenAI's, ``options`` Hugging Face's, ``input_type`` NIM's and Cohere's, ``modality`` infinity's. The others are
vLLM's.
"""


@dataclass(frozen=True, slots=True)
class Form:
    """What a refusal says that a field must be, where the field takes several forms."""

    text: str


TokenIds = Annotated[list[int], Field(fail_fast=True)]
EmbeddingInput = Annotated[
    str | Annotated[list[str], Field(fail_fast=True)] | TokenIds | Annotated[list[TokenIds], Field(fail_fast=True)],
    Form("a string, a list of strings, a list of token ids, or a list of lists of token ids"),
]
Texts = Annotated[str | list[str], Form("a string or a list of strings")]
TruncationDirection = Literal["Right", "Left", "right", "left"]


class Schema(BaseModel):
    """Base of every body: frozen, strict, without unknown fields; validation messages do not repeat the input."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, hide_input_in_errors=True
    )


class Body(Schema):
    """Base of what clients send: null means absent in every optional field, and fields of other servers are ignored."""

    @model_validator(mode="before")
    @classmethod
    def _without_null_and_ignored(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        (TALLY.get(None) or Tally()).ignored.update(IGNORED_FIELDS & values.keys() - cls.model_fields.keys())
        optional = {name for name, field in cls.model_fields.items() if not field.is_required()}
        return {
            name: value
            for name, value in values.items()
            if not (name in IGNORED_FIELDS and name not in cls.model_fields)
            and not (value is None and name in optional)
        }

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Describe that optional fields may be null."""
        document = handler(schema)
        fields = handler.resolve_ref_schema(document).get("properties", {})
        for name, field in cls.model_fields.items():
            described = fields.get(name)
            if described is None or field.is_required() or {"type": "null"} in described.get("anyOf", [described]):
                continue
            about = {key: described.pop(key) for key in ("title", "description", "default") if key in described}
            fields[name] = {**about, "anyOf": [described, {"type": "null"}]}
        return document


class ErrorDetail(Schema):
    """What is wrong and what would be right; never any part of the request's text."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorBody(Schema):
    """Answer of every refused request."""

    error: ErrorDetail
