"""Bodies of the routes that TEI's and Hugging Face's clients know: /embed, /embed_all, /similarity, /tokenize, /fill-mask.

Their answers are bare lists, so a cut text cannot be marked in the body: the header ``x-truncated`` counts them.
"""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from clinical_modernbert.serving.schemas import EmbeddingInput, Schema

Texts = str | list[str]


def _no_prompt(given: object) -> object:
    if given is not None:
        raise PydanticCustomError("no_prompts", "prompt_name must be null: the model was trained without prompts")
    return given


NoPrompt = Annotated[None, BeforeValidator(_no_prompt)]
"""TEI's ``prompt_name``, which its clients may send as null."""


class EmbedRequest(Schema):
    """Body of ``POST /embed`` and ``POST /embed_all``."""

    inputs: EmbeddingInput = Field(examples=[["chest pain radiating to the left arm"]])
    """One text or a list; strings or the token ids of this model's tokenizer."""
    truncate: bool = False
    """Cut texts that are too long; otherwise they are refused."""
    truncation_direction: Literal["Right", "Left", "right", "left"] = "Right"
    """The end that is cut."""
    normalize: bool | None = None
    """Scale vectors to unit length; absent: as the endpoint's recipe says. Without effect on ``/embed_all``."""
    dimensions: Annotated[int, Field(ge=1)] | None = None
    """Width of the returned vectors, cut before they are scaled."""
    prompt_name: NoPrompt = None
    """Accepted where null."""


class SimilarityInputs(Schema):
    """One text and those that it is compared with."""

    source_sentence: str
    sentences: list[str]


class SimilarityParameters(Schema):
    """How the texts are read."""

    truncate: bool = False
    truncation_direction: Literal["Right", "Left", "right", "left"] = "Right"
    prompt_name: NoPrompt = None
    """Accepted where null."""


class SimilarityRequest(Schema):
    """Body of ``POST /similarity``; the answer is the cosine of each sentence with the source."""

    inputs: SimilarityInputs = Field(
        examples=[{"source_sentence": "short of breath", "sentences": ["dyspnoea", "ankle sprain"]}]
    )
    parameters: SimilarityParameters = SimilarityParameters()


class TokenizeRequest(Schema):
    """Body of ``POST /tokenize``."""

    inputs: Texts = Field(examples=["warfarin 5 mg daily"])
    add_special_tokens: bool = True
    prompt_name: NoPrompt = None
    """Accepted where null."""


class Token(Schema):
    """One token; ``start`` and ``stop`` count characters and are absent for special tokens."""

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


class FillMaskParameters(Schema):
    """What to answer for each mask."""

    top_k: Annotated[int, Field(ge=1, le=1000)] = 5
    targets: Annotated[list[str], Field(min_length=1)] | None = None
    """Choose among these; each must be a single token of the vocabulary."""


class FillMaskRequest(Schema):
    """Body of ``POST /fill-mask``."""

    inputs: Texts = Field(examples=["warfarin 5 [MASK] daily"])
    """Text, or a list, with the model's mask token at least once in each."""
    parameters: FillMaskParameters = FillMaskParameters()


class FillMaskAnswer(Schema):
    """One likely token of one mask, in the form of Hugging Face's fill-mask pipeline."""

    score: float
    token: int
    token_str: str
    sequence: str
