"""Bodies of the routes over a classification head: /predict as TEI has it, /token-classify as Hugging Face's pipeline has it."""

from typing import Annotated, Literal

from pydantic import Field

from clinical_modernbert.serving.routes.tei_schemas import Texts
from clinical_modernbert.serving.schemas import Schema


class PredictParameters(Schema):
    """What Hugging Face's client sends beside the text."""

    function_to_apply: Literal["softmax", "sigmoid", "none"] | None = None
    """How outputs become scores; absent: as the model was trained."""
    top_k: Annotated[int, Field(ge=1)] | None = None
    """The best so many labels; absent: all."""


class PredictRequest(Schema):
    """Body of ``POST /predict``."""

    inputs: str | Annotated[list[Annotated[list[str], Field(min_length=1, max_length=1)]], Field(min_length=1)] = Field(
        examples=["Patients were randomised to aspirin or placebo.", [["short of breath"], ["ankle sprain"]]]
    )
    """One text, or a batch as TEI writes it: a list of lists of one text. A flat list is a pair there, and refused here."""
    raw_scores: bool = False
    """Answer the head's outputs instead of probabilities."""
    truncate: bool = False
    """Cut texts that are too long; otherwise they are refused."""
    truncation_direction: Literal["Right", "Left", "right", "left"] = "Right"
    """The end that is cut."""
    parameters: PredictParameters | None = None


class ClassScore(Schema):
    """One label of one text."""

    score: float
    label: str


class TokenClassifyParameters(Schema):
    """How tokens become spans, by the names of Hugging Face's pipeline."""

    aggregation_strategy: Literal["none", "simple", "first", "average", "max"] | None = None
    """``none``: every token; ``simple``: neighbouring tokens; ``first`` (where absent), ``average``, ``max``: whole words."""
    ignore_labels: list[str] | None = None
    """Labels that are left out; ``O`` where absent."""
    stride: None = None
    """Accepted where null: windows do not overlap."""


class TokenClassifyRequest(Schema):
    """Body of ``POST /token-classify``."""

    inputs: Texts = Field(examples=["Started warfarin 5 mg daily for atrial fibrillation."])
    """One text or a list."""
    parameters: TokenClassifyParameters | None = None
    truncate: bool = False
    """Label only what the model reads of a text that is too long; otherwise it is refused."""
    windows: bool = False
    """Read texts that are too long in windows, which see nothing of each other, and label all of them."""


class LabelledSpan(Schema):
    """One span; ``start`` and ``end`` count characters of the text as it was sent."""

    entity_group: str | None = None
    """Class of the span, without B- and I-."""
    entity: str | None = None
    """Label of the token, where every token is answered."""
    score: float
    word: str
    start: int
    end: int
