"""Error analysis of an encoder on a task."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field, model_serializer

from clinical_modernbert.evaluation.report.schema.section import JsonObject, Range, Section


class LabelPair(Section):
    """A confusion: ``examples`` is a mean over seeds."""

    gold: str
    predicted: str
    examples: float


class TypeErrors(Section):
    """F1 of one type of entity, or of one label; ``gold`` is the number of entities or texts that have it."""

    f1: float
    gold: int
    recall: float | None = None
    """Share of the entities that are found with their borders and type; None for labels."""
    recall_overlap: float | None = None
    """Share of the entities that share a word with a prediction of their type."""
    recall_words: float | None = None
    """Share of their words that are in a prediction of any type."""


class DocumentBucket(Section):
    """Documents whose number of words is in one range."""

    words: tuple[int, int]
    documents: int
    f1: float


class Recall(Section):
    """Recall of the entities of one bucket with its 95 % interval; ``gold`` is the number of entities."""

    recall: float
    low: float
    high: float
    gold: int


class LengthBucket(Section):
    """Texts whose number of words is in one range."""

    words: tuple[int, int]
    examples: int
    accuracy: float


class UnknownWordsBucket(Section):
    """Texts by the share of their words that the training split lacks."""

    share: Range
    examples: int
    accuracy: float


class RetrievalFigures(Section):
    """Mean metrics of some queries."""

    queries: int
    ndcg_at_10: Annotated[float, Field(alias="ndcg@10")]
    precision_at_10: Annotated[float, Field(alias="precision@10")]
    recall_at_10: Annotated[float, Field(alias="recall@10")]
    map: float


class QueryBucket(RetrievalFigures):
    """Queries whose number of words is in one range."""

    # In the JSON the range comes before the figures.
    @model_serializer(mode="wrap")
    def _words_first(self, handler: Any) -> JsonObject:
        values: JsonObject = handler(self)
        return {"words": values.pop("words"), **values}

    words: tuple[int, int]


class TextExampleError(Section):
    """A text with a wrong label, of a public data set."""

    text: str
    gold: str
    predicted: str


class EntityExampleError(Section):
    """A missed entity, of a public data set."""

    entity: str
    gold: str
    predicted: str


class ErrorAnalysis(Section):
    """Where the runs of an encoder go wrong, over all seeds. A kind of task fills the fields that apply to it."""

    by_type: dict[str, TypeErrors] | None = None
    by_document_words: list[DocumentBucket] | None = None
    recall_by_words: dict[str, Recall] | None = None
    recall_by_rarity: dict[str, Recall] | None = None
    label_pairs: list[LabelPair] | None = None
    by_length: list[LengthBucket] | None = None
    by_unknown_words: list[UnknownWordsBucket] | None = None
    first_relevant_rank: dict[str, float] | None = None
    """Range of ranks -> queries, mean over seeds."""
    by_query_words: list[QueryBucket] | None = None
    by_relevant_documents: dict[str, RetrievalFigures] | None = None
    examples: Sequence[TextExampleError | EntityExampleError] | None = None
    """From the first seed; only where the data set is public."""
